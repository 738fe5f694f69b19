package simulation_test

import (
	"slices"
	"testing"

	"countersign/termination"
	"countersign/termination/simulation"
)

func TestAffected(t *testing.T) {
	w := newWorld()
	other := w.config.Endpoints[0]
	other.ID, other.Name, other.ClientAuth = "ep_2", "other", require("strangers")
	sealed := other
	sealed.ID, sealed.Name, sealed.TerminateAt, sealed.ClientAuth = "ep_3", "sealed", termination.AtUpstream, termination.ClientAuth{Mode: termination.ModeOff}
	w.config.Endpoints = append(w.config.Endpoints, other, sealed)
	for name, c := range map[string]struct {
		change func(*termination.Config, *termination.ClientAuth)
		want   []string
	}{
		"nothing":     {func(*termination.Config, *termination.ClientAuth) {}, nil},
		"a mode":      {func(_ *termination.Config, a *termination.ClientAuth) { a.Mode = termination.ModeOptional }, []string{"ep_1"}},
		"what is cut": {func(_ *termination.Config, a *termination.ClientAuth) { a.OnLoss = termination.OnLossLeave }, nil},
		"a route": {func(c *termination.Config, _ *termination.ClientAuth) {
			c.Endpoints[1].Routes = []termination.Route{{Path: "/a", ClientAuth: &termination.ClientAuth{Mode: termination.ModeOff}}}
		}, []string{"ep_2"}},
		"a block": {func(c *termination.Config, _ *termination.ClientAuth) {
			c.Blocked = []termination.Block{{ID: "bl_1", Serial: "1f", Authority: "devices"}}
		}, []string{"ep_1", "ep_2"}},
		"an endpoint":  {func(c *termination.Config, _ *termination.ClientAuth) { c.Endpoints = c.Endpoints[1:] }, []string{"ep_1"}},
		"an authority": {func(c *termination.Config, _ *termination.ClientAuth) { *c = *simulation.Without(c, "strangers") }, []string{"ep_2"}},
		"where it ends": {func(c *termination.Config, _ *termination.ClientAuth) {
			c.Endpoints[2].TerminateAt = termination.AtEdge
		}, []string{"ep_3"}},
	} {
		if got := simulation.Affected(w.config, w.with(c.change)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// What is proposed is a copy: the configuration in force must not be changed.
func TestProposalsAreCopies(t *testing.T) {
	w := newWorld()
	w.config.Endpoints[0].Routes = []termination.Route{{Path: "/a", ClientAuth: &termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"strangers", "devices"}}}}
	w.config.Defaults.Authorities = []string{"strangers"}
	report, gone := simulation.ReportOnly(w.config, "ep_1", true), simulation.Without(w.config, "strangers")
	e := &w.config.Endpoints[0]
	if e.ClientAuth.ReportOnly || e.Routes[0].ClientAuth.ReportOnly || len(e.Routes[0].ClientAuth.Authorities) != 2 || len(w.config.Authorities) != 2 || len(w.config.Defaults.Authorities) != 1 {
		t.Errorf("the configuration in force was changed: %+v", w.config)
	}
	if r := &report.Endpoints[0]; !r.ClientAuth.ReportOnly || !r.Routes[0].ClientAuth.ReportOnly {
		t.Errorf("not proposed: %+v", r)
	}
	if len(gone.Authorities) != 1 || len(gone.Defaults.Authorities) != 0 || !slices.Equal(gone.Endpoints[0].Routes[0].ClientAuth.Authorities, []string{"devices"}) {
		t.Errorf("not gone: %+v", gone)
	}
}
