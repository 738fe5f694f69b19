package live

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackfill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		defer mustClose(t, b)
		publish(b, 0, 3000, 1000)
		checkSeqs(t, events(watchBriefly(t, b, "", 0)), 2001, 3000)
		failed := events(watchBriefly(t, b, "outcome:failed", 0))
		if len(failed) != 600 || failed[0].Seq != 9 || failed[599].Seq != 3000 {
			t.Errorf("%d failures are remembered from %d on, want 600 from 9 on", len(failed), failed[0].Seq)
		}
	})
}

// watchBriefly returns what a subscriber gets within the first second.
func watchBriefly(t *testing.T, b *Hub, filter string, after uint64) []frame {
	t.Helper()
	w := watch(t, b, filter, after)
	pass(900 * time.Millisecond)
	synctest.Wait()
	return w.leave()
}

func TestResume(t *testing.T) {
	for _, c := range []struct {
		name        string
		filter      string
		after       uint64
		gap         Gap
		first, last uint64
		count       int
	}{
		{"in the middle", "", 4500, Gap{}, 4501, 5000, 500},
		{"at the oldest", "", 3000, Gap{}, 3001, 5000, 2000},
		{"at the newest", "", 5000, Gap{}, 0, 0, 0},
		{"before the oldest", "", 2999, Gap{Op: "gap", From: 3000, To: 3000, Count: 1, AtMost: true}, 3001, 5000, 2000},
		{"long before", "outcome:failed", 10, Gap{Op: "gap", From: 11, To: 3000, Count: 2990, AtMost: true}, 3009, 5000, 400},
		{"of another life", "", 6000, Gap{}, 4001, 5000, 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := New(Options{Replay: 2000})
				defer mustClose(t, b)
				publish(b, 0, 5000, 1000)
				frames := watchBriefly(t, b, c.filter, c.after)
				got, lost := events(frames), gaps(frames)
				if c.gap.Count == 0 && len(lost) > 0 || c.gap.Count > 0 && !slices.Equal(lost, []Gap{c.gap}) {
					t.Errorf("gaps are %+v, want %+v", lost, c.gap)
				}
				if len(lost) > 0 && frames[1].Op != "gap" {
					t.Errorf("the gap does not come first")
				}
				if len(got) != c.count || c.count > 0 && (got[0].Seq != c.first || got[c.count-1].Seq != c.last) {
					t.Errorf("got %d events, want %d from %d to %d", len(got), c.count, c.first, c.last)
				}
			})
		})
	}
}

// What is replayed does not fall out again because more arrives before it is read.
func TestResumeMakesRoomForWhatIsReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		defer mustClose(t, b)
		publish(b, 0, 10000, 1900)
		s, err := b.Subscribe(Request{After: 1})
		if err != nil {
			t.Fatal(err)
		}
		publishNow(b, 10000, 10000+waitingEvents/4)
		w := read(t, s)
		pass(2 * time.Second)
		frames := w.leave()
		checkSeqs(t, events(frames), 2, 10000+waitingEvents/4)
		if len(gaps(frames)) > 0 {
			t.Errorf("gaps are %+v", gaps(frames))
		}
	})
}

func TestResumeOnAnEmptyMemoryPointsToTheHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{FirstSeq: 1000})
		defer mustClose(t, b)
		frames := watchBriefly(t, b, "", 990)
		if want := []Gap{{Op: "gap", From: 991, To: 999, Count: 9, AtMost: true}}; !slices.Equal(gaps(frames), want) {
			t.Errorf("gaps are %+v, want %+v", gaps(frames), want)
		}
	})
}

// The history may have lost the last numbers of a gateway that was killed: they are given out again.
func TestResumeAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{FirstSeq: 100})
		defer mustClose(t, b)
		publishNow(b, 0, 50)
		s, err := b.Subscribe(Request{After: 110, Life: "another"})
		if err != nil {
			t.Fatal(err)
		}
		w := read(t, s)
		pass(100 * time.Millisecond)
		frames := w.leave()
		checkSeqs(t, events(frames), 100, 149)
		if len(gaps(frames)) > 0 || frames[0].Life == "" {
			t.Errorf("frames are %+v", frames)
		}
		if s, err = b.Subscribe(Request{After: 110, Life: frames[0].Life}); err != nil {
			t.Fatal(err)
		}
		w = read(t, s)
		pass(100 * time.Millisecond)
		checkSeqs(t, events(w.leave()), 111, 149)
	})
}

// A browser that comes and goes while handshakes arrive sees each exactly once.
func TestResumeUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		defer mustClose(t, b)
		const all = 15000
		published := make(chan struct{})
		go func() {
			defer close(published)
			publish(b, 0, all, 1500)
		}()
		var got []Event
		var last uint64
		for visit := 0; last < all; visit++ {
			w := watch(t, b, "", last)
			pass(time.Duration(visit%7) * 40 * time.Millisecond)
			frames := w.leave()
			if g := gaps(frames); len(g) > 0 {
				t.Fatalf("visit %d has gaps %+v", visit, g)
			}
			got = append(got, events(frames)...)
			if len(got) > 0 {
				last = got[len(got)-1].Seq
			}
			pass(time.Duration(visit%5) * 30 * time.Millisecond)
		}
		<-published
		checkSeqs(t, got, 1, all)
	})
}

