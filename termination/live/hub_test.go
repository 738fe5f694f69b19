package live

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"countersign/termination"
	"countersign/termination/live/livetest"
)

// kept is a sink that remembers what it was given.
type kept struct {
	mu      sync.Mutex
	batches []termination.HistoryBatch
	times   []time.Time
	err     error
}

func (k *kept) store(b termination.HistoryBatch) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return k.err
	}
	k.batches = append(k.batches, b)
	k.times = append(k.times, time.Now())
	return nil
}

func (k *kept) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

func (k *kept) totals() (handshakes, ends uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range k.batches {
		handshakes += uint64(len(b.Handshakes))
		ends += uint64(len(b.Ends))
	}
	return handshakes, ends
}

func TestHistoryGetsBatchesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k kept
		b := New(Options{FirstSeq: 50, Sink: k.store})
		const all = 5000
		for n := range all {
			h := livetest.Handshake(n, time.Now())
			b.Publish(h)
			b.Complete(termination.ConnectionEnd{ID: h.ID, BytesIn: int64(n)})
			if n%5 == 0 {
				pass(time.Millisecond)
			}
		}
		mustClose(t, b)
		next, ends := uint64(50), 0
		known := map[string]bool{}
		for _, batch := range k.batches {
			if n := len(batch.Handshakes) + len(batch.Ends); n == 0 || n > batchRecords {
				t.Errorf("a batch has %d records", n)
			}
			for _, h := range batch.Handshakes {
				if h.Seq != next {
					t.Fatalf("handshake has number %d, want %d", h.Seq, next)
				}
				next++
				known[h.ID] = true
			}
			for _, e := range batch.Ends {
				if ends++; !known[e.ID] {
					t.Fatalf("the end of %s comes before it", e.ID)
				}
			}
		}
		if next != 50+all || ends != all {
			t.Errorf("%d handshakes and %d ends are stored, want %d", next-50, ends, all)
		}
	})
}

func TestHistoryDoesNotWaitForAFullBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k kept
		b := New(Options{Sink: k.store})
		defer mustClose(t, b)
		start := time.Now()
		publishNow(b, 0, 1)
		pass(defaultFlush)
		synctest.Wait()
		if len(k.batches) != 1 || k.times[0].Sub(start) > defaultFlush {
			t.Errorf("after %v there are %d batches", defaultFlush, len(k.batches))
		}
	})
}

// Nothing that stands still may hold up a handshake, and nothing may be lost without being counted.
func TestNothingHoldsUpAHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k kept
		stuck := make(chan struct{})
		b := New(Options{Queue: 512, Sink: func(batch termination.HistoryBatch) error {
			<-stuck
			return k.store(batch)
		}})
		if _, err := b.Subscribe(Request{}); err != nil { // who never asks for a frame
			t.Fatal(err)
		}
		const publishers, each = 20, 3000
		start := time.Now()
		var wait sync.WaitGroup
		for p := range publishers {
			wait.Go(func() {
				for n := range each {
					h := livetest.Handshake(p*each+n, start)
					b.Publish(h)
					b.Complete(termination.ConnectionEnd{ID: h.ID})
					if n%100 == 99 {
						pass(time.Millisecond)
					}
				}
			})
		}
		wait.Wait()
		// The bubble's clock only moves when every goroutine waits: any wait but the sleeps above would show.
		if waited := time.Since(start); waited != each/100*time.Millisecond {
			t.Errorf("publishing took %v", waited)
		}
		pass(2 * time.Second)
		close(stuck)
		mustClose(t, b)

		const all = publishers * each
		stored, ends := k.totals()
		s := b.Status()
		if stored+s.Missed+s.Lost != all {
			t.Errorf("%d stored, %d missed, %d lost of %d", stored, s.Missed, s.Lost, all)
		}
		if ends+s.MissedEnds+s.LostEnds != all {
			t.Errorf("%d ends stored, %d missed, %d lost of %d", ends, s.MissedEnds, s.LostEnds, all)
		}
		if s.Lost == 0 || s.Missed == 0 {
			t.Errorf("%d lost, %d missed: the test did not fill both queues", s.Lost, s.Missed)
		}
		c := b.Counts(0, AllEndpoints)
		if c.Total() != all || c.Verified != all*7/10 || c.Passed != all/10 || c.Refused != all/5 || c.Reasons[termination.ReasonCertExpired] != all/10 {
			t.Errorf("counts are not exact: %+v", c)
		}
		if c := b.Counts(0, "ep_1"); c.Total() != all/3 {
			t.Errorf("the counts of an endpoint are not exact: %+v", c)
		}
		if c := b.Counts(time.Minute, AllEndpoints); c.Total() != all {
			t.Errorf("the counts of the last minute are not exact: %+v", c)
		}
	})
}

func TestFailuresGoLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k kept
		stuck := make(chan struct{})
		b := New(Options{Sink: func(batch termination.HistoryBatch) error {
			<-stuck
			return k.store(batch)
		}})
		const most = batchRecords*(waitingBatches+1) + batchFailures // one batch is with the sink
		for n := range most * 10 / 8 * 2 {
			h := livetest.Handshake(0, time.Now())
			if n >= most {
				h.Verdict = termination.Verdict{Outcome: termination.OutcomeRefused, Reason: termination.ReasonCAUnknown}
			}
			b.Publish(h)
			synctest.Wait()
			if n == most+10 && b.Status().Lost > 0 {
				t.Fatalf("with room for failures, %d are lost", b.Status().Lost)
			}
			if n == most+batchFailures {
				break
			}
		}
		b.Publish(livetest.Handshake(0, time.Now()))
		synctest.Wait()
		if lost := b.Status().Lost; lost != 2 {
			t.Errorf("%d lost, want the last failure and the last verified one", lost)
		}
		close(stuck)
		mustClose(t, b)
		failed := 0
		for _, batch := range k.batches {
			for _, h := range batch.Handshakes {
				if !h.Verdict.Outcome.In() {
					failed++
				}
			}
		}
		if failed != batchFailures {
			t.Errorf("%d failures are stored, want %d", failed, batchFailures)
		}
	})
}

func TestQueueKeepsRoomForFailures(t *testing.T) {
	b := &Hub{ // whose goroutine does not run
		queue: make(chan record, 16), reserve: 14, start: time.Now(),
		observe: func(*termination.Handshake) {}, observeEnd: func(*termination.ConnectionEnd) {},
	}
	for n := range 16 {
		b.Publish(livetest.Handshake(0, time.Now()))
		if missed, _ := b.missed.totals(); n < 14 && missed != 0 || n >= 14 && missed != uint64(n-13) {
			t.Errorf("after %d, %d are missed", n+1, missed)
		}
	}
	b.Publish(livetest.Handshake(8, time.Now()))
	b.Complete(termination.ConnectionEnd{Reason: termination.ReasonUpstreamDown})
	b.Complete(termination.ConnectionEnd{})
	b.Publish(livetest.Handshake(8, time.Now()))
	if missed, ends := b.missed.totals(); missed != 3 || ends != 1 {
		t.Errorf("%d handshakes and %d ends are missed, want 3 and 1", missed, ends)
	}
	proof := livetest.Handshake(8, time.Now())
	proof.Proof = true
	b.Publish(proof)
	cells, missed := b.missed.take()
	if n := cells[proof.EndpointID].failed(); missed != 4 || n != 1 {
		t.Errorf("%d are missed, and %d failures counted, want 4 and 1: a proof is not counted", missed, n)
	}
}

func TestSinkThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k kept
		var log bytes.Buffer
		b := New(Options{Sink: k.store, Log: slog.New(slog.NewTextHandler(&log, nil))})
		k.fail(errors.New("disk full"))
		for range 3 {
			publishNow(b, 0, 10)
			pass(300 * time.Millisecond)
		}
		synctest.Wait()
		if s := b.Status(); s.Lost != 30 || s.HistoryError == nil || s.HistoryError.Error() != "disk full" {
			t.Errorf("status is %+v", s)
		}
		k.fail(nil)
		publishNow(b, 10, 20)
		mustClose(t, b)
		if s := b.Status(); s.Lost != 30 || s.HistoryError != nil {
			t.Errorf("after it recovered, status is %+v", s)
		}
		if n := strings.Count(log.String(), "disk full"); n != 1 {
			t.Errorf("the error is logged %d times, want once:\n%s", n, &log)
		}
		if !strings.Contains(log.String(), "stored again") {
			t.Errorf("the recovery is not logged:\n%s", &log)
		}
	})
}

func TestCloseDoesNotWaitForeverForTheSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		var stored uint64
		b := New(Options{Sink: func(batch termination.HistoryBatch) error {
			<-stuck
			stored += uint64(len(batch.Handshakes))
			return nil
		}})
		w := watch(t, b, "", 0)
		const all = 12000
		publish(b, 0, all, 4000)
		start := time.Now()
		go func() {
			<-w.done // subscribers do not wait for the sink
			if waited := time.Since(start); waited > 0 {
				t.Errorf("a subscriber ends %v after the hub", waited)
			}
			if _, err := b.Subscribe(Request{}); !errors.Is(err, ErrClosed) {
				t.Errorf("a subscriber after the end gets %v", err)
			}
		}()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := b.Close(ctx)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Close returns %v", err)
		}
		close(stuck)
		<-b.history.done
		if s := b.Status(); s.Missed != 0 || stored+s.Lost != all || s.Lost == 0 {
			t.Errorf("%d stored, %d lost, %d missed of %d", stored, s.Lost, s.Missed, all)
		}
	})
}

func TestPublishAfterCloseIsCounted(t *testing.T) {
	b := New(Options{})
	b.Publish(livetest.Handshake(0, time.Now()))
	mustClose(t, b)
	mustClose(t, b)
	b.Publish(livetest.Handshake(1, time.Now()))
	b.Complete(termination.ConnectionEnd{ID: "hs_1"})
	if s := b.Status(); s.Missed != 1 || s.MissedEnds != 1 || s.Seq != 1 {
		t.Errorf("status is %+v", s)
	}
	if c := b.Counts(0, AllEndpoints); c.Total() != 1 {
		t.Errorf("counts are %+v", c)
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, c := range []struct {
		name        string
		subscribers int
		filter      string
	}{
		{"nobody watches", 0, ""},
		{"one subscriber", 1, ""},
		{"sixteen subscribers", 16, ""},
		{"sixteen subscribers with filters", 16, "outcome:failed -client:*batch ip:10.20.0.0/16"},
	} {
		b.Run(c.name, func(b *testing.B) {
			hub := New(Options{Sink: func(termination.HistoryBatch) error { return nil }})
			filter, err := termination.ParseFilter(c.filter, time.Now())
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			var readers sync.WaitGroup
			for range c.subscribers {
				s, err := hub.Subscribe(Request{Filter: filter})
				if err != nil {
					b.Fatal(err)
				}
				readers.Go(func() {
					for {
						if _, err := s.Next(ctx); err != nil {
							return
						}
					}
				})
			}
			all := make([]*termination.Handshake, 1000)
			for n := range all {
				all[n] = livetest.Handshake(n, time.Now())
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if n++; n%(defaultQueue/2) == 0 { // give the hub its time: this measures what a connection pays
					b.StopTimer()
					for hub.Status().Queue > 0 {
						runtime.Gosched()
					}
					b.StartTimer()
				}
				hub.Publish(all[n%len(all)])
			}
			b.StopTimer()
			missed, _ := hub.missed.totals()
			b.ReportMetric(100*float64(missed)/float64(n), "%missed")
			if err := hub.Close(ctx); err != nil {
				b.Fatal(err)
			}
			cancel()
			readers.Wait()
		})
	}
}

// BenchmarkHub measures the hub's goroutine: what one handshake costs behind the queue.
func BenchmarkHub(b *testing.B) {
	for _, subscribers := range []int{0, 1, 16} {
		b.Run(map[int]string{0: "nobody watches", 1: "one subscriber", 16: "sixteen subscribers"}[subscribers], func(b *testing.B) {
			hub := New(Options{})
			if err := hub.Close(context.Background()); err != nil {
				b.Fatal(err)
			}
			for range subscribers {
				s := &Subscription{hub: hub, ended: make(chan struct{}), wake: make(chan struct{}, 1)}
				hub.subscriptions = append(hub.subscriptions, s)
				s.begin(Request{})
			}
			all := make([]*termination.Handshake, 1000)
			for n := range all {
				all[n] = livetest.Handshake(n, time.Now())
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				hub.now = time.Duration(n) * time.Second / 1900 // below the rate at which sampling starts
				hub.take(record{handshake: all[n%len(all)]})
				n++
			}
		})
	}
}
