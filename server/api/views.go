package api

import (
	"context"
	"net/http"
	"time"

	"countersign/store"
)

// SavedView is a filter of the Live page under a name.
type SavedView struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Filter  string    `json:"filter" doc:"As on the Live page; give it as f to search, or to the live stream."`
	Created time.Time `json:"created"`
	By      string    `json:"by"`
}

func savedViewOf(v store.SavedView) SavedView {
	return SavedView{ID: v.ID, Name: v.Name, Filter: v.Filter, Created: v.Created.UTC(), By: v.By}
}

type savedViewBody struct {
	Name   string `json:"name" maxLength:"160"`
	Filter string `json:"filter" maxLength:"1024"`
}

type savedViewChange struct {
	Name   string  `json:"name,omitempty" maxLength:"160" doc:"Left out: as it is."`
	Filter *string `json:"filter,omitempty" maxLength:"1024" doc:"Left out: as it is."`
}

func (a *API) savedViews() {
	const tag = "Handshakes"
	register(a, operation{method: http.MethodGet, path: "/views", summary: "List the saved views", scope: store.ScopeRead, tag: tag},
		func(ctx context.Context, _ *struct{}) (*list[SavedView], error) {
			saved, err := a.options.Store.SavedViews(ctx)
			if err != nil {
				return nil, err
			}
			var items []SavedView
			for _, v := range saved {
				items = append(items, savedViewOf(v))
			}
			return listOf(a.options.Current().Revision, items), nil
		})
	register(a, operation{method: http.MethodPost, path: "/views", summary: "Save a filter under a name", scope: store.ScopeOperate, body: smallBody, status: http.StatusCreated, tag: tag},
		func(ctx context.Context, in *struct{ Body savedViewBody }) (*one[SavedView], error) {
			v, err := a.options.Store.AddSavedView(ctx, a.options.Actor(ctx), in.Body.Name, in.Body.Filter)
			if err != nil {
				return nil, err
			}
			return &one[SavedView]{savedViewOf(v)}, nil
		})
	register(a, operation{method: http.MethodPatch, path: "/views/{ref}", summary: "Rename a saved view, or change its filter", scope: store.ScopeOperate, body: smallBody, tag: tag},
		func(ctx context.Context, in *struct {
			Named
			Body savedViewChange
		},
		) (*one[SavedView], error) {
			v, err := a.options.Store.UpdateSavedView(ctx, a.options.Actor(ctx), in.Ref, in.Body.Name, in.Body.Filter)
			if err != nil {
				return nil, err
			}
			return &one[SavedView]{savedViewOf(v)}, nil
		})
	register(a, operation{method: http.MethodDelete, path: "/views/{ref}", summary: "Remove a saved view", scope: store.ScopeOperate, status: http.StatusNoContent, tag: tag},
		func(ctx context.Context, in *Named) (*struct{}, error) {
			_, err := a.options.Store.RemoveSavedView(ctx, a.options.Actor(ctx), in.Ref)
			return nil, err
		})
}
