package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/server/api"
	"countersign/store"
	"countersign/termination"
	"countersign/views/format"
)

// newOperations builds the operations of the JSON API.
func (s *Server) newOperations() *api.API {
	options := api.Options{
		Store: s.store, Current: s.current, Version: s.opts.Version, Change: s.changeBy,
		Actor: actorIn, Now: s.now, Pulse: s.pulseOf, Prove: s.Prove, Visible: format.JSON, Judge: s.verdicts, CredentialUses: s.credentialUses, Explain: s.explain, BeginExplanation: s.beginExplanation,
		Invite: func(ctx context.Context, ask api.InviteRequest) (api.NewInvitation, error) {
			return s.Invite(ctx, actorIn(ctx), ask)
		},
		Rehearse: func(ctx context.Context, mutate func(*store.Tx) error) (*termination.Config, error) {
			return s.rehearse(ctx, actorIn(ctx), mutate)
		},
		Simulate: func(ctx context.Context, proposed *termination.Config, ids []string, since time.Time) (*api.Simulated, error) {
			r, err := s.simulate(ctx, proposed, ids, since)
			if err != nil {
				return nil, err
			}
			return &api.Simulated{Result: r.Result, Looked: r.looked, Down: r.down, More: r.more}, nil
		},
		Problem: func(_ context.Context, err error) api.Problem { return s.apiProblem(err) },
	}
	if s.opts.Gateway != nil {
		options.Status = s.opts.Gateway.Status
		options.Revocation, options.FetchRevocation = s.opts.Gateway.RevocationStatus, s.opts.Gateway.FetchRevocation
	}
	options.TestNotices = func(ctx context.Context) error {
		if s.opts.Notices == nil {
			return echo.ErrNotFound
		}
		return s.opts.Notices.Test(ctx)
	}
	if s.opts.ACME != nil {
		options.ACME = s.opts.ACME.Status
	}
	return api.New(options)
}

// apiRoutes lists the routes of the JSON API: the operations of package api, and its document.
func (s *Server) apiRoutes() []route {
	operations := s.operations
	list := []route{{
		method: http.MethodGet, path: api.DocumentPath, kind: kindAPI, access: needToken, scope: store.ScopeRead,
		handler: func(c echo.Context) error {
			document, err := operations.Document()
			if err != nil {
				return fmt.Errorf("write the OpenAPI document: %w", err)
			}
			return c.JSONBlob(http.StatusOK, document)
		},
	}}
	for _, o := range operations.Operations() {
		list = append(list, route{
			method: o.Method, path: strings.NewReplacer("{", ":", "}", "").Replace(o.Path),
			kind: kindAPI, access: needToken, scope: o.Scope, body: o.Body,
			handler: func(c echo.Context) error {
				r := c.Request()
				operations.ServeHTTP(c.Response(), r.WithContext(context.WithValue(r.Context(), actorKey{}, actorOf(c))))
				return nil
			},
		})
	}
	return list
}

type actorKey struct{}

// changeBy is [Server.Change] for whoever stands in the context.
func (s *Server) changeBy(ctx context.Context, mutate func(*store.Tx) error) (*termination.Config, error) {
	return s.Change(ctx, actorIn(ctx), mutate)
}

// actorIn is whoever stands in the context.
func actorIn(ctx context.Context) store.Actor {
	actor, _ := ctx.Value(actorKey{}).(store.Actor)
	return actor
}

// apiProblem turns an error of an operation into a problem document, and logs it under an id where it is internal.
func (s *Server) apiProblem(err error) *apiError {
	p := problemOf(err)
	out := &apiError{problem: p, status: p.Status}
	if out.status == 0 {
		out.status = http.StatusInternalServerError
	}
	if out.status >= http.StatusInternalServerError {
		out.id = termination.NewID("err", s.now())
		s.log.Error("a request failed", "id", out.id, "error", err)
	}
	return out
}

// apiError is a [Problem] as package api answers it.
type apiError struct {
	problem *Problem
	status  int
	id      string
}

// Error implements error.
func (e *apiError) Error() string { return e.problem.Title }

// GetStatus is the HTTP status.
func (e *apiError) GetStatus() int { return e.status }

// ContentType is that of problem documents (RFC 9457).
func (e *apiError) ContentType(string) string { return "application/problem+json" }

// MarshalJSON writes the problem document.
func (e *apiError) MarshalJSON() ([]byte, error) {
	return json.Marshal(problemDocument(e.status, e.problem, e.id))
}
