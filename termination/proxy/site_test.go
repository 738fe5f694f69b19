package proxy

import (
	"slices"
	"testing"

	"countersign/termination"
	"countersign/termination/verify"
)

// What an endpoint asks for besides the certificate holds on every path: without a route, and on a route that says nothing.
func TestEveryPathKeepsWhatTheEndpointAlsoAsks(t *testing.T) {
	want := []termination.ProofKind{termination.ProofKind("bearer")}
	e := &termination.Endpoint{
		Name: "a", Scheme: termination.SchemeHTTPS, TerminateAt: termination.AtEdge,
		Also: termination.Also{AllOf: want}, Routes: []termination.Route{{Path: "/route"}},
	}
	s, err := NewSite(&termination.Config{}, e, &verify.Policy{}, verify.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/route", "/route/below"} {
		if got := s.route(path).Also.AllOf; !slices.Equal(got, want) {
			t.Errorf("%s asks for %v", path, got)
		}
	}
}
