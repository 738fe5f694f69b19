package api

import (
	"context"
	"net/http"

	"countersign/store"
	"countersign/termination/proof"
)

// proofs are the operations that prove policies.
func (a *API) proofs() {
	register(a, operation{method: http.MethodPost, path: "/endpoints/{ref}/proof", summary: "Prove an endpoint's policy with real handshakes", scope: store.ScopeOperate, tag: "Endpoints"},
		func(ctx context.Context, in *Named) (*one[proof.Report], error) {
			report, err := a.options.Prove(ctx, in.Ref)
			if err != nil {
				return nil, err
			}
			return &one[proof.Report]{*report}, nil
		})
}
