package live

import (
	"log/slog"
	"sync/atomic"

	"countersign/termination"
)

// Bounds of what waits for the history.
const (
	batchRecords   = 1000 // that make a full batch
	waitingBatches = 8    // full batches at most, beside the one that is being stored and the one that is being filled
	batchFailures  = batchRecords / 2
)

// history hands records to the sink, in batches. Its fields belong to the hub's goroutine, apart from the atomic ones;
// the sink runs in a goroutine of its own.
type history struct {
	sink     func(termination.HistoryBatch) error
	log      *slog.Logger
	batch    termination.HistoryBatch // being filled
	handover chan termination.HistoryBatch
	done     chan struct{} // closed when the sink has everything

	lost      atomic.Uint64 // handshakes
	lostEnds  atomic.Uint64
	lastError atomic.Pointer[error]
}

func (y *history) start(sink func(termination.HistoryBatch) error, log *slog.Logger) {
	y.sink, y.log = sink, log
	y.handover = make(chan termination.HistoryBatch, waitingBatches)
	y.done = make(chan struct{})
	go y.run()
}

func (y *history) run() {
	defer close(y.done)
	for batch := range y.handover {
		err := y.sink(batch)
		failedBefore := y.lastError.Load() != nil
		if err == nil {
			y.lastError.Store(nil)
			if failedBefore {
				y.log.Info("history is stored again", "lost", y.lost.Load())
			}
			continue
		}
		y.lastError.Store(&err)
		y.lose(batch)
		if !failedBefore {
			y.log.Error("history cannot be stored; handshakes are counted and shown, not kept", "error", err)
		}
	}
}

// records is the number of records in the batch that is being filled.
func (y *history) records() int { return len(y.batch.Handshakes) + len(y.batch.Ends) }

// room reports whether a record still fits. When the sink is behind by all it may be, the last half batch is kept for
// failures.
func (y *history) room(failed bool) bool {
	if y.records() >= batchRecords {
		y.flush()
	}
	if len(y.handover) < cap(y.handover) {
		return true
	}
	return y.records() < batchFailures || failed && y.records() < batchRecords
}

func (y *history) add(h *termination.Handshake) {
	if y.sink == nil {
		return
	}
	if !y.room(!h.Verdict.Outcome.In()) {
		y.lost.Add(1)
		return
	}
	y.batch.Handshakes = append(y.batch.Handshakes, h)
}

func (y *history) addEnd(e *termination.ConnectionEnd) {
	if y.sink == nil {
		return
	}
	if !y.room(e.Reason != "") {
		y.lostEnds.Add(1)
		return
	}
	y.batch.Ends = append(y.batch.Ends, *e)
}

// flush hands the batch over, if there is room for it.
func (y *history) flush() {
	if y.records() == 0 {
		return
	}
	select {
	case y.handover <- y.batch:
		y.batch = termination.HistoryBatch{}
	default:
	}
}

// finish hands over what is left, waiting for room until abandon.
func (y *history) finish(abandon <-chan struct{}) {
	if y.sink == nil {
		return
	}
	defer close(y.handover)
	if y.records() == 0 {
		return
	}
	select {
	case y.handover <- y.batch:
	case <-abandon:
		y.lose(y.batch)
	}
}

// giveUp takes back what the sink has not begun with. It is called after finish.
func (y *history) giveUp() {
	for batch := range y.handover {
		y.lose(batch)
	}
}

func (y *history) lose(b termination.HistoryBatch) {
	y.lost.Add(uint64(len(b.Handshakes)))
	y.lostEnds.Add(uint64(len(b.Ends)))
}
