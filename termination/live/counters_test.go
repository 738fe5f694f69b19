package live

import (
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"countersign/termination"
	"countersign/termination/live/livetest"
)

func TestDurationBuckets(t *testing.T) {
	last := uint8(0)
	for d := time.Duration(0); d < 5*time.Minute; d += d/50 + time.Microsecond {
		n := durationBucket(d)
		if n < last || n > last+1 {
			t.Fatalf("%v is in bucket %d, after %d", d, n, last)
		}
		last = n
		if d < 2*time.Minute && (d < bucketStart(n) || d >= bucketStart(n+1)) {
			t.Fatalf("%v is in bucket %d, from %v to %v", d, n, bucketStart(n), bucketStart(n+1))
		}
		if from, to := bucketStart(n), bucketStart(n+1); n > 0 && float64(to-from) > 0.126*float64(from) {
			t.Fatalf("bucket %d is %v wide at %v", n, to-from, from)
		}
	}
	if durationBucket(-1) != 0 || durationBucket(1<<62) != last {
		t.Error("impossible durations leave the buckets")
	}
}

func TestPercentiles(t *testing.T) {
	var c cell
	if c.percentile(0.5) != 0 {
		t.Error("nothing has a median")
	}
	for n := range 1000 { // 1 to 10.99 ms, in an order of no meaning
		d := time.Millisecond + time.Duration(n*617%1000)*10*time.Microsecond
		c.add(&termination.Handshake{Duration: d, Verdict: termination.Verdict{Outcome: termination.OutcomeVerified}})
	}
	c.add(&termination.Handshake{Duration: time.Hour, Verdict: termination.Verdict{Outcome: termination.OutcomeBrokenOff}})
	for share, want := range map[float64]time.Duration{0.5: 6 * time.Millisecond, 0.95: 10500 * time.Microsecond} {
		got := c.percentile(share)
		if diff := (got - want).Abs(); diff > want*3/100 {
			t.Errorf("percentile %v is %v, want %v within 3 %%", share, got, want)
		}
	}
}

func TestCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		defer mustClose(t, b)
		bare := livetest.Handshake(0, time.Now())
		bare.Endpoint, bare.EndpointID, bare.Hello, bare.Chosen, bare.Client = "", "", nil, nil, termination.ClientName{}
		bare.Verdict = termination.Verdict{Outcome: termination.OutcomeBrokenOff, Reason: termination.ReasonNotTLS}
		b.Publish(bare)
		open := livetest.Handshake(0, time.Now())
		open.Verdict = termination.Verdict{Outcome: termination.OutcomeOpen, Reason: termination.ReasonCertExpired}
		b.Publish(open)
		theirs := livetest.Handshake(1, time.Now())
		theirs.Verdict = termination.Verdict{Outcome: termination.OutcomeClientRefused, Reason: termination.ReasonClientRefusedUsCA}
		b.Publish(theirs)
		publishNow(b, 0, 30)

		c := b.Counts(0, AllEndpoints)
		if c.Verified != 21 || c.Open != 1 || c.Passed != 3 || c.Refused != 6 || c.ClientRefused != 1 || c.BrokenOff != 1 {
			t.Errorf("outcomes are %+v", c)
		}
		if c.In() != 25 || c.Failed() != 8 || c.Total() != 33 {
			t.Errorf("sums are %d, %d, %d", c.In(), c.Failed(), c.Total())
		}
		want := map[termination.Reason]uint64{"cert_expired": 3, "cert_missing": 3, "client_refused_us_ca": 1, "not_tls": 1}
		if !maps.Equal(c.Reasons, want) {
			t.Errorf("reasons are %v, want %v", c.Reasons, want)
		}
		if !maps.Equal(c.Notes, map[termination.Reason]uint64{"cert_expired": 1}) {
			t.Errorf("notes are %v", c.Notes)
		}
		if c.KeyExchanges != 29 || c.PostQuantum != 29 {
			t.Errorf("%d of %d key exchanges are post-quantum", c.PostQuantum, c.KeyExchanges)
		}
		if c := b.Counts(0, "ep_1"); c.Total() != 11 {
			t.Errorf("endpoint 1 has %d", c.Total())
		}
		if c := b.Counts(time.Minute, "ep_unknown"); c.Total() != 0 {
			t.Errorf("an endpoint that is not there has %+v", c)
		}
	})
}

