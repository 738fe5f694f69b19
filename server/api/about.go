package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/acme"
	"countersign/termination/gateway"
)

// Status is the gateway as it is right now.
type Status struct {
	Version     string                  `json:"version"`
	Node        string                  `json:"node"`
	Revision    uint64                  `json:"revision"`
	Connections int64                   `json:"connections"`
	HalfOpen    int64                   `json:"half_open" doc:"Connections that have not finished their handshake."`
	TurnedAway  map[gateway.Limit]int64 `json:"turned_away" doc:"How often each limit turned a connection away since the start."`
	ACME        []Obtained              `json:"acme" doc:"Names whose certificates are obtained through ACME."`
}

// Obtained tells how the certificate of one name is doing that is obtained through ACME.
type Obtained struct {
	Name    string     `json:"name"`
	State   string     `json:"state" enum:"obtaining,ok,failed"`
	Error   string     `json:"error,omitempty" doc:"Of the last attempt, in the CA's own words."`
	LastTry *time.Time `json:"last_try,omitempty"`
	NextTry *time.Time `json:"next_try,omitempty" doc:"Of the next attempt, or the renewal."`
	Ends    *time.Time `json:"ends,omitempty" doc:"Of the certificate that is there."`
}

func obtainedOf(s acme.Status) []Obtained {
	out := []Obtained{}
	known := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	for _, n := range s.Names {
		o := Obtained{Name: n.Name, State: string(n.State), Error: n.Error, LastTry: known(n.LastTry), NextTry: known(n.NextTry)}
		if n.Leaf != nil {
			o.Ends = known(n.Leaf.NotAfter)
		}
		out = append(out, o)
	}
	return out
}

func (a *API) about() {
	const tag = "Gateway"
	register(a, operation{method: http.MethodGet, path: "/status", summary: "Show how the gateway is doing", scope: store.ScopeRead, tag: tag},
		func(context.Context, *struct{}) (*one[Status], error) {
			config := a.options.Current()
			out := Status{Version: a.options.Version, Node: config.Node, Revision: config.Revision, TurnedAway: map[gateway.Limit]int64{}}
			if a.options.Status != nil {
				s := a.options.Status()
				out.Revision, out.Connections, out.HalfOpen, out.TurnedAway = s.Revision, s.Connections, s.HalfOpen, s.TurnedAway
			}
			out.ACME = []Obtained{}
			if a.options.ACME != nil {
				out.ACME = obtainedOf(a.options.ACME())
			}
			return &one[Status]{out}, nil
		})
	register(a, operation{method: http.MethodGet, path: "/reasons", summary: "List the reason codes and their meaning", scope: store.ScopeRead, tag: tag},
		func(context.Context, *struct{}) (*list[termination.ReasonInfo], error) {
			return listOf(a.options.Current().Revision, termination.Reasons()), nil
		})
}

// invalidCertificate gives an error about a certificate's content the name that it belongs to.
func invalidCertificate(name string, err error) error {
	var f termination.FieldError
	if errors.As(err, &f) {
		f.Name = name
		return termination.ValidationError{f}
	}
	return termination.ValidationError{{Kind: "certificate", Name: name, Field: "cert", Problem: err.Error()}}
}
