package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"countersign/termination"
)

// Defaults and bounds.
const (
	// MaxSubscribers is how many subscriptions there can be at a time.
	MaxSubscribers = 16

	defaultQueue  = 8192
	defaultReplay = 20000
	backfill      = 1000            // events that a new subscriber gets at once
	pastSeconds   = 120             // of the pulse, likewise
	failingPeriod = 2 * time.Minute // of Stats.Failing
	defaultFlush  = 250 * time.Millisecond
	takenAtOnce   = 256 // records, before the hub looks at its clock and its callers again
)

// Errors of subscribing.
var (
	// ErrClosed is returned once the hub is closing, or when the subscription was closed.
	ErrClosed = errors.New("the live stream is closed")
	// ErrTooMany is returned when there are [MaxSubscribers] already.
	ErrTooMany = fmt.Errorf("%d subscribers already watch the live stream; close one of them", MaxSubscribers)
)

// Options of a hub. The zero value counts and streams, and keeps no history.
type Options struct {
	// FirstSeq is the number of the first event; it should be higher than any that the history holds. 0 means 1.
	FirstSeq uint64
	// LetIn are the certificates that are known to have been let in, so that others are new; see [termination.Handshake].
	// At most [MaxLetIn] are remembered, those that come included. Nil: none is called new.
	LetIn []termination.Fingerprint
	// Stored is the highest number that the history holds; those up to FirstSeq were given to nothing that is kept. 0 means
	// the one before FirstSeq.
	Stored uint64
	// Sink stores a batch: handshakes in the order of their numbers, and ends, never before their handshakes. It is
	// called by one goroutine. A batch that it fails to store is counted as lost, and not offered again.
	Sink func(termination.HistoryBatch) error
	// Observe is told of each handshake once, whether or not there is room for it in the stream and the history, and
	// ObserveEnd likewise of each end: for counters that must be exact. The hub's goroutine calls them or, where the
	// queue is full, the one that publishes; so several may at a time, and they must not wait. Nil: nobody is told.
	Observe    func(*termination.Handshake)
	ObserveEnd func(*termination.ConnectionEnd)
	// Log hears when the sink begins to fail and when it recovers. Nil discards that.
	Log *slog.Logger
	// Queue is how many records may wait for the hub; 0 means 8192.
	Queue int
	// Flush is how often what was recorded goes to the sink; 0 means 250 ms.
	Flush time.Duration
	// Replay is how many events are remembered for those who subscribe later; 0 means 20000.
	Replay int
}

// Hub is the one place that finished handshakes go to. Its methods may be called by many goroutines.
type Hub struct {
	start   time.Time
	life    string        // tells this hub's numbers from those of others
	first   uint64        // number
	stored  uint64        // highest number of earlier lives that the history holds
	flush   time.Duration // how often the sink gets what was recorded
	queue   chan record
	reserve int           // records in the queue from which on only failures are taken
	calls   chan func()   // run by the hub's goroutine
	stop    chan struct{} // closed to end
	stopped sync.Once
	done    chan struct{} // closed when the hub's goroutine has ended

	abandon   chan struct{} // closed when nobody waits for the history any more
	abandoned sync.Once

	observe    func(*termination.Handshake)
	observeEnd func(*termination.ConnectionEnd)

	closed   atomic.Bool
	missed   missed
	counters counters
	clients  clients
	letIn    letIn
	history  history
	legend   atomic.Pointer[[]string] // names of endpoints; element n has number n+1. Replaced, never changed
	seq      atomic.Uint64            // of the newest event; written by the hub's goroutine only
	lag      atomic.Int64             // of the last whole second
	watching atomic.Int32             // subscribers
	dropped  atomic.Uint64            // events that subscribers missed, all of them together

	// These belong to the hub's goroutine.
	now           time.Duration // since start, as of the last look at the clock
	worst         time.Duration // lag of the running second
	replay        replay
	numbers       map[endpointName]int
	subscriptions []*Subscription
}

