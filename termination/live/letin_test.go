package live

import (
	"testing"
	"testing/synctest"
	"time"

	"countersign/termination"
	"countersign/termination/live/livetest"
)

// TestFirstTimeLetIn: a certificate is new once, when it is let in as verified and was not known from before.
func TestFirstTimeLetIn(t *testing.T) { synctest.Test(t, firstTimeLetIn) }

func firstTimeLetIn(t *testing.T) {
	known := livetest.Handshake(1, time.Now()).Client.Fingerprint
	var k kept
	b := New(Options{Sink: k.store, LetIn: []termination.Fingerprint{known}})
	publish := func(n int, change func(*termination.Handshake)) *termination.Handshake {
		h := livetest.Handshake(n, time.Now())
		if change != nil {
			change(h)
		}
		b.Publish(h)
		return h
	}
	open := func(h *termination.Handshake) { h.Verdict.Outcome = termination.OutcomeOpen }
	cases := []struct {
		h    *termination.Handshake
		want bool
	}{
		{publish(0, func(h *termination.Handshake) { h.Client.Fingerprint = known }), false},
		{publish(28, nil), false}, // client 8, refused
		{publish(28, open), false},
		{publish(28, func(h *termination.Handshake) { h.Verdict.Outcome, h.Proof = termination.OutcomeVerified, true }), false},
		{publish(2, nil), true},
		{publish(2, nil), false},
		{publish(3, func(h *termination.Handshake) { h.Client.Fingerprint = termination.Fingerprint{} }), false},
	}
	w := watch(t, b, "is:new", 0)
	pass(time.Second)
	got := events(w.seen())
	mustClose(t, b)
	if len(got) != 1 || got[0].New != 1 || got[0].Client != "client-2" {
		t.Errorf("live, is:new shows %+v", got)
	}
	for i, c := range cases {
		if c.h.New != c.want {
			t.Errorf("case %d: new %v, want %v", i, c.h.New, c.want)
		}
	}
}

func TestNoneIsNewWhereNothingIsKnown(t *testing.T) {
	h := livetest.Handshake(2, time.Now())
	if newLetIn(nil).first(h) {
		t.Error("a hub that does not know who came before calls a client new")
	}
	full := newLetIn([]termination.Fingerprint{})
	for i := range MaxLetIn {
		full[termination.Fingerprint{byte(i), byte(i >> 8), byte(i >> 16), 1}] = struct{}{}
	}
	if full.first(h) || len(full) != MaxLetIn {
		t.Error("a full memory calls a client new, or grows")
	}
}
