package live

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"countersign/termination"
	"countersign/termination/live/livetest"
)

func TestEventsComeInOrderAndInFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{FirstSeq: 100})
		defer mustClose(t, b)
		w := watch(t, b, "", 0)
		publishNow(b, 0, 2500)
		pass(300 * time.Millisecond)
		frames := w.leave()
		if hi := frames[0]; hi.Op != "hi" || hi.Seq != 99 || len(hi.Outcomes) != 6 || hi.Reasons["cert_expired"] == "" || len(hi.Past) != pastSeconds {
			t.Errorf("the first frame is %+v", hi)
		}
		checkSeqs(t, events(frames), 100, 2599)
		var last time.Time
		known := map[int]string{}
		for _, f := range frames {
			maps.Copy(known, f.Endpoints)
			if f.Op != "ev" {
				continue
			}
			if f.at.Sub(last) < framePeriod || len(f.Events) > frameEvents {
				t.Errorf("a frame of %d events comes %v after the one before", len(f.Events), f.at.Sub(last))
			}
			last = f.at
			for _, e := range f.Events {
				if name := known[e.Endpoint]; name == "" || name+".localhost" != e.ServerName {
					t.Fatalf("event for %s has endpoint %d, which the legend calls %q", e.ServerName, e.Endpoint, name)
				}
			}
		}
	})
}

func TestSlowSubscriberGetsAGapAndOthersEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		defer mustClose(t, b)
		quick := watch(t, b, "", 0)
		slow, err := b.Subscribe(Request{})
		if err != nil {
			t.Fatal(err)
		}
		const all = 9500
		publish(b, 0, all, 1900)
		pass(time.Second)
		frames := quick.leave()
		checkSeqs(t, events(frames), 1, all)
		if len(gaps(frames)) > 0 {
			t.Errorf("the quick one has gaps %+v", gaps(frames))
		}
		late := read(t, slow)
		pass(time.Second)
		frames = late.leave()
		if want := []Gap{{Op: "gap", From: 1, To: all - waitingEvents, Count: all - waitingEvents}}; !slices.Equal(gaps(frames), want) {
			t.Errorf("the slow one has gaps %+v, want %+v", gaps(frames), want)
		}
		checkSeqs(t, events(frames), all-waitingEvents+1, all)
		var dropped, counted uint64
		for _, st := range stats(frames) {
			dropped += st.Dropped
			counted += st.OK + st.Passed + st.Failed
		}
		if dropped != all-waitingEvents || counted != all {
			t.Errorf("counters say %d dropped of %d, want %d of %d", dropped, counted, all-waitingEvents, all)
		}
	})
}

func TestSampling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		defer mustClose(t, b)
		w := watch(t, b, "", 0)
		const perSecond, seconds = 5000, 6
		publish(b, 0, perSecond*seconds, perSecond)
		pass(1500 * time.Millisecond)
		frames := w.seen()
		var in, failed int
		var represented uint64
		for _, f := range frames {
			for _, e := range f.Events {
				if e.Reason == "" {
					in++
					represented += uint64(f.N)
				} else {
					failed++
				}
			}
		}
		if want := perSecond * seconds / 5; failed != want {
			t.Errorf("%d failures came, want all %d: they go last", failed, want)
		}
		if in < seconds*sampledIn*9/10 || in > seconds*sampledIn*3/2 {
			t.Errorf("%d of those let in came within %d s, want about %d a second", in, seconds, sampledIn)
		}
		if want := uint64(perSecond * seconds * 4 / 5); represented < want*98/100 || represented > want*102/100 {
			t.Errorf("what came stands for %d, there were %d", represented, want)
		}
		var dropped, counted uint64
		for _, st := range stats(frames) {
			dropped += st.Dropped
			counted += st.OK + st.Passed + st.Failed
		}
		if counted != perSecond*seconds || dropped != uint64(perSecond*seconds-in-failed) {
			t.Errorf("counters say %d dropped of %d, want %d of %d", dropped, counted, perSecond*seconds-in-failed, perSecond*seconds)
		}
		if len(gaps(frames)) > 0 {
			t.Errorf("sampling left gaps: %+v", gaps(frames))
		}
		publish(b, 0, 1000, 500) // calm again
		frames = w.seen()
		if last := frames[len(frames)-2]; last.Op == "ev" && last.N != 1 {
			t.Errorf("a calm stream is still sampled 1:%d", last.N)
		}
		got := events(frames)
		if n := len(got); n < 500 || got[n-1].Seq-got[n-400].Seq != 399 {
			t.Errorf("a calm stream has holes")
		}
		w.leave()
	})
}

