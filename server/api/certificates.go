package api

import (
	"context"
	"net/http"
	"time"

	"countersign/store"
	"countersign/termination"
)

// Certificate is a server certificate. Its key never leaves the gateway.
type Certificate struct {
	ID     string   `json:"id"`
	Name   string   `json:"name"`
	Origin string   `json:"origin" enum:"dashboard,file,demo,command"`
	UsedBy []string `json:"used_by" doc:"Names of endpoints."`
	Chain  []X509   `json:"chain" doc:"Leaf first."`
}

type certificateBody struct {
	Name string `json:"name" maxLength:"64"`
	Cert string `json:"cert" maxLength:"262144" doc:"PEM: the leaf, then its intermediates."`
	Key  string `json:"key" maxLength:"65536" doc:"PEM: PKCS#1, PKCS#8 or SEC1, not encrypted. Sealed before it is stored, and never shown again."`
}

func (a *API) certificateOf(config *termination.Config, c *termination.Certificate) Certificate {
	out := Certificate{ID: c.ID, Name: c.Name, Origin: string(c.Origin), UsedBy: []string{}, Chain: []X509{}}
	for _, x := range c.Chain {
		out.Chain = append(out.Chain, describe(x))
	}
	for i := range config.Endpoints {
		for _, name := range config.Endpoints[i].Certificates {
			if name == c.Name {
				out.UsedBy = append(out.UsedBy, config.Endpoints[i].Name)
			}
		}
	}
	return out
}

func (a *API) certificates() {
	const tag = "Certificates"
	register(a, operation{method: http.MethodGet, path: "/certificates", summary: "List server certificates", scope: store.ScopeRead, tag: tag},
		func(context.Context, *struct{}) (*list[Certificate], error) {
			config := a.options.Current()
			var items []Certificate
			for i := range config.Certificates {
				items = append(items, a.certificateOf(config, &config.Certificates[i]))
			}
			return listOf(config.Revision, items), nil
		})
	register(a, operation{method: http.MethodGet, path: "/certificates/{ref}", summary: "Show a server certificate", scope: store.ScopeRead, tag: tag},
		func(_ context.Context, in *Named) (*one[Certificate], error) {
			config := a.options.Current()
			for i := range config.Certificates {
				if c := &config.Certificates[i]; c.ID == in.Ref || c.Name == in.Ref {
					return &one[Certificate]{a.certificateOf(config, c)}, nil
				}
			}
			return nil, store.NotFoundError{Kind: store.KindCertificate, Name: in.Ref}
		})
	register(a, operation{method: http.MethodPost, path: "/certificates", summary: "Add a server certificate with its key", scope: store.ScopeAdmin, body: largeBody, status: http.StatusCreated, tag: tag},
		func(ctx context.Context, in *struct{ Body certificateBody }) (*one[Certificate], error) {
			return a.saveCertificate(ctx, in.Body, "")
		})
	register(a, operation{method: http.MethodPut, path: "/certificates/{ref}", summary: "Replace a server certificate; no connection is dropped", scope: store.ScopeAdmin, body: largeBody, tag: tag},
		func(ctx context.Context, in *struct {
			Named
			Body certificateBody
		},
		) (*one[Certificate], error) {
			return a.saveCertificate(ctx, in.Body, in.Ref)
		})
	register(a, operation{method: http.MethodDelete, path: "/certificates/{ref}", summary: "Delete a server certificate and its key", scope: store.ScopeAdmin, status: http.StatusNoContent, tag: tag},
		func(ctx context.Context, in *Named) (*struct{}, error) {
			_, err := a.options.Change(ctx, func(tx *store.Tx) error { return tx.DeleteCertificate(in.Ref) })
			return nil, err
		})
}

// saveCertificate adds a certificate, or replaces the one that ref names.
func (a *API) saveCertificate(ctx context.Context, body certificateBody, ref string) (*one[Certificate], error) {
	key := []byte(body.Key)
	defer clear(key)
	read, err := termination.ReadServerCertificate([]byte(body.Cert), key, time.Now())
	if err != nil {
		return nil, invalidCertificate(body.Name, err)
	}
	wanted := read.Certificate("", body.Name, termination.OriginDashboard)
	config, err := a.options.Change(ctx, func(tx *store.Tx) error {
		if ref == "" {
			created, err := tx.CreateCertificate(wanted, store.SourceUpload)
			wanted.ID = created.ID
			return err
		}
		before, err := tx.Certificate(ref)
		if err != nil {
			return err
		}
		wanted.ID, wanted.Origin = before.ID, before.Origin
		return tx.UpdateCertificate(wanted)
	})
	if err != nil {
		return nil, err
	}
	return &one[Certificate]{a.certificateOf(config, &wanted)}, nil
}
