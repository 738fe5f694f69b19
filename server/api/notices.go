package api

import (
	"context"
	"net/http"
	"time"

	"countersign/store"
)

// Notice is something that somebody should hear of.
type Notice struct {
	ID        string    `json:"id"`
	Time      time.Time `json:"time"`
	Kind      string    `json:"kind" doc:"client_failed, expiry, software_changed or agent_offline."`
	Title     string    `json:"title"`
	Text      string    `json:"text"`
	Path      string    `json:"path" doc:"Of the page in the dashboard."`
	Handshake string    `json:"handshake,omitempty"`
}

const mostNotices = 100

func (a *API) notices() {
	const tag = "Notices"
	register(a, operation{method: http.MethodGet, path: "/notices", summary: "List the last notices, the newest first", scope: store.ScopeRead, tag: tag},
		func(ctx context.Context, in *struct {
			After string `query:"after" maxLength:"64" doc:"Only those after the notice with this ID."`
		},
		) (*list[Notice], error) {
			kept, err := a.options.Store.Notices(ctx, in.After, mostNotices)
			if err != nil {
				return nil, err
			}
			items := []Notice{}
			for _, n := range kept {
				items = append(items, Notice{ID: n.ID, Time: n.Time.UTC(), Kind: string(n.Kind), Title: n.Title, Text: n.Text, Path: n.Href, Handshake: n.Handshake})
			}
			return listOf(a.options.Current().Revision, items), nil
		})
	register(a, operation{method: http.MethodPost, path: "/notices/test", summary: "Post a notice to the webhook now, and tell what became of it", scope: store.ScopeOperate, status: http.StatusNoContent, tag: tag},
		func(ctx context.Context, _ *struct{}) (*struct{}, error) { return nil, a.options.TestNotices(ctx) })
}
