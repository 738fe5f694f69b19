package gateway

import (
	"fmt"
	"testing"
	"time"

	"countersign/termination"
)

func TestRuleHitsAreThoseOfToday(t *testing.T) {
	g := &Gateway{}
	noon := time.Date(2026, 11, 27, 12, 0, 0, 0, time.Local)
	now := noon
	g.now = func() time.Time { return now }
	hit := func(rule string) {
		rec := &termination.Handshake{EndpointID: "ep_a"}
		rec.Verdict.Rule = rule
		g.ruleHits.add(rec, now)
	}
	hit("{allow: any}")
	hit("{allow: any}")
	hit("{refuse: any}")
	hit("")
	proof := &termination.Handshake{EndpointID: "ep_a", Proof: true}
	proof.Verdict.Rule = "{allow: any}"
	g.ruleHits.add(proof, now)
	counts, since := g.RuleHits("ep_a")
	if counts["{allow: any}"] != 2 || counts["{refuse: any}"] != 1 || len(counts) != 2 || !since.Equal(noon) {
		t.Errorf("%v since %s", counts, since)
	}
	if other, _ := g.RuleHits("ep_b"); len(other) != 0 {
		t.Errorf("another endpoint: %v", other)
	}
	now = noon.Add(13 * time.Hour)
	if counts, since := g.RuleHits("ep_a"); len(counts) != 0 || since.Hour() != 0 {
		t.Errorf("after midnight: %v since %s", counts, since)
	}
	for i := range maxRuleHits + 10 {
		hit(fmt.Sprint(i))
	}
	hit("0")
	if counts, _ := g.RuleHits("ep_a"); len(counts) != maxRuleHits || counts["0"] != 2 {
		t.Errorf("%d rules are counted", len(counts))
	}
}
