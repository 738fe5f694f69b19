package main

import (
	"errors"
	"log/slog"
	"sync"

	"countersign/store"
	"countersign/termination"
)

// maxKept bounds how many records wait for a history while there is none to write to.
const maxKept = 50_000

// pen writes what the hub hands over to wherever the history is at the moment: during an upgrade the store changes
// hands.
type pen struct {
	log *slog.Logger

	mu   sync.Mutex
	to   func(termination.HistoryBatch) error // nil: nowhere, and batches are kept
	turn int                                  // counts the changes of to
	kept []termination.HistoryBatch
	n    int // records in kept
	lost int
}

// write is the hub's sink.
func (p *pen) write(b termination.HistoryBatch) error {
	for {
		to, turn := p.target(b)
		if to == nil {
			return nil // kept
		}
		err := to(b)
		if errors.Is(err, store.ErrClosed) && p.turned(turn) {
			continue // it was closed under our hands, and somebody else writes by now
		}
		return err
	}
}

// target returns where to write; where there is nowhere, it keeps the batch.
func (p *pen) target(b termination.HistoryBatch) (func(termination.HistoryBatch) error, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.to != nil {
		return p.to, p.turn
	}
	n := len(b.Handshakes) + len(b.Ends)
	if p.n+n > maxKept {
		p.lost += n
		return nil, 0
	}
	p.kept, p.n = append(p.kept, b), p.n+n
	return nil, 0
}

func (p *pen) turned(since int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.turn != since
}

// keep makes the pen keep batches from now on.
func (p *pen) keep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to, p.turn = nil, p.turn+1
}

// use writes what was kept, and then everything, to there.
func (p *pen) use(to func(termination.HistoryBatch) error) {
	for {
		p.mu.Lock()
		if len(p.kept) == 0 {
			p.to, p.turn = to, p.turn+1
			lost := p.lost
			p.lost = 0
			p.mu.Unlock()
			if lost > 0 {
				p.log.Warn("records of handshakes were lost while the store changed hands", "records", lost)
			}
			return
		}
		kept := p.kept
		p.kept, p.n = nil, 0
		p.mu.Unlock()
		for _, b := range kept {
			if err := to(b); err != nil {
				p.log.Error("what was kept while the store changed hands cannot be stored", "handshakes", len(b.Handshakes), "ends", len(b.Ends), "error", err)
			}
		}
	}
}
