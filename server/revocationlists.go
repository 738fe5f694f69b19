package server

import (
	"context"

	"countersign/store"
	"countersign/termination/revocation"
)

// RevocationLists keeps the revocation lists that a gateway fetches in the store that is current.
func RevocationLists(current func() *store.Store) revocation.Keeper { return revocationLists{current} }

type revocationLists struct{ store func() *store.Store }

// KeptLists implements revocation.Keeper.
func (r revocationLists) KeptLists(ctx context.Context) ([]revocation.Fetched, error) {
	lists, err := r.store().FetchedLists(ctx)
	var out []revocation.Fetched
	for _, l := range lists {
		out = append(out, revocation.Fetched{Authority: l.Authority, URL: l.URL, Body: l.Body, ETag: l.ETag, LastModified: l.LastModified, Checked: l.Checked})
	}
	return out, err
}

// KeepList implements revocation.Keeper.
func (r revocationLists) KeepList(ctx context.Context, f revocation.Fetched) error {
	return r.store().KeepFetchedList(ctx, store.FetchedList{Authority: f.Authority, URL: f.URL, Body: f.Body, ETag: f.ETag, LastModified: f.LastModified, Checked: f.Checked})
}
