package api

import (
	"context"
	"net/http"
	"time"

	"countersign/store"
	"countersign/termination"
)

// Registration is an invitation of a client, to register its certificate by a link that works once.
type Registration struct {
	ID          string     `json:"id"`
	Portal      string     `json:"portal" doc:"Endpoint that serves it."`
	Identity    string     `json:"identity" doc:"Name of the client, new or there."`
	Endpoints   []string   `json:"endpoints" doc:"Of a new client."`
	CA          string     `json:"ca,omitempty" doc:"Local CA that signs a request (CSR)."`
	State       string     `json:"state" enum:"open,used,expired"`
	Created     time.Time  `json:"created"`
	By          string     `json:"by"`
	Expires     time.Time  `json:"expires"`
	Used        *time.Time `json:"used,omitempty"`
	Fingerprint string     `json:"fingerprint,omitempty" doc:"SHA-256 of what was registered."`
	Link        string     `json:"link,omitempty" doc:"In the answer to its making alone."`
}

func registrationOf(r store.Registration, now time.Time) Registration {
	out := Registration{
		ID: r.ID, Portal: r.Portal, Identity: r.Name, Endpoints: append([]string{}, r.Endpoints...), CA: r.CA, State: "expired",
		Created: r.Created, By: r.By, Expires: r.Expires,
	}
	switch {
	case !r.Used.IsZero():
		out.State, out.Used, out.Fingerprint = "used", &r.Used, r.Fingerprint.String()
	case r.Open(now):
		out.State = "open"
	}
	return out
}

type registrationBody struct {
	Portal    string   `json:"portal" maxLength:"200" doc:"Name or ID of an endpoint whose upstream is portal."`
	Identity  string   `json:"identity,omitempty" maxLength:"200" doc:"Name or ID of a client that is there; it gets one more certificate."`
	Name      string   `json:"name,omitempty" maxLength:"64" doc:"Or the name of a new one."`
	Endpoints []string `json:"endpoints,omitempty" maxItems:"200" doc:"Where a new one may come in."`
	CA        string   `json:"ca,omitempty" maxLength:"64" doc:"Local CA that signs a request (CSR). Absent: requests are not accepted."`
	Expires   string   `json:"expires,omitempty" maxLength:"20" example:"24h" doc:"How long it is good: from 1m to 720h. Absent: 24h."`
}

func (a *API) registrations() {
	const tag = "Clients"
	register(a, operation{method: http.MethodGet, path: "/registrations", summary: "List invitations of clients, newest first", scope: store.ScopeRead, tag: tag},
		func(ctx context.Context, _ *struct{}) (*list[Registration], error) {
			stored, err := a.options.Store.Registrations(ctx)
			if err != nil {
				return nil, err
			}
			var items []Registration
			for _, r := range stored {
				items = append(items, registrationOf(r, a.options.Now()))
			}
			return listOf(a.options.Current().Revision, items), nil
		})
	register(a, operation{method: http.MethodPost, path: "/registrations", summary: "Invite a client to register its certificate", scope: store.ScopeAdmin, body: smallBody, status: http.StatusCreated, tag: tag}, a.inviteClient)
	register(a, operation{method: http.MethodDelete, path: "/registrations/{id}", summary: "Withdraw an invitation of a client", scope: store.ScopeAdmin, status: http.StatusNoContent, tag: tag},
		func(ctx context.Context, in *byID) (*struct{}, error) {
			return nil, a.options.Store.WithdrawRegistration(ctx, a.options.Actor(ctx), in.ID)
		})
}

func (a *API) inviteClient(ctx context.Context, in *struct{ Body registrationBody }) (*one[Registration], error) {
	life := 24 * time.Hour
	if in.Body.Expires != "" {
		var err error
		if life, err = time.ParseDuration(in.Body.Expires); err != nil {
			return nil, termination.ValidationError{{Kind: store.KindRegistration, Field: "expires", Problem: "is no duration", Advice: "write it as in 24h"}}
		}
	}
	made, secret, err := a.options.Store.CreateRegistration(ctx, a.options.Actor(ctx), store.Registration{
		Portal: in.Body.Portal, IdentityID: in.Body.Identity, Name: in.Body.Name, Endpoints: in.Body.Endpoints, CA: in.Body.CA,
	}, life)
	if err != nil {
		return nil, err
	}
	out := registrationOf(made, a.options.Now())
	out.Link = "/i/" + secret
	if e := a.options.Current().Endpoint(made.Portal); e != nil {
		out.Link = e.URL() + out.Link
	}
	return &one[Registration]{out}, nil
}
