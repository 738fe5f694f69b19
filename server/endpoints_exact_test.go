package server

import (
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/gateway"
)

// An agent judges as the edge does, so the page promises the same alerts.
func TestAlertsOfAgents(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*termination.Endpoint)
		says   string
	}{
		"an authority":       {func(*termination.Endpoint) {}, "the exact TLS alert"},
		"not announced":      {func(e *termination.Endpoint) { e.ClientAuth.Announce = false }, "not announced"},
		"hygiene":            {func(e *termination.Endpoint) { e.ClientAuth.Hygiene.Usage = termination.LevelWarn }, "its hygiene is not the default"},
		"a route of its own": {func(e *termination.Endpoint) { e.Routes = []termination.Route{{Path: "/a", ClientAuth: &e.ClientAuth}} }, "routes have policies"},
		"anyone":             {func(e *termination.Endpoint) { e.ClientAuth.Mode = termination.ModeOff }, "Nobody is refused"},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, nil)
			f.withLocalCA(true)
			e := termination.Endpoint{Name: "far", Enabled: true, TerminateAt: termination.AtAgent, ClientAuth: termination.ClientAuth{
				Mode: termination.ModeRequire, Authorities: []string{f.current().LocalCAs[0].Name}, Announce: true, MaxDepth: 4, OnLoss: termination.OnLossClose,
			}}
			c.change(&e)
			if got := exactWords(f.current(), &e, gateway.EndpointStatus{}); !strings.Contains(got, c.says) {
				t.Errorf("the page says %q, want %q", got, c.says)
			}
		})
	}
}
