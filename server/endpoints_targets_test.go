package server

import (
	"testing"
	"time"

	"countersign/termination/gateway"
	"countersign/termination/upstream"
	"countersign/views/format"
	"countersign/views/parts"
)

func TestTargetWarning(t *testing.T) {
	now := time.Date(2026, 11, 27, 15, 0, 0, 0, time.UTC)
	clock := format.Clock{Now: now}
	at := func(minute int) time.Time { return time.Date(2026, 11, 27, 14, minute, 0, 0, time.UTC) }
	well, down := upstream.TargetStatus{Target: "http://a:1", Healthy: true, Since: at(0)}, upstream.TargetStatus{Target: "http://b:1", Since: at(2), LastError: "refused"}
	late := upstream.TargetStatus{Target: "http://c:1", Since: at(9)}
	for _, c := range []struct {
		targets []upstream.TargetStatus
		tone    parts.Tone
		text    string
	}{
		{nil, parts.Plain, ""},
		{[]upstream.TargetStatus{well}, parts.Plain, ""},
		{[]upstream.TargetStatus{down}, parts.Bad, "upstream does not answer since 14:02"},
		{[]upstream.TargetStatus{late, down}, parts.Bad, "upstream does not answer since 14:09"},
		{[]upstream.TargetStatus{well, down}, parts.Warn, "http://b:1 does not answer since 14:02"},
		{[]upstream.TargetStatus{well, down, late}, parts.Warn, "2 of 3 targets do not answer"},
	} {
		if tone, text := targetWarning(clock, c.targets); tone != c.tone || text != c.text {
			t.Errorf("%q, %q; want %q, %q", tone, text, c.tone, c.text)
		}
	}
	lines := targetLines(clock, gateway.EndpointStatus{Upstreams: []upstream.TargetStatus{well, down}})
	if lines[0].State != "no failure seen" || lines[0].Error != "" || lines[1].State != "does not answer since 14:02" || lines[1].Error != "refused" {
		t.Errorf("%+v", lines)
	}
	yesterday := down
	yesterday.Since = at(2).AddDate(0, 0, -1)
	if _, text := targetWarning(clock, []upstream.TargetStatus{yesterday}); text != "upstream does not answer since 26 Nov 14:02" {
		t.Errorf("%q", text)
	}
}