// The number in st may be asked for again: nothing before it is outstanding, even if nothing matched for long.
func TestResumeAfterCounters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{Replay: 100})
		defer mustClose(t, b)
		const filter = "reason:cert_expired"
		var got []Event
		var last uint64
		for visit := range 50 {
			w := watch(t, b, filter, last)
			publish(b, visit*60, visit*60+60, 40) // more than is remembered, in two visits
			frames := w.leave()
			if g := gaps(frames); len(g) > 0 {
				t.Fatalf("visit %d has gaps %+v", visit, g)
			}
			got = append(got, events(frames)...)
			for _, f := range frames {
				last = max(last, f.st.Seq)
				for _, e := range f.Events {
					last = max(last, e.Seq)
				}
			}
		}
		if len(got) < 290 {
			t.Fatalf("only %d events", len(got))
		}
		for i := range got {
			if want := uint64(9 + 10*i); got[i].Seq != want {
				t.Fatalf("event %d has number %d, want %d", i, got[i].Seq, want)
			}
		}
	})
}

// Counters overtake events, and must not claim what still waits behind them.
func TestCountersClaimOnlyWhatWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{FirstSeq: 50})
		defer mustClose(t, b)
		s, err := b.Subscribe(Request{})
		if err != nil {
			t.Fatal(err)
		}
		publishNow(b, 0, waitingEvents)
		pass(1100 * time.Millisecond)
		next := func(op string) frame {
			text, err := s.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			f := readFrame(t, text)
			if f.Op != op {
				t.Fatalf("the frame is %s, want %s", text, op)
			}
			return f
		}
		next("hi")
		if st := next("st").st; st.Seq != 49 {
			t.Errorf("with all events waiting, counters claim %d", st.Seq)
		}
		next("ev")
		publishNow(b, 0, 2000) // more than fits
		pass(time.Second)
		if st := next("st").st; st.Seq != 1049 {
			t.Errorf("after a frame of events, counters claim %d, want 1049", st.Seq)
		}
		if gap := next("gap").gap; gap.From != 1050 || gap.Count != 1000 {
			t.Errorf("the gap is %+v", gap)
		}
		for range 5 {
			next("ev")
		}
		pass(time.Second)
		if st := next("st").st; st.Seq != 50+waitingEvents+2000-1 {
			t.Errorf("with nothing waiting, counters claim %d", st.Seq)
		}
		s.Close()
	})
}

func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{Replay: 3000})
		defer mustClose(t, b)
		w := watch(t, b, "", 0)
		publishNow(b, 0, 100)
		pass(100 * time.Millisecond)
		w.SetIdle(true)
		checkSeqs(t, events(w.seen()), 1, 100)
		publish(b, 100, 2000, 1000)
		pass(time.Second)
		frames := w.seen()
		if len(events(frames)) > 0 || len(stats(frames)) < 2 {
			t.Errorf("idle, there are %d events and %d counters", len(events(frames)), len(stats(frames)))
		}
		for _, st := range stats(frames) {
			if st.Seq > 100 {
				t.Errorf("idle, counters claim %d, which was held back", st.Seq)
			}
		}
		w.SetIdle(false)
		w.SetIdle(false)
		pass(200 * time.Millisecond)
		frames = w.seen()
		checkSeqs(t, events(frames), 101, 2000)
		if len(gaps(frames)) > 0 {
			t.Errorf("coming back left gaps: %+v", gaps(frames))
		}
		w.SetIdle(true)
		publish(b, 2000, 6000, 1000)
		w.SetIdle(false)
		pass(time.Second)
		frames = w.leave()
		if want := []Gap{{Op: "gap", From: 2001, To: 3000, Count: 1000, AtMost: true}}; !slices.Equal(gaps(frames), want) {
			t.Errorf("gaps are %+v, want %+v", gaps(frames), want)
		}
		checkSeqs(t, events(frames), 3001, 6000)
	})
}

// Coming back from idle to a stream that was not read to its end, with a gap in between.
func TestIdleWithEventsThatStillWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{Replay: 50})
		defer mustClose(t, b)
		s, err := b.Subscribe(Request{})
		if err != nil {
			t.Fatal(err)
		}
		publishNow(b, 0, 20)
		s.SetIdle(true)
		publishNow(b, 20, 200)
		s.SetIdle(false)
		w := read(t, s)
		pass(200 * time.Millisecond)
		frames := w.leave()
		if want := []Gap{{Op: "gap", From: 1, To: 150, Count: 150, AtMost: true}}; !slices.Equal(gaps(frames), want) {
			t.Errorf("gaps are %+v, want %+v", gaps(frames), want)
		}
		checkSeqs(t, events(frames), 151, 200)
	})
}
