package api

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/unlock"
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
	Name        string `json:"name" maxLength:"64"`
	Cert        string `json:"cert" maxLength:"262144" doc:"PEM: the leaf and its intermediates, in any order; or DER, PKCS#7 or PKCS#12 in base64."`
	Key         string `json:"key,omitempty" maxLength:"65536" doc:"PEM: PKCS#1, PKCS#8 or SEC1. Sealed before it is stored, and never shown again. Absent where it is in cert."`
	KeyPassword string `json:"key_password,omitempty" maxLength:"1024" doc:"Passphrase of an encrypted key or of PKCS#12. Used once, and not kept."`
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

// binary returns what stands in base64, as DER does in JSON; text of another kind as it is.
func binary(text string) []byte {
	if der, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text)); err == nil {
		return der
	}
	return []byte(text)
}

// saveCertificate adds a certificate, or replaces the one that ref names.
func (a *API) saveCertificate(ctx context.Context, body certificateBody, ref string) (*one[Certificate], error) {
	key := []byte(body.Key)
	defer clear(key)
	read, err := unlock.ReadServerCertificate(binary(body.Cert), key, body.KeyPassword, time.Now())
	if err != nil {
		return nil, invalidCertificate(body.Name, err)
	}
	read.Complete(a.options.Current().KnownIssuers(), time.Now())
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
