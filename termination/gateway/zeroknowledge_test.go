package gateway

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// Where TLS ends in the service, there is no terminator, no certificate, no policy and no key: nothing that the gateway
// serves by can lead to a private key.
func TestPassthroughHoldsNoKey(t *testing.T) {
	endpoint := func(at termination.TerminateAt) termination.Endpoint {
		return termination.Endpoint{
			ID: "ep_1", Name: "sealed", Enabled: true, Scheme: termination.SchemeTLS, Host: "sealed.localhost", Listen: netip.MustParseAddr("127.0.0.1"), Port: 1,
			TerminateAt: at, Upstream: termination.Upstream{Scheme: termination.UpstreamTCP, Address: "127.0.0.1:9"},
			ClientAuth: termination.ClientAuth{Mode: termination.ModeOff, OnLoss: termination.OnLossClose},
		}
	}
	server := tlstest.NewCA().Server("sealed.localhost")
	sealed := &termination.Config{Revision: 1, Limits: termination.DefaultLimits(), Endpoints: []termination.Endpoint{endpoint(termination.AtUpstream)}}
	opened := &termination.Config{
		Revision: 1, Limits: termination.DefaultLimits(), Endpoints: []termination.Endpoint{endpoint(termination.AtEdge)},
		Certificates: []termination.Certificate{{Name: "c", Chain: []*x509.Certificate{server.X509}, Key: server.Key}},
	}
	opened.Endpoints[0].Certificates = []string{"c"}
	for name, test := range map[string]struct {
		config *termination.Config
		keys   bool
	}{"sealed": {sealed, false}, "opened, so that the search finds what there is": {opened, true}} {
		g := New(Options{})
		compiled, err := g.compile(test.config, g.table.Load())
		if err != nil {
			t.Fatal(err)
		}
		e := compiled.byID["ep_1"]
		if opens := e.terminator != nil || e.chooser != nil || e.policy != nil; opens != test.keys {
			t.Errorf("%s: the endpoint can open TLS: %v", name, opens)
		}
		if found := holdsKey(reflect.ValueOf(compiled), map[uintptr]bool{}); found != test.keys {
			t.Errorf("%s: a private key can be reached from what the gateway serves by: %v", name, found)
		}
		if err := g.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// holdsKey looks through everything that can be reached from a value for a private key.
func holdsKey(v reflect.Value, seen map[uintptr]bool) bool {
	signer := reflect.TypeFor[crypto.Signer]()
	if !v.IsValid() {
		return false
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Interface, reflect.Slice:
		if v.IsNil() {
			return false
		}
	}
	if v.Type().Implements(signer) && v.Kind() != reflect.Interface || v.Type() == reflect.TypeFor[tls.Certificate]() && v.FieldByName("PrivateKey").IsValid() && !v.FieldByName("PrivateKey").IsNil() {
		return true
	}
	switch v.Kind() {
	case reflect.Pointer:
		if seen[v.Pointer()] {
			return false
		}
		seen[v.Pointer()] = true
		return holdsKey(v.Elem(), seen)
	case reflect.Interface:
		return holdsKey(v.Elem(), seen)
	case reflect.Struct:
		for i := range v.NumField() {
			if holdsKey(v.Field(i), seen) {
				return true
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range min(v.Len(), 1000) {
			if holdsKey(v.Index(i), seen) {
				return true
			}
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			if holdsKey(v.MapIndex(key), seen) {
				return true
			}
		}
	default: // nothing is behind it that could be looked at
	}
	return false
}

// The code on that path cannot open TLS even by mistake: it does not know crypto/tls, and of package terminate no more
// than what an alert means.
func TestPassthroughKnowsNoTLS(t *testing.T) {
	for _, file := range []string{"passthrough.go", "observation.go", "observed.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range parsed.Imports {
			if slices.Contains([]string{`"crypto/tls"`, `"countersign/termination/servercert"`, `"countersign/termination/localca"`}, i.Path.Value) {
				t.Errorf("%s imports %s", file, i.Path.Value)
			}
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "terminate" && s.Sel.Name != "MeaningOfAlert" {
				t.Errorf("%s uses terminate.%s", file, s.Sel.Name)
			}
			if s.Sel.Name == "terminator" || s.Sel.Name == "chooser" {
				t.Errorf("%s touches the %s of an endpoint", file, s.Sel.Name)
			}
			return true
		})
	}
}
