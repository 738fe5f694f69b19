package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"countersign/store"
	"countersign/termination"
)

// Identity is a named client.
type Identity struct {
	ID           string              `json:"id"`
	Name         string              `json:"name"`
	Origin       string              `json:"origin" enum:"dashboard,file,demo,command" doc:"Where it was declared. What a file declares is read-only here."`
	Pins         []string            `json:"pins" doc:"SHA-256 of certificates, or spki: and that of keys."`
	Match        []map[string]string `json:"match" doc:"Names in its certificate, each with its authority."`
	Endpoints    []string            `json:"endpoints" doc:"Where it may come in, and nowhere else. Empty: it is only a name."`
	Rate         string              `json:"rate,omitempty" doc:"As in 50/s, 100/m, 1000/h or 10000/d. Absent: no bound."`
	Burst        int                 `json:"burst,omitempty"`
	Blocked      bool                `json:"blocked"`
	Certificates []X509              `json:"certificates" doc:"Those of the pins that were registered."`
	LastSeen     *time.Time          `json:"last_seen,omitempty"`
	LastEndpoint string              `json:"last_endpoint,omitempty"`
	LastAddress  string              `json:"last_address,omitempty"`
	Days         []IdentityDay       `json:"days,omitempty" doc:"The last thirty, in the answer about one identity."`
}

// IdentityDay is how often an identity came in on one day (UTC).
type IdentityDay struct {
	Day        string `json:"day" format:"date"`
	Handshakes int64  `json:"handshakes"`
	Requests   int64  `json:"requests"`
}

func identityOf(i *termination.Identity, last store.IdentitySighting) Identity {
	out := Identity{
		ID: i.ID, Name: i.Name, Origin: string(i.Origin), Pins: []string{}, Match: []map[string]string{}, Endpoints: append([]string{}, i.Endpoints...),
		Rate: i.Rate.String(), Burst: i.Rate.Burst, Blocked: i.Blocked, Certificates: []X509{}, LastEndpoint: last.Endpoint, LastAddress: last.Address,
	}
	for _, pin := range i.Pins {
		out.Pins = append(out.Pins, pin.String())
	}
	for _, m := range i.Matches {
		out.Match = append(out.Match, m.Words())
	}
	for _, c := range i.Certificates {
		out.Certificates = append(out.Certificates, describe(c))
	}
	if !last.Last.IsZero() {
		out.LastSeen = &last.Last
	}
	return out
}

// identityBody is what creating and replacing an identity takes.
type identityBody struct {
	Name        string              `json:"name" maxLength:"64"`
	Certificate string              `json:"certificate,omitempty" maxLength:"262144" doc:"PEM of a certificate to register, with its CA certificates if you like. A private key in it is refused."`
	Pins        []string            `json:"pins,omitempty" maxItems:"100"`
	Match       []map[string]string `json:"match,omitempty" maxItems:"100"`
	Endpoints   []string            `json:"endpoints,omitempty" maxItems:"200"`
	Rate        string              `json:"rate,omitempty" maxLength:"40" example:"50/s"`
	Burst       int                 `json:"burst,omitempty" minimum:"0"`
	Blocked     bool                `json:"blocked,omitempty"`
}

type clientCertificateBody struct {
	Certificate string `json:"certificate" maxLength:"262144" doc:"PEM. A private key in it is refused."`
}

