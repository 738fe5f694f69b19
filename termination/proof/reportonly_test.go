package proof_test

import (
	"testing"

	"countersign/termination"
	"countersign/termination/proof"
)

// Of a policy that only reports is shown that everyone comes in, and that the records say who would not.
func TestProofOfReportOnly(t *testing.T) {
	w := newWorld(t)
	w.endpoint("a", func(e *termination.Endpoint) {
		e.ClientAuth.Mode, e.ClientAuth.Authorities, e.ClientAuth.ReportOnly = termination.ModeRequire, []string{w.config.Authorities[0].Name}, true
	})
	w.apply()
	r := w.prove("a", nil)
	if r.Result != proof.Holds {
		t.Errorf("%s:\n%s", r.Result, results(r))
	}
	for _, try := range []proof.Try{proof.TryTrusted, proof.TryNone, proof.TryStranger, proof.TryExpired} {
		l := lineOf(t, r, try)
		if weak := try != proof.TryTrusted; l.Result != proof.Holds || l.Happened != "let in" || l.Weak != weak {
			t.Errorf("%s: %+v", try, l)
		}
	}
}
