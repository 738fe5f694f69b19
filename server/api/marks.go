package api

import (
	"context"
	"net/http"
	"time"

	"countersign/store"
	"countersign/termination"
)

// Marked is a handshake that somebody wants to find again.
type Marked struct {
	Handshake string    `json:"handshake"`
	Mark      string    `json:"mark" enum:"star,square,triangle,diamond"`
	Time      time.Time `json:"marked"`
	By        string    `json:"by"`
}

type markBody struct {
	Mark string `json:"mark" enum:"star,square,triangle,diamond"`
}

func (a *API) marks() {
	const tag = "Handshakes"
	register(a, operation{method: http.MethodGet, path: "/marks", summary: "List the marked handshakes, newest first; there are a thousand at most", scope: store.ScopeRead, tag: tag},
		func(ctx context.Context, _ *struct{}) (*list[Marked], error) {
			marked, err := a.options.Store.Marks(ctx)
			if err != nil {
				return nil, err
			}
			var items []Marked
			for _, m := range marked {
				items = append(items, Marked{Handshake: m.Handshake, Mark: string(m.Mark), Time: m.Time, By: m.By})
			}
			return listOf(a.options.Current().Revision, items), nil
		})
	register(a, operation{method: http.MethodPut, path: "/handshakes/{ref}/mark", summary: "Mark a handshake, so that it is found again and kept", scope: store.ScopeOperate, body: smallBody, status: http.StatusNoContent, tag: tag},
		func(ctx context.Context, in *struct {
			Named
			Body markBody
		},
		) (*struct{}, error) {
			_, err := a.options.Store.SetMark(ctx, a.options.Actor(ctx), in.Ref, termination.Mark(in.Body.Mark))
			return nil, err
		})
	register(a, operation{method: http.MethodDelete, path: "/handshakes/{ref}/mark", summary: "Take the mark from a handshake", scope: store.ScopeOperate, status: http.StatusNoContent, tag: tag},
		func(ctx context.Context, in *Named) (*struct{}, error) {
			_, err := a.options.Store.SetMark(ctx, a.options.Actor(ctx), in.Ref, "")
			return nil, err
		})
}