type identitiesInput struct {
	Query string `query:"q" maxLength:"200" doc:"Part of a name, an endpoint, or the beginning of a fingerprint."`
	After string `query:"after" maxLength:"64" doc:"Name of the last identity of the page before."`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"200"`
}

type pinInput struct {
	Named
	Pin string `path:"pin" maxLength:"80"`
}

func (a *API) identities() {
	const tag = "Clients"
	register(a, operation{method: http.MethodGet, path: "/identities", summary: "List identities, by name", scope: store.ScopeRead, tag: tag}, a.listIdentities)
	register(a, operation{method: http.MethodGet, path: "/identities/{ref}", summary: "Show an identity, with its counts by day", scope: store.ScopeRead, tag: tag}, a.showIdentity)
	register(a, operation{method: http.MethodPost, path: "/identities", summary: "Register a client under a name", scope: store.ScopeAdmin, body: largeBody, status: http.StatusCreated, tag: tag},
		func(ctx context.Context, in *struct{ Body identityBody }) (*one[Identity], error) {
			var wanted termination.Identity
			if err := a.readIdentity(in.Body, &wanted); err != nil {
				return nil, err
			}
			return a.saveIdentity(ctx, func(tx *store.Tx) (string, error) {
				made, err := tx.CreateIdentity(wanted)
				return made.ID, err
			})
		})
	register(a, operation{method: http.MethodPut, path: "/identities/{ref}", summary: "Replace an identity; certificates whose pins stay are kept", scope: store.ScopeAdmin, body: largeBody, tag: tag},
		func(ctx context.Context, in *struct {
			Named
			Body identityBody
		},
		) (*one[Identity], error) {
			return a.changeIdentity(ctx, in.Ref, func(i *termination.Identity) error {
				known, issuers := i.Certificates, i.Issuers
				*i = termination.Identity{ID: i.ID, Issuers: issuers}
				if err := a.readIdentity(in.Body, i); err != nil {
					return err
				}
				for _, c := range known {
					pin := termination.Pin{Fingerprint: termination.FingerprintOf(c)}
					if slices.Contains(i.Pins, pin) && i.Certificate(pin) == nil {
						i.Certificates = append(i.Certificates, c)
					}
				}
				return nil
			})
		})
	register(a, operation{method: http.MethodDelete, path: "/identities/{ref}", summary: "Forget an identity", scope: store.ScopeAdmin, status: http.StatusNoContent, tag: tag},
		func(ctx context.Context, in *Named) (*struct{}, error) {
			_, err := a.options.Change(ctx, func(tx *store.Tx) error { return tx.DeleteIdentity(in.Ref) })
			return nil, err
		})
	register(a, operation{method: http.MethodPost, path: "/identities/{ref}/certificates", summary: "Add a certificate, as to change certificates without a gap", scope: store.ScopeAdmin, body: largeBody, tag: tag},
		func(ctx context.Context, in *struct {
			Named
			Body clientCertificateBody
		},
		) (*one[Identity], error) {
			return a.changeIdentity(ctx, in.Ref, func(i *termination.Identity) error { return a.addCertificate(i, in.Body.Certificate) })
		})
	register(a, operation{method: http.MethodDelete, path: "/identities/{ref}/certificates/{pin}", summary: "Remove a certificate or a pin", scope: store.ScopeAdmin, tag: tag},
		func(ctx context.Context, in *pinInput) (*one[Identity], error) {
			return a.changeIdentity(ctx, in.Ref, func(i *termination.Identity) error { return removePin(i, in.Pin) })
		})
	for _, blocked := range []bool{true, false} {
		path, summary, scope := "block", "Refuse a client everywhere, and close its connections", store.ScopeOperate
		if !blocked {
			path, summary, scope = "unblock", "Let a client in again", store.ScopeAdmin
		}
		register(a, operation{method: http.MethodPost, path: "/identities/{ref}/" + path, summary: summary, scope: scope, tag: tag},
			func(ctx context.Context, in *Named) (*one[Identity], error) {
				return a.changeIdentity(ctx, in.Ref, func(i *termination.Identity) error { i.Blocked = blocked; return nil })
			})
	}
}

func (a *API) listIdentities(ctx context.Context, in *identitiesInput) (*list[Identity], error) {
	config := a.options.Current()
	last, err := a.options.Store.LastSightings(ctx)
	if err != nil {
		return nil, err
	}
	var found []*termination.Identity
	for n := range config.Identities {
		if i := &config.Identities[n]; i.Name > in.After && identityFits(i, in.Query) {
			found = append(found, i)
		}
	}
	slices.SortFunc(found, func(x, y *termination.Identity) int { return cmp.Compare(x.Name, y.Name) })
	var items []Identity
	for _, i := range found[:min(len(found), in.Limit)] {
		items = append(items, identityOf(i, last[i.ID]))
	}
	return listOf(config.Revision, items), nil
}

func identityFits(i *termination.Identity, text string) bool {
	text = strings.ToLower(strings.TrimSpace(text))
	digits := strings.ReplaceAll(text, ":", "")
	return text == "" || strings.Contains(strings.ToLower(i.Name), text) ||
		slices.ContainsFunc(i.Endpoints, func(e string) bool { return strings.ToLower(e) == text }) ||
		len(digits) >= 4 && slices.ContainsFunc(i.Pins, func(p termination.Pin) bool { return strings.HasPrefix(p.Fingerprint.String(), digits) })
}

func (a *API) showIdentity(ctx context.Context, in *Named) (*one[Identity], error) {
	config := a.options.Current()
	for n := range config.Identities {
		i := &config.Identities[n]
		if i.ID != in.Ref && i.Name != in.Ref {
			continue
		}
		seen, err := a.options.Store.IdentitySightings(ctx, i.ID)
		if err != nil {
			return nil, err
		}
		var last store.IdentitySighting
		if len(seen) > 0 {
			last = seen[0]
		}
		out := identityOf(i, last)
		days, err := a.options.Store.IdentityDays(ctx, i.ID)
		if err != nil {
			return nil, err
		}
		for _, d := range days {
			out.Days = append(out.Days, IdentityDay{Day: d.Day.Format(time.DateOnly), Handshakes: d.Handshakes, Requests: d.Requests})
		}
		return &one[Identity]{out}, nil
	}
	return nil, store.NotFoundError{Kind: store.KindIdentity, Name: in.Ref}
}

func identityError(name, field string, err error) error {
	return termination.ValidationError{{Kind: store.KindIdentity, Name: name, Field: field, Problem: err.Error()}}
}

// readIdentity reads what was sent into i.
func (a *API) readIdentity(body identityBody, i *termination.Identity) error {
	i.Name, i.Endpoints, i.Blocked = body.Name, body.Endpoints, body.Blocked
	rate, err := termination.ParseRate(body.Rate)
	if err != nil {
		return identityError(body.Name, "rate", err)
	}
	i.Rate = rate
	i.Rate.Burst = body.Burst
	for _, text := range body.Pins {
		pin, err := termination.ParsePin(text)
		if err != nil {
			return identityError(body.Name, "pins", err)
		}
		i.Pins = append(i.Pins, pin)
	}
	for _, words := range body.Match {
		m, err := termination.SubjectOf(words)
		if err != nil {
			return identityError(body.Name, "match", err)
		}
		i.Matches = append(i.Matches, m)
	}
	if body.Certificate == "" {
		return nil
	}
	return a.addCertificate(i, body.Certificate)
}

// addCertificate registers a certificate for i. One that i has by its fingerprint alone gets its certificate.
func (a *API) addCertificate(i *termination.Identity, text string) error {
	config := a.options.Current()
	r, err := termination.ReadRegistration([]byte(text), termination.RegistrationOptions{Now: a.options.Now(), Owner: func(pin termination.Pin) string {
		for n := range config.Identities {
			if other := &config.Identities[n]; slices.Contains(other.Pins, pin) && other.ID != i.ID {
				return other.Name
			}
		}
		return ""
	}})
	if field, ok := err.(termination.FieldError); ok { //nolint:errorlint // as ReadRegistration returns it
		field.Name = i.Name
		return termination.ValidationError{field}
	}
	if err != nil {
		return identityError(i.Name, "certificate", err)
	}
	if !slices.Contains(i.Pins, r.Pin()) {
		i.Pins = append(i.Pins, r.Pin())
	}
	if i.Certificate(r.Pin()) == nil {
		i.Certificates = append(i.Certificates, r.Certificate)
	}
	for _, issuer := range r.Issuers {
		if !slices.ContainsFunc(i.Issuers, issuer.Equal) {
			i.Issuers = append(i.Issuers, issuer)
		}
	}
	return nil
}

func removePin(i *termination.Identity, text string) error {
	pin, err := termination.ParsePin(text)
	if err != nil {
		return identityError(i.Name, "pins", err)
	}
	n := slices.Index(i.Pins, pin)
	if n < 0 {
		return store.NotFoundError{Kind: "pin", Name: text}
	}
	if c := i.Certificate(pin); c != nil {
		i.Certificates = slices.DeleteFunc(i.Certificates, c.Equal)
	}
	i.Pins = slices.Delete(i.Pins, n, n+1)
	return nil
}

func (a *API) changeIdentity(ctx context.Context, ref string, edit func(*termination.Identity) error) (*one[Identity], error) {
	return a.saveIdentity(ctx, func(tx *store.Tx) (string, error) {
		i, err := tx.Identity(ref)
		if err != nil {
			return "", err
		}
		if err := edit(&i); err != nil {
			return "", err
		}
		return i.ID, tx.UpdateIdentity(i)
	})
}

func (a *API) saveIdentity(ctx context.Context, save func(*store.Tx) (id string, err error)) (*one[Identity], error) {
	var id string
	if _, err := a.options.Change(ctx, func(tx *store.Tx) (err error) {
		id, err = save(tx)
		return err
	}); err != nil {
		return nil, err
	}
	return a.showIdentity(ctx, &Named{Ref: id})
}