func TestPeriods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		defer mustClose(t, b)
		start := time.Now()
		for minute := range 20 { // ten in the first second of each minute
			pass(time.Until(start.Add(time.Duration(minute) * time.Minute).Add(100 * time.Millisecond)))
			publishNow(b, 0, 10)
		}
		pass(time.Second)
		synctest.Wait()
		for period, want := range map[time.Duration]uint64{
			0: 200, time.Second: 0, 2 * time.Second: 10, 2 * time.Minute: 20, 15 * time.Minute: 150, time.Hour: 150,
		} {
			if got := b.Counts(period, AllEndpoints).Total(); got != want {
				t.Errorf("the last %v have %d, want %d", period, got, want)
			}
		}
		series := b.Series(120, AllEndpoints)
		if len(series) != 120 {
			t.Fatalf("%d seconds, want 120", len(series))
		}
		for i, s := range series {
			if s.Time != series[0].Time+int64(i) {
				t.Fatalf("second %d has time %d", i, s.Time)
			}
			if busy := i == 119 || i == 59; busy != (s.OK == 7 && s.Passed == 1 && s.Failed == 2) {
				t.Errorf("second %d is %+v", i, s)
			}
		}
		if got := b.Rate(AllEndpoints); got != 1 {
			t.Errorf("the rate is %v a second, want 1", got)
		}
		if got := b.Series(100000, "ep_0"); len(got) != 900 {
			t.Errorf("%d seconds, want 900", len(got))
		}
		if got := b.Series(-1, "ep_0"); len(got) != 0 {
			t.Errorf("%d seconds, want none", len(got))
		}
		if n := len(b.counters.all.seconds); n > 16 {
			t.Errorf("%d seconds are remembered after 20 minutes", n)
		}
	})
}

func TestCountersOfTheStreamAreThoseOfTheHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{Queue: 64})
		w := watch(t, b, "", 0)
		start := time.Now()
		for n := range 5000 { // too many for the queue
			b.Publish(livetest.Handshake(n, start))
			if n%1000 == 999 {
				pass(700 * time.Millisecond)
			}
		}
		pass(2 * time.Second)
		frames := w.leave()
		late := watchBriefly(t, b, "", 0)
		mustClose(t, b)
		missed, _ := b.missed.totals()
		if missed == 0 {
			t.Fatal("the test did not fill the queue")
		}
		for name, all := range map[string][]Stats{"live": stats(frames), "past": late[0].Past} {
			var sum Stats
			reasons := map[termination.Reason]uint64{}
			for i, st := range all {
				sum.OK += st.OK
				sum.Passed += st.Passed
				sum.Failed += st.Failed
				for r, n := range st.By {
					reasons[r] += n
				}
				if i > 0 && st.Time != all[i-1].Time+1 {
					t.Errorf("%s: second %d follows %d", name, st.Time, all[i-1].Time)
				}
			}
			if sum.OK != 3500 || sum.Passed != 500 || sum.Failed != 1000 || reasons["cert_missing"] != 500 {
				t.Errorf("%s: counters say %+v, %v", name, sum, reasons)
			}
		}
		all := stats(frames)
		if last := all[len(all)-1]; last.Missed != missed || last.Failing == nil || *last.Failing == 0 {
			t.Errorf("the last counters are %+v, want %d missed", last, missed)
		}
	})
}

func TestFailingClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		defer mustClose(t, b)
		for n := range 4 { // one client that has lost its name, as cert_missing has none, from one address
			h := livetest.Handshake(9, time.Now())
			h.EndpointID = "ep_" + string(rune('0'+n%2))
			b.Publish(h)
		}
		b.Publish(livetest.Handshake(8, time.Now()))
		synctest.Wait()
		if n := b.FailingClients(time.Minute, AllEndpoints); n != 2 {
			t.Errorf("%d clients fail, want 2", n)
		}
		if n := b.FailingClients(time.Minute, "ep_2"); n != 1 {
			t.Errorf("%d clients fail at endpoint 2, want 1", n)
		}
		fine := livetest.Handshake(8, time.Now())
		fine.Verdict = termination.Verdict{Outcome: termination.OutcomeVerified}
		b.Publish(fine)
		synctest.Wait()
		if n := b.FailingClients(time.Minute, AllEndpoints); n != 1 {
			t.Errorf("%d clients fail after one came in, want 1", n)
		}
		pass(2 * time.Minute)
		synctest.Wait()
		if n := b.FailingClients(time.Minute, AllEndpoints); n != 0 {
			t.Errorf("%d clients fail after two quiet minutes", n)
		}
		pass(15 * time.Minute)
		synctest.Wait()
		if n := len(b.clients.last); n != 0 {
			t.Errorf("%d clients are remembered after 17 minutes", n)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	c := clients{last: map[client]lastHandshake{}}
	r := newReplay(100)
	long := strings.Repeat("x", 60<<10)
	for n := range 3 * maxClients {
		h := hostileHandshake(long)
		h.ID = "hs_" + string(rune('a'+n%26)) + string(rune(n+0x4e00))
		h.Peer = livetest.Handshake(n, time.Now()).Peer
		h.Client = termination.ClientName{Name: string(rune(n + 0x4e00))}
		c.add(h, 1)
		s := r.keep(h)
		if n := len(s.handshake.Hello.ServerName); n > 512 {
			t.Fatalf("%d bytes of a server name are kept", n)
		}
	}
	if n := len(c.last); n > maxClients {
		t.Errorf("%d clients are remembered", n)
	}
	if n := len(r.byID); n > 100 {
		t.Errorf("%d handshakes are found by ID, 100 are remembered", n)
	}
}