func TestSamplingOfFailuresComesLast(t *testing.T) {
	var s sampler
	taken := [2]int{}
	for ms := range 3000 {
		for range 10 { // 10,000 failures and as many others a second
			for i, failed := range []bool{false, true} {
				if s.take(failed, time.Duration(ms)*time.Millisecond) && ms >= 1000 {
					taken[i]++
				}
			}
		}
	}
	if taken[0] < 1900 || taken[0] > 2100 || taken[1] < 3800 || taken[1] > 4200 {
		t.Errorf("in two seconds %d of those let in and %d failures are taken, want about 2000 and 4000", taken[0], taken[1])
	}
	if in, failed := s.rates(); in != 10 || failed != 5 {
		t.Errorf("rates are 1:%d and 1:%d, want 1:10 and 1:5", in, failed)
	}
	s.advance(10 * time.Second)
	if in, failed := s.rates(); in != 1 || failed != 1 {
		t.Errorf("after a pause the rates are 1:%d and 1:%d", in, failed)
	}
}

// Clients that take turns must not be sampled so that always the same one is shown.
func TestSamplingIsFairToClientsThatTakeTurns(t *testing.T) {
	o := oneOf{}
	o.set(10)
	shown := map[int]bool{}
	taken := 0
	for n := range 1000 {
		if o.take() {
			shown[n%10] = true
			taken++
		}
	}
	if taken != 100 || len(shown) < 8 {
		t.Errorf("%d of 1000 are taken, from %d of 10 clients", taken, len(shown))
	}
}

func TestFrameHoldsEventsOfOneRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		defer mustClose(t, b)
		s := &Subscription{hub: b}
		for i, rates := range [][2]uint32{{1, 1}, {1, 1}, {3, 1}, {3, 2}, {1, 1}} {
			s.waiting = append(s.waiting, entry{seq: uint64(i), n: rates[0], failed: rates[1], json: []byte("{}")})
		}
		for _, want := range []string{
			`{"op":"ev","n":1,"e":[{},{}]}`, `{"op":"ev","n":3,"e":[{}]}`, `{"op":"ev","n":3,"nf":2,"e":[{}]}`, `{"op":"ev","n":1,"e":[{}]}`,
		} {
			got, _, err := s.take(time.Now())
			if err != nil || string(got) != want {
				t.Errorf("the frame is %s, %v, want %s", got, err, want)
			}
			pass(framePeriod)
		}
	})
}

func TestChangeOfFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		defer mustClose(t, b)
		w := watch(t, b, "", 0)
		publish(b, 0, 500, 1000)
		w.seen()
		w.Set(Request{Filter: mustFilter(t, "-outcome:failed endpoint:ledger")})
		publish(b, 500, 1000, 1000)
		pass(2 * time.Second)
		frames := w.seen()
		if frames[0].Op != "hi" || frames[0].Filter != "-outcome:failed endpoint:ledger" || frames[0].Past != nil {
			t.Errorf("the first frame after the change is %+v", frames[0])
		}
		got := events(frames)
		want := 0
		for n := range 1000 {
			if h := livetest.Handshake(n, time.Now()); h.Verdict.Outcome.In() && h.Endpoint == "ledger" {
				if want >= len(got) || got[want].ID != h.ID {
					t.Fatalf("%s is missing at place %d", h.ID, want)
				}
				want++
			}
		}
		if len(got) != want {
			t.Errorf("%d events, want %d", len(got), want)
		}
		var counted uint64
		for _, st := range stats(frames) {
			counted += st.OK + st.Passed
			if st.Failed > 0 || st.By != nil || st.Failing != nil {
				t.Errorf("counters do not follow the filter: %+v", st)
			}
		}
		if counted == 0 || counted > uint64(want) {
			t.Errorf("counters say %d of %d", counted, want)
		}
		w.Set(Request{After: 990})
		pass(100 * time.Millisecond)
		checkSeqs(t, events(w.seen()), 991, 1000)
		w.leave()
	})
}

func TestRefusedFilterLeavesTheStreamAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		defer mustClose(t, b)
		w := watch(t, b, "outcome:failed", 0)
		for range 100 {
			w.Refuse(Failure{Position: 3, Message: "no"})
		}
		publishNow(b, 0, 10)
		pass(100 * time.Millisecond)
		frames := w.leave()
		if frames[1].Op != "err" || frames[1].Message != "no" {
			t.Errorf("the answer is %+v", frames[1])
		}
		if got := events(frames); len(got) != 2 {
			t.Errorf("%d events after a refused filter, want 2", len(got))
		}
	})
}

// A client that asks and asks without reading costs no memory.
func TestAnswersThatWaitAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		defer mustClose(t, b)
		s, err := b.Subscribe(Request{})
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			s.Set(Request{})
		}
		for range 100 {
			s.Refuse(Failure{Message: "no"})
		}
		for range 100 {
			s.Set(Request{})
		}
		w := read(t, s)
		pass(100 * time.Millisecond)
		frames := w.leave()
		if n := len(frames); n != waitingOthers+1 || frames[0].Op != "hi" || frames[1].Op != "err" || frames[n-1].Op != "hi" {
			t.Errorf("%d answers wait, want %d", n, waitingOthers+1)
		}
	})
}

func TestWhatHappensAfterTLSChangesTheRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		defer mustClose(t, b)
		all := watch(t, b, "", 0)
		down := watch(t, b, "reason:upstream_down", 0)
		up := watch(t, b, "-reason:upstream_down", 0)
		publishNow(b, 0, 3)
		b.Complete(termination.ConnectionEnd{ID: "hs_1", Reason: termination.ReasonUpstreamDown})
		b.Complete(termination.ConnectionEnd{ID: "hs_1", Reason: termination.ReasonUpstreamDown})
		b.Complete(termination.ConnectionEnd{ID: "hs_2"})
		b.Complete(termination.ConnectionEnd{ID: "hs_unheard_of", Reason: termination.ReasonHostMismatch})
		pass(2 * time.Second)
		synctest.Wait()
		for name, w := range map[string]*watcher{"no filter": all, "filter of the reason": down, "filter against the reason": up} {
			got := events(w.leave())
			if n := len(got); n == 0 || got[n-1].ID != "hs_1" || got[n-1].Seq != 4 || got[n-1].Update != 1 || got[n-1].Reason != termination.ReasonUpstreamDown {
				t.Errorf("%s: events are %+v", name, got)
			}
		}
		var in, notes uint64
		for _, st := range stats(all.frames) {
			in += st.OK
			notes += st.Notes[termination.ReasonUpstreamDown]
		}
		if in != 3 || notes != 1 {
			t.Errorf("counters say %d let in and %d with the upstream down, want 3 and 1", in, notes)
		}
		if c := b.Counts(0, AllEndpoints); c.Total() != 3 || c.Notes[termination.ReasonUpstreamDown] != 1 || c.Notes[termination.ReasonHostMismatch] != 1 {
			t.Errorf("counts are %+v", c)
		}
		if c := b.Counts(0, "ep_1"); c.Total() != 1 || c.Notes[termination.ReasonUpstreamDown] != 1 {
			t.Errorf("counts of the endpoint are %+v", c)
		}
		again := watchBriefly(t, b, "", 1)
		if got := events(again); len(got) != 2 || got[0].ID != "hs_2" || got[1].ID != "hs_1" || got[1].Update != 1 {
			t.Errorf("the row is replayed as %+v", got)
		}
	})
}

func TestLateChangeOfTheOldestRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{Replay: 3})
		defer mustClose(t, b)
		publishNow(b, 0, 3)
		b.Complete(termination.ConnectionEnd{ID: "hs_0", Reason: termination.ReasonUpstreamDown})
		b.Complete(termination.ConnectionEnd{ID: "hs_0", Reason: termination.ReasonHostMismatch})
		synctest.Wait()
		got := events(watchBriefly(t, b, "", 0))
		if len(got) != 2 || got[0].ID != "hs_2" || got[1].ID != "hs_0" || got[1].Reason != termination.ReasonHostMismatch || got[1].ServerName != "payments.localhost" {
			t.Errorf("remembered is %+v", got)
		}
	})
}

func TestProofsAreShownAndNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		defer mustClose(t, b)
		w := watch(t, b, "outcome:failed", 0)
		h := livetest.Handshake(8, time.Now())
		h.Proof = true
		b.Publish(h)
		b.Complete(termination.ConnectionEnd{ID: h.ID, Reason: termination.ReasonUpstreamDown})
		pass(2 * time.Second)
		frames := w.seen()
		if got := events(frames); len(got) != 2 || got[0].Proof != 1 || got[1].Proof != 1 {
			t.Errorf("events are %+v", got)
		}
		for _, st := range stats(frames) {
			if st.Failed > 0 || st.By != nil || st.Notes != nil {
				t.Errorf("a proof is counted: %+v", st)
			}
		}
		if c := b.Counts(0, AllEndpoints); c.Total() != 0 || c.Notes != nil || b.FailingClients(time.Minute, AllEndpoints) != 0 {
			t.Errorf("a proof is counted: %+v", c)
		}
		w.leave()
	})
}

func TestSubscribersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		var all []*watcher
		for range MaxSubscribers {
			all = append(all, watch(t, b, "", 0))
		}
		if _, err := b.Subscribe(Request{}); !errors.Is(err, ErrTooMany) {
			t.Errorf("the 17th subscriber gets %v", err)
		}
		if n := b.Status().Subscribers; n != MaxSubscribers {
			t.Errorf("status says %d subscribers", n)
		}
		all[3].leave()
		all[3] = watch(t, b, "", 0)
		mustClose(t, b)
		for _, w := range all {
			<-w.done
		}
		if _, err := b.Subscribe(Request{}); !errors.Is(err, ErrClosed) {
			t.Errorf("a subscriber after the end gets %v", err)
		}
		all[0].Close() // and again, after the hub
		all[0].Set(Request{})
		all[0].SetIdle(true)
	})
}

func TestNextEndsWithItsContext(t *testing.T) {
	b := New(Options{})
	defer mustClose(t, b)
	s, err := b.Subscribe(Request{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(context.Background())
	if text, err := s.Next(ctx); err != nil || readFrame(t, text).Op != "hi" {
		t.Fatalf("the first frame is %s, %v", text, err)
	}
	cancel()
	for {
		if _, err = s.Next(ctx); err != nil {
			break
		}
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Next ends with %v", err)
	}
}
