package api

import (
	"context"
	"net/http"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/revocation"
)

// crlBody bounds what sets the revocation of an authority: its lists as PEM, in JSON.
const crlBody = 40 << 20

// Revocation is what an authority says about revoked certificates, and how that is doing.
type Revocation struct {
	Mode    string             `json:"revocation" enum:"off,soft,hard" doc:"soft: a certificate that is known to be revoked is refused. hard: without a fresh answer nobody comes in."`
	CRLURLs []string           `json:"crl_urls"`
	OCSPURL string             `json:"ocsp_url"`
	Sources []RevocationSource `json:"sources" doc:"Files, uploads and addresses of revocation lists."`
	Issuers []RevocationIssuer `json:"issuers" doc:"The CAs of the authority."`
}

// RevocationSource is a file, an upload or an address.
type RevocationSource struct {
	Source  string           `json:"source"`
	Fetched bool             `json:"fetched" doc:"From an address."`
	Checked *time.Time       `json:"checked,omitempty" doc:"When the newest list was seen there last."`
	Next    *time.Time       `json:"next,omitempty" doc:"When it is asked next."`
	Problem string           `json:"problem,omitempty" doc:"Why there is no list, or no newer one."`
	Lists   []RevocationList `json:"lists"`
}

// RevocationList is one list.
type RevocationList struct {
	Issuer     string     `json:"issuer"`
	Number     string     `json:"number,omitempty"`
	Entries    int        `json:"entries"`
	Size       int        `json:"size" doc:"Bytes."`
	ThisUpdate time.Time  `json:"this_update"`
	NextUpdate *time.Time `json:"next_update,omitempty"`
	Fresh      bool       `json:"fresh"`
	InForce    bool       `json:"in_force"`
	Problem    string     `json:"problem,omitempty" doc:"Why it is not in force."`
	Scope      string     `json:"scope,omitempty" doc:"Of which certificates it speaks; absent: of all."`
}

// RevocationIssuer is a CA of the authority.
type RevocationIssuer struct {
	Name  string `json:"name"`
	State string `json:"state" enum:"fresh,ended,none" doc:"none: there is no CRL for this issuer."`
}

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func revocationOf(a *termination.Authority, all []revocation.Status) Revocation {
	out := Revocation{
		Mode: string(a.Revocation.Effective()), CRLURLs: append([]string{}, a.Revocation.CRLURLs...), OCSPURL: a.Revocation.OCSPURL,
		Sources: []RevocationSource{}, Issuers: []RevocationIssuer{},
	}
	for _, s := range all {
		if s.Authority != a.Name {
			continue
		}
		for _, from := range s.Sources {
			one := RevocationSource{Source: from.Source, Fetched: from.Fetched, Checked: instant(from.Checked), Next: instant(from.Next), Problem: from.Problem, Lists: []RevocationList{}}
			for _, l := range from.Lists {
				one.Lists = append(one.Lists, RevocationList{
					Issuer: l.Issuer, Number: l.Number, Entries: l.Entries, Size: l.Size, ThisUpdate: l.ThisUpdate.UTC(), NextUpdate: instant(l.NextUpdate),
					Fresh: l.Fresh, InForce: l.InForce, Problem: l.Problem, Scope: l.Scope,
				})
			}
			out.Sources = append(out.Sources, one)
		}
		for _, i := range s.Issuers {
			state := "none"
			switch {
			case i.Fresh:
				state = "fresh"
			case i.Lists > 0:
				state = "ended"
			}
			out.Issuers = append(out.Issuers, RevocationIssuer{Name: i.Name, State: state})
		}
	}
	return out
}

type revocationBody struct {
	Mode    string   `json:"revocation,omitempty" enum:"off,soft,hard" doc:"Absent: soft where there is a source, else off."`
	CRLs    *string  `json:"crls,omitempty" doc:"Revocation lists as PEM. Absent: those that are there stay; empty: there are none."`
	CRLURLs []string `json:"crl_urls,omitempty" maxItems:"64"`
	OCSPURL string   `json:"ocsp_url,omitempty" maxLength:"2048"`
}

func (a *API) revocation() {
	const tag = "Trust"
	register(a, operation{method: http.MethodGet, path: "/authorities/{ref}/revocation", summary: "Tell what an authority says about revoked certificates", scope: store.ScopeRead, tag: tag},
		func(_ context.Context, in *Named) (*one[Revocation], error) { return a.revocationNow(in.Ref) })
	register(a, operation{method: http.MethodPut, path: "/authorities/{ref}/revocation", summary: "Set where an authority tells of revoked certificates", scope: store.ScopeAdmin, body: crlBody, tag: tag},
		func(ctx context.Context, in *struct {
			Named
			Body revocationBody
		},
		) (*one[Revocation], error) {
			var lists []termination.CRL
			if in.Body.CRLs != nil && *in.Body.CRLs != "" {
				read, err := termination.ReadCRLs([]byte(*in.Body.CRLs))
				if err != nil {
					return nil, termination.ValidationError{{Kind: "authority", Name: in.Ref, Field: "crls", Problem: err.Error(), Advice: "send revocation lists as PEM"}}
				}
				for _, l := range read {
					lists = append(lists, termination.CRL{DER: l.Raw, Source: "upload"})
				}
			}
			_, err := a.options.Change(ctx, func(tx *store.Tx) error {
				found, err := tx.Authority(in.Ref)
				if err != nil {
					return err
				}
				found.Revocation.Mode = termination.RevocationMode(in.Body.Mode)
				found.Revocation.CRLURLs, found.Revocation.OCSPURL = in.Body.CRLURLs, in.Body.OCSPURL
				if in.Body.CRLs != nil {
					found.Revocation.CRLs = lists
				}
				return tx.UpdateAuthority(found)
			})
			if err != nil {
				return nil, err
			}
			return a.revocationNow(in.Ref)
		})
	register(a, operation{method: http.MethodPost, path: "/authorities/{ref}/revocation/fetch", summary: "Fetch an authority's revocation lists now", scope: store.ScopeOperate, status: http.StatusAccepted, tag: tag},
		func(_ context.Context, in *Named) (*one[Revocation], error) {
			if found := a.findAuthority(in.Ref); found != nil && a.options.FetchRevocation != nil {
				a.options.FetchRevocation(found.Name)
			}
			return a.revocationNow(in.Ref)
		})
}

func (a *API) findAuthority(ref string) *termination.Authority {
	config := a.options.Current()
	for i := range config.Authorities {
		if item := &config.Authorities[i]; item.ID == ref || item.Name == ref {
			return item
		}
	}
	return nil
}

func (a *API) revocationNow(ref string) (*one[Revocation], error) {
	found := a.findAuthority(ref)
	if found == nil {
		return nil, store.NotFoundError{Kind: store.KindAuthority, Name: ref}
	}
	var all []revocation.Status
	if a.options.Revocation != nil {
		all = a.options.Revocation()
	}
	return &one[Revocation]{revocationOf(found, all)}, nil
}
