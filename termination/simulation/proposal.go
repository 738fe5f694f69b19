package simulation

import (
	"reflect"
	"slices"

	"countersign/termination"
)

// Affected returns the IDs of the endpoints whose clients another configuration could treat otherwise. Whom it blocks, and
// who its identities are, counts at every endpoint.
func Affected(current, proposed *termination.Config) []string {
	before, after := newSide(Side{Config: current}), newSide(Side{Config: proposed})
	everywhere := !reflect.DeepEqual(current.Blocked, proposed.Blocked) || !reflect.DeepEqual(current.Identities, proposed.Identities)
	var out []string
	for i := range current.Endpoints {
		e := &current.Endpoints[i]
		if everywhere && e.TerminateAt != termination.AtUpstream || !same(before.endpoint(e.ID), after.endpoint(e.ID)) {
			out = append(out, e.ID)
		}
	}
	return out
}

// same reports whether two endpoints let in the same clients in the same way.
func same(a, b *endpoint) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.Enabled != b.Enabled || a.TerminateAt != b.TerminateAt || a.broken != b.broken || (a.own == nil) != (b.own == nil) || len(a.routes) != len(b.routes) {
		return false
	}
	if a.own == nil {
		return true
	}
	for i := range a.routes {
		if a.Routes[i].Path != b.Routes[i].Path || a.routes[i].Hash() != b.routes[i].Hash() {
			return false
		}
	}
	return a.own.Hash() == b.own.Hash()
}

// ReportOnly returns the configuration in which the policy of an endpoint, and those of its routes, only report, or are
// enforced. The one that is given stays as it is.
func ReportOnly(config *termination.Config, endpointID string, report bool) *termination.Config {
	return with(config, endpointID, func(a *termination.ClientAuth) { a.ReportOnly = report })
}

// Without returns the configuration without an authority, and without what names it.
func Without(config *termination.Config, authority string) *termination.Config {
	next := with(config, "", func(a *termination.ClientAuth) { a.Authorities = without(a.Authorities, authority) })
	next.Defaults.Authorities = without(config.Defaults.Authorities, authority)
	next.Authorities = slices.DeleteFunc(slices.Clone(config.Authorities), func(a termination.Authority) bool { return a.Name == authority })
	return next
}

func without(list []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == name })
}

// with changes every policy of an endpoint, or of all, in a copy.
func with(config *termination.Config, endpointID string, change func(*termination.ClientAuth)) *termination.Config {
	next := *config
	next.Endpoints = slices.Clone(config.Endpoints)
	for i := range next.Endpoints {
		e := &next.Endpoints[i]
		if endpointID != "" && e.ID != endpointID {
			continue
		}
		change(&e.ClientAuth)
		e.Routes = slices.Clone(e.Routes)
		for k := range e.Routes {
			if e.Routes[k].ClientAuth != nil {
				own := *e.Routes[k].ClientAuth
				change(&own)
				e.Routes[k].ClientAuth = &own
			}
		}
	}
	return &next
}
