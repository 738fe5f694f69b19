package live

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// tapBatch is how many things a tap hands over at once, at most.
const tapBatch = 256

// Tap carries what an observer is told (see [Options]) to a function that takes its time: a network, a disk. Put never waits;
// what finds the queue full is counted as dropped. One goroutine, the tap's, hands over what waits, in batches.
type Tap[T any] struct {
	queue   chan T
	gather  time.Duration
	take    func(context.Context, []T)
	dropped atomic.Uint64

	closed  atomic.Bool
	once    sync.Once
	closing chan struct{}
	ended   chan struct{} // closed when the goroutine has ended
	ctx     context.Context
	cancel  context.CancelFunc
}

// NewTap starts a tap for at most size things that wait. A batch is handed over when it is full, or that long after its first
// thing came. take must return once its context ends.
func NewTap[T any](size int, gather time.Duration, take func(context.Context, []T)) *Tap[T] {
	t := &Tap[T]{queue: make(chan T, size), gather: gather, take: take, closing: make(chan struct{}), ended: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	go t.run()
	return t
}

// Put hands something over, or counts it as dropped.
func (t *Tap[T]) Put(v T) {
	if t.closed.Load() {
		t.dropped.Add(1)
		return
	}
	select {
	case t.queue <- v:
	default:
		t.dropped.Add(1)
	}
}

// Dropped is how many things were not handed over.
func (t *Tap[T]) Dropped() uint64 { return t.dropped.Load() }

// Close hands over what waits, as far as ctx allows, and ends the tap. What comes later is dropped.
func (t *Tap[T]) Close(ctx context.Context) {
	t.closed.Store(true)
	t.once.Do(func() { close(t.closing) })
	select {
	case <-t.ended:
	case <-ctx.Done():
		t.cancel()
		<-t.ended
	}
	t.cancel()
}

func (t *Tap[T]) run() {
	defer close(t.ended)
	for {
		select {
		case v := <-t.queue:
			t.take(t.ctx, t.batch(v))
		case <-t.closing:
			t.finish()
			return
		}
	}
}

// batch collects what comes after first.
func (t *Tap[T]) batch(first T) []T {
	all := []T{first}
	timer := time.NewTimer(t.gather)
	defer timer.Stop()
	for len(all) < tapBatch {
		select {
		case v := <-t.queue:
			all = append(all, v)
		case <-timer.C:
			return all
		case <-t.closing:
			return all
		}
	}
	return all
}

// finish hands over what still waits, or drops it where there is no time left.
func (t *Tap[T]) finish() {
	for {
		var all []T
		for len(all) < tapBatch && len(t.queue) > 0 {
			all = append(all, <-t.queue)
		}
		switch {
		case len(all) == 0:
			return
		case t.ctx.Err() != nil:
			t.dropped.Add(uint64(len(all)))
		default:
			t.take(t.ctx, all)
		}
	}
}
