package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"countersign/termination"
)

// The pulse counts what the filter selects, each handshake in its bar, and a client by how its last one ended.
func TestPulse(t *testing.T) {
	s, c := newStore(t)
	start := c.Now().Truncate(time.Minute)
	var all []*termination.Handshake
	for i := range 60 {
		h := handshakeAt(uint64(i+1), start.Add(time.Duration(i)*time.Second))
		h.Client.Full = fmt.Sprint("client-", i%4)
		h.Duration = time.Duration(i+1) * time.Millisecond
		switch {
		case i%4 == 3: // fails every time
			h.Verdict = refusedAt(1, start).Verdict
		case i == 50: // client-2 failed, and came in again
			h.Verdict = refusedAt(1, start).Verdict
		case i == 8:
			h.Verdict = termination.Verdict{Outcome: termination.OutcomePassed, Beat: termination.BeatAgreement}
			h.Chosen = nil
		case i == 20:
			h.Proof = true
		}
		all = append(all, h)
	}
	write(t, s, all...)
	p, err := s.Pulse(context.Background(), PulseQuery{Since: start, Until: start.Add(time.Minute), Step: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var sum PulseStep
	for _, b := range p.Steps {
		sum.Verified, sum.Open, sum.Passed, sum.Failed = sum.Verified+b.Verified, sum.Open+b.Open, sum.Passed+b.Passed, sum.Failed+b.Failed
	}
	if sum.Verified != 42 || sum.Passed != 1 || sum.Failed != 16 || len(p.Steps) != 6 {
		t.Errorf("%d bars with %+v, want 6 with 42 verified, 1 passed through, 16 failed", len(p.Steps), sum)
	}
	if b := p.Steps[5]; b.Failed != 4 || b.Verified != 6 || !b.Time.Equal(start.Add(50*time.Second)) {
		t.Errorf("the last bar is %+v", b)
	}
	if p.Failing != 1 || p.Reasons[termination.ReasonCertExpired] != 16 || p.KeyExchanges != 58 || p.PostQuantum != 58 || !p.Searched.IsZero() {
		t.Errorf("%d failing, reasons %v, %d of %d post-quantum, searched %v", p.Failing, p.Reasons, p.PostQuantum, p.KeyExchanges, p.Searched)
	}
	if p.P50 < 28*time.Millisecond || p.P50 > 33*time.Millisecond || p.P95 < 54*time.Millisecond || p.P95 > 61*time.Millisecond {
		t.Errorf("p50 %v, p95 %v of 1 to 60 ms", p.P50, p.P95)
	}

	f, err := termination.ParseFilter("outcome:verified", c.Now())
	if err != nil {
		t.Fatal(err)
	}
	p, err = s.Pulse(context.Background(), PulseQuery{Filter: f, Since: start.Add(30 * time.Second), Until: start.Add(time.Minute), Step: time.Hour})
	if err != nil || len(p.Steps) != 1 || p.Steps[0].Verified != 21 || p.Steps[0].Failed != 0 || p.Failing != 0 {
		t.Errorf("under a filter: %+v, %v", p.Steps, err)
	}
	if p, err = s.Pulse(context.Background(), PulseQuery{Since: start.Add(time.Hour), Until: start.Add(2 * time.Hour), Step: time.Minute}); err != nil || len(p.Steps) != 60 || p.P50 != 0 {
		t.Errorf("an empty hour has %d bars, p50 %v, %v", len(p.Steps), p.P50, err)
	}
}

// Values are those of records, whatever characters they hold; wildcards of SQL are none.
func TestValuesAndRepeats(t *testing.T) {
	s, c := newStore(t)
	var all []*termination.Handshake
	for i, name := range []string{"checkout", "checkout", "ledger", "100%", `<b>"x"</b>`, ""} {
		h := handshakeAt(uint64(i+1), c.Now())
		h.Client.Name, h.Client.Fingerprint = name, termination.Fingerprint{byte(i / 2)}
		all = append(all, h)
	}
	write(t, s, all...)
	for _, w := range []struct {
		key  termination.FilterKey
		held string
		want string
	}{
		{termination.FilterClient, "", `[{checkout 2} {100% 1} {<b>"x"</b> 1} {ledger 1}]`},
		{termination.FilterClient, "CHECK", `[{checkout 2}]`},
		{termination.FilterClient, "%", `[{100% 1}]`},
		{termination.FilterClient, "_", `[]`},
		{termination.FilterCA, "", `[{Devices CA 6} {devices 6}]`},
		{termination.FilterTLS, "", `[{1.3 6}]`},
		{termination.FilterKX, "", `[{4588 6}]`},
		{termination.FilterIP, "10.2", `[{10.2.0.7 6}]`},
		{termination.FilterSince, "", `[]`},
		{termination.FilterKey("h.id FROM x; --"), "", `[]`},
	} {
		got, err := s.Values(context.Background(), w.key, w.held, 10)
		if err != nil || fmt.Sprint(got) != w.want {
			t.Errorf("values of %s that hold %q: %v, %v; want %s", w.key, w.held, got, err, w.want)
		}
	}
	r, err := s.Repeats(context.Background(), all[1])
	if err != nil || r.Count != 2 || r.JA4 != 3 || !r.First.Equal(all[0].Time) {
		t.Errorf("repeats: %+v, %v; want 2, and 3 clients of the same software", r, err)
	}
}
