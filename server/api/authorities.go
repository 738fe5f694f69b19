package api

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"time"

	"countersign/store"
	"countersign/termination"
)

// Authority is trust by issuer.
type Authority struct {
	ID           string          `json:"id"`
	Name         string          `json:"name"`
	Origin       string          `json:"origin" enum:"dashboard,file,demo,command" doc:"Where it was declared. What a file declares is read-only here."`
	Certificates []CACertificate `json:"certificates"`
}

// CACertificate is one certificate of an authority.
type CACertificate struct {
	Role string `json:"role" enum:"anchor,helper" doc:"anchor: a chain may end here. helper: completes chains, decides nothing."`
	X509
}

// X509 says what a certificate is.
type X509 struct {
	Fingerprint string    `json:"fingerprint" doc:"SHA-256 of the DER, lower-case hex."`
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	Serial      string    `json:"serial" doc:"Hex."`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	Key         string    `json:"key" doc:"Algorithm and size, as in ECDSA P-256."`
	Usages      []string  `json:"usages"`
	PEM         string    `json:"pem"`
}

func describe(c *x509.Certificate) X509 {
	usages := termination.UsageNames(c)
	if usages == nil {
		usages = []string{}
	}
	return X509{
		Fingerprint: termination.FingerprintOf(c).String(),
		Subject:     termination.NameText(c.Subject), Issuer: termination.NameText(c.Issuer), Serial: c.SerialNumber.Text(16),
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(),
		Key: termination.KeyName(c.PublicKey), Usages: usages,
		PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})),
	}
}

func authorityOf(a *termination.Authority) Authority {
	out := Authority{ID: a.ID, Name: a.Name, Origin: string(a.Origin), Certificates: []CACertificate{}}
	for _, c := range a.Certificates {
		out.Certificates = append(out.Certificates, CACertificate{Role: string(c.Role), X509: describe(c.Certificate)})
	}
	return out
}

// authorityBody is what creating and replacing an authority takes.
type authorityBody struct {
	Name    string `json:"name" maxLength:"64"`
	PEM     string `json:"pem" maxLength:"262144" doc:"CA certificates: roots and intermediates. A private key in it is refused."`
	Anchors string `json:"anchors,omitempty" enum:"roots,all" default:"roots" doc:"all: intermediates may be where a chain ends, too."`
}

func (a *API) authorities() {
	const tag = "Trust"
	register(a, operation{method: http.MethodGet, path: "/authorities", summary: "List authorities", scope: store.ScopeRead, tag: tag},
		func(context.Context, *struct{}) (*list[Authority], error) {
			config := a.options.Current()
			var items []Authority
			for i := range config.Authorities {
				items = append(items, authorityOf(&config.Authorities[i]))
			}
			return listOf(config.Revision, items), nil
		})
	register(a, operation{method: http.MethodGet, path: "/authorities/{ref}", summary: "Show an authority", scope: store.ScopeRead, tag: tag},
		func(_ context.Context, in *Named) (*one[Authority], error) {
			for _, item := range a.options.Current().Authorities {
				if item.ID == in.Ref || item.Name == in.Ref {
					return &one[Authority]{authorityOf(&item)}, nil
				}
			}
			return nil, store.NotFoundError{Kind: store.KindAuthority, Name: in.Ref}
		})
	register(a, operation{method: http.MethodPost, path: "/authorities", summary: "Trust CA certificates under a name", scope: store.ScopeAdmin, body: largeBody, status: http.StatusCreated, tag: tag},
		func(ctx context.Context, in *struct{ Body authorityBody }) (*one[Authority], error) {
			wanted, err := a.readAuthority(in.Body)
			if err != nil {
				return nil, err
			}
			return a.saveAuthority(ctx, func(tx *store.Tx) (string, error) {
				created, err := tx.CreateAuthority(wanted)
				return created.ID, err
			})
		})
	register(a, operation{method: http.MethodPut, path: "/authorities/{ref}", summary: "Replace an authority's name and certificates", scope: store.ScopeAdmin, body: largeBody, tag: tag},
		func(ctx context.Context, in *struct {
			Named
			Body authorityBody
		},
		) (*one[Authority], error) {
			wanted, err := a.readAuthority(in.Body)
			if err != nil {
				return nil, err
			}
			return a.saveAuthority(ctx, func(tx *store.Tx) (string, error) {
				before, err := tx.Authority(in.Ref)
				if err != nil {
					return "", err
				}
				wanted.ID, wanted.Revocation = before.ID, before.Revocation
				return before.ID, tx.UpdateAuthority(wanted)
			})
		})
	register(a, operation{method: http.MethodDelete, path: "/authorities/{ref}", summary: "Stop trusting an authority", scope: store.ScopeAdmin, status: http.StatusNoContent, tag: tag},
		func(ctx context.Context, in *Named) (*struct{}, error) {
			_, err := a.options.Change(ctx, func(tx *store.Tx) error { return tx.DeleteAuthority(in.Ref) })
			return nil, err
		})
}

// readAuthority reads what was sent. Whoever sends it through the API has made up their mind: nothing is asked back,
// and what the dashboard would refuse is refused.
func (a *API) readAuthority(body authorityBody) (termination.Authority, error) {
	out := termination.Authority{Name: body.Name}
	upload, err := termination.ReadUpload([]byte(body.PEM))
	if err != nil {
		return out, termination.ValidationError{{Kind: "authority", Name: body.Name, Field: "pem", Problem: err.Error()}}
	}
	plan := termination.PlanAuthority(upload, termination.PlanOptions{Anchors: termination.AnchorPolicy(body.Anchors), Declared: true, Now: time.Now()})
	var wrong termination.ValidationError
	for _, item := range plan.Items {
		if item.Use == termination.UseRefuse || item.Use == termination.UseAsk {
			wrong = append(wrong, termination.FieldError{Kind: "authority", Name: body.Name, Field: "pem", Problem: item.Title + ": " + item.Message})
		}
	}
	out.Certificates = plan.Certificates()
	if len(out.Certificates) == 0 && len(wrong) == 0 {
		wrong = append(wrong, termination.FieldError{Kind: "authority", Name: body.Name, Field: "pem", Problem: "there is no CA certificate in it that can be used", Advice: "send the certificate of the CA that signs the clients' certificates"})
	}
	if len(wrong) > 0 {
		return out, wrong
	}
	return out, nil
}

func (a *API) saveAuthority(ctx context.Context, save func(*store.Tx) (id string, err error)) (*one[Authority], error) {
	var id string
	config, err := a.options.Change(ctx, func(tx *store.Tx) (err error) {
		id, err = save(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range config.Authorities {
		if config.Authorities[i].ID == id {
			return &one[Authority]{authorityOf(&config.Authorities[i])}, nil
		}
	}
	return nil, store.NotFoundError{Kind: store.KindAuthority, Name: id}
}