// record is what waits in the queue: a handshake, or the end of one's connection.
type record struct {
	handshake *termination.Handshake
	end       *termination.ConnectionEnd
	at        time.Duration // since the hub's start
}

// endpointName tells endpoints apart for the legend: one that was renamed gets another number.
type endpointName struct{ id, name string }

// New starts a hub. It runs until [Hub.Close].
func New(o Options) *Hub {
	if o.Queue <= 0 {
		o.Queue = defaultQueue
	}
	if o.Replay <= 0 {
		o.Replay = defaultReplay
	}
	if o.Flush <= 0 {
		o.Flush = defaultFlush
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Observe == nil {
		o.Observe = func(*termination.Handshake) {}
	}
	if o.ObserveEnd == nil {
		o.ObserveEnd = func(*termination.ConnectionEnd) {}
	}
	now := time.Now()
	b := &Hub{
		observe: o.Observe, observeEnd: o.ObserveEnd,
		start:    now,
		life:     strconv.FormatInt(now.UnixMilli(), 36),
		first:    max(o.FirstSeq, 1),
		stored:   o.Stored,
		flush:    o.Flush,
		queue:    make(chan record, o.Queue),
		reserve:  o.Queue - o.Queue/8,
		calls:    make(chan func()),
		stop:     make(chan struct{}),
		abandon:  make(chan struct{}),
		done:     make(chan struct{}),
		counters: counters{endpoints: make(map[string]*series)},
		clients:  clients{last: make(map[client]lastHandshake)},
		letIn:    newLetIn(o.LetIn),
		replay:   newReplay(o.Replay),
		numbers:  make(map[endpointName]int),
	}
	if b.stored == 0 || b.stored >= b.first {
		b.stored = b.first - 1
	}
	b.counters.now = b.start.Unix()
	b.seq.Store(b.first - 1)
	b.legend.Store(new([]string))
	if o.Sink != nil {
		b.history.start(o.Sink, o.Log)
	}
	go b.run()
	return b
}

// Publish takes a finished handshake into the feed, and assigns its Seq there. It never waits: when the queue is full,
// or the hub is closed, the handshake is counted, and missing from the stream and the history. The caller may go on
// reading h, apart from Seq and New, but must not change or copy it any more.
func (b *Hub) Publish(h *termination.Handshake) {
	if !b.put(record{handshake: h}, h.Verdict.Outcome.In()) {
		b.missed.add(h)
		b.observe(h)
	}
}

// Complete adds to the record of a handshake what is known when its connection ends. It never waits: when the queue is
// full, the end is counted as missed. It must not be called before the handshake was published.
func (b *Hub) Complete(end termination.ConnectionEnd) {
	if !b.put(record{end: &end}, end.Reason == "") {
		b.missed.addEnd()
		b.observeEnd(&end)
	}
}

// put leaves the last eighth of the queue to failures: they go last.
func (b *Hub) put(r record, ordinary bool) bool {
	if b.closed.Load() || ordinary && len(b.queue) >= b.reserve {
		return false
	}
	r.at = time.Since(b.start)
	select {
	case b.queue <- r:
		return true
	default:
		return false
	}
}

// Close ends the hub: what is in the queue is counted and stored, subscriptions end with [ErrClosed]. Whoever publishes
// must have ended before. When ctx ends first, Close gives up what was not handed to the sink yet, counts it as lost
// and returns an error; the sink is left alone with the batch that it is busy with.
func (b *Hub) Close(ctx context.Context) error {
	b.stopped.Do(func() { close(b.stop) })
	stored := b.history.done // nil without a sink
	if b.history.sink == nil {
		stored = b.done
	}
	select {
	case <-stored:
		return nil
	case <-ctx.Done():
	}
	b.abandoned.Do(func() { close(b.abandon) })
	<-b.done
	b.history.giveUp()
	lost := b.history.lost.Load()
	return fmt.Errorf("store the last handshakes: %w; %d are lost, beside the batch that is being stored", ctx.Err(), lost)
}
