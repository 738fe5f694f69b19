package server

import (
	"fmt"

	"countersign/termination/gateway"
	"countersign/termination/upstream"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

// targetLines are the services behind an endpoint, as the page shows them. That one answers is never said: nobody may have
// asked it yet.
func targetLines(clock format.Clock, status gateway.EndpointStatus) []views.TargetLine {
	out := make([]views.TargetLine, 0, len(status.Upstreams))
	for _, t := range status.Upstreams {
		line := views.TargetLine{Target: t.Target, Tone: parts.Plain, State: "no failure seen", Now: "nothing under way"}
		if t.InUse > 0 {
			line.Now = format.Int(int(t.InUse)) + " under way"
		}
		if !t.Healthy {
			line.Tone, line.State = parts.Bad, "does not answer since "+clock.Minute(t.Since)
			line.Error, line.ErrorAt = t.LastError, clock.Exact(t.LastErrorAt)
		}
		out = append(out, line)
	}
	return out
}

// targetWarning is what is to be known about the targets of an endpoint in one line; empty: all is well.
func targetWarning(clock format.Clock, targets []upstream.TargetStatus) (parts.Tone, string) {
	var down []upstream.TargetStatus
	for _, t := range targets {
		if !t.Healthy {
			down = append(down, t)
		}
	}
	switch {
	case len(down) == 0:
		return parts.Plain, ""
	case len(down) == len(targets):
		first := down[0].Since
		for _, t := range down {
			if t.Since.After(first) {
				first = t.Since // since then none does
			}
		}
		return parts.Bad, "upstream does not answer since " + clock.Minute(first)
	case len(down) == 1:
		return parts.Warn, down[0].Target + " does not answer since " + clock.Minute(down[0].Since)
	default:
		return parts.Warn, fmt.Sprintf("%d of %d targets do not answer", len(down), len(targets))
	}
}
