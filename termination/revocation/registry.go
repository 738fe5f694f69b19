package revocation

import (
	"sync"
	"sync/atomic"
	"time"

	"countersign/termination"
)

// Options are what a registry needs.
type Options struct {
	Now func() time.Time // nil: time.Now
	// Changed is told each time a snapshot takes the place of another that decides otherwise. It must not wait, and must
	// not call the registry but for Snapshot. Nil: nobody is.
	Changed func()
}

// Registry holds the newest snapshot. It is safe for concurrent use.
type Registry struct {
	now     func() time.Time
	changed func()
	current atomic.Pointer[Snapshot]
	mu      sync.Mutex // serialises what makes snapshots
}

// New returns a registry in which nothing is blocked or revoked.
func New(o Options) *Registry {
	r := &Registry{now: o.Now, changed: o.Changed}
	if r.now == nil {
		r.now = time.Now
	}
	r.current.Store(&Snapshot{blocks: &blocks{}})
	return r
}

// Snapshot is what is known now. It is never nil.
func (r *Registry) Snapshot() *Snapshot {
	if r == nil {
		return &Snapshot{blocks: &blocks{}}
	}
	return r.current.Load()
}

// Apply goes by a configuration from now on.
func (r *Registry) Apply(config *termination.Config) {
	r.mu.Lock()
	before := r.current.Load()
	next := &Snapshot{blocks: newBlocks(config)}
	if next.blocks.key == before.blocks.key {
		r.mu.Unlock()
		return
	}
	next.generation = r.nextGeneration(before)
	r.current.Store(next)
	r.mu.Unlock()
	if r.changed != nil {
		r.changed()
	}
}

// nextGeneration goes up, across restarts too as long as the clock does.
func (r *Registry) nextGeneration(before *Snapshot) uint64 {
	return max(before.generation+1, uint64(max(r.now().UnixMilli(), 0)))
}

// Snapshot is one state of what is known. It is immutable.
type Snapshot struct {
	generation uint64
	blocks     *blocks
}

// Generation numbers the snapshots: a later one has a higher number. It is 0 as long as nothing was ever blocked or
// revoked.
func (s *Snapshot) Generation() uint64 { return s.generation }
