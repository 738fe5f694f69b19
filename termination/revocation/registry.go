package revocation

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"countersign/termination"
)

// Options are what a registry needs.
type Options struct {
	Now func() time.Time // nil: time.Now
	Log *slog.Logger     // nil: discards
	// Changed is told each time a snapshot takes the place of another that decides otherwise. It must not wait, and must
	// not call the registry but for Snapshot and Fetched. Nil: nobody is.
	Changed func()
	// Keep holds what was fetched over a restart. Nil: nothing does.
	Keep Keeper
	// Given: lists from addresses are not fetched here but handed over with Give, as at an agent.
	Given bool

	client *http.Client // for tests; nil: one that is bounded, and does not go to link-local addresses
}

// Keeper holds lists that were fetched over a restart. The store is one. It is called by one goroutine, with no lock held.
type Keeper interface {
	// KeptLists returns everything that is kept.
	KeptLists(ctx context.Context) ([]Fetched, error)
	// KeepList replaces what is kept for that authority and address.
	KeepList(ctx context.Context, f Fetched) error
}

// Fetched is what was fetched from one address for one authority.
type Fetched struct {
	Authority    string // its ID
	URL          string
	Body         []byte            // as it came; must not be changed. Nil where only Checked has changed
	Digest       [sha256.Size]byte // of Body
	ETag         string
	LastModified string
	Checked      time.Time // when the server said last that this is the newest
}

// Registry holds the newest snapshot, and fetches what it is made from. It is safe for concurrent use, and runs until
// Close.
type Registry struct {
	now     func() time.Time
	log     *slog.Logger
	changed func()
	keep    Keeper
	given   bool
	client  *http.Client
	answers answers

	current atomic.Pointer[Snapshot]
	stop    context.CancelFunc
	stopped context.Context
	wake    chan struct{} // holds one notice
	workers sync.WaitGroup

	mu      sync.Mutex // guards what snapshots are made of; never held while something is waited for
	config  *termination.Config
	parsed  map[digest]*list      // lists of the configuration
	sources map[sourceKey]*source // by authority and address
	waiting map[sourceKey]Fetched // handed over, or kept, for an authority that is not there yet
	running bool
	closed  bool
}

// New returns a registry in which nothing is blocked or revoked.
func New(o Options) *Registry {
	r := &Registry{
		now: o.Now, log: o.Log, changed: o.Changed, keep: o.Keep, given: o.Given, client: o.client,
		config: &termination.Config{}, parsed: map[digest]*list{}, sources: map[sourceKey]*source{},
		waiting: map[sourceKey]Fetched{}, wake: make(chan struct{}, 1),
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.client == nil {
		r.client = newClient()
	}
	r.answers.init()
	r.stopped, r.stop = context.WithCancel(context.Background())
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

// Apply goes by a configuration from now on. What has to be fetched for it is fetched in the background.
func (r *Registry) Apply(config *termination.Config) {
	r.mu.Lock()
	r.config = config
	r.configure()
	if !r.running && !r.closed && r.busy() {
		r.running = true
		r.workers.Go(r.run)
	}
	changed := r.publish()
	r.mu.Unlock()
	r.nudge()
	r.tell(changed)
}

// busy reports whether time changes anything in what the registry knows.
func (r *Registry) busy() bool {
	for i := range r.config.Authorities {
		if rev := &r.config.Authorities[i].Revocation; len(rev.CRLs)+len(rev.CRLURLs) > 0 || rev.OCSPURL != "" {
			return true
		}
	}
	return false
}

// Close ends everything, and returns when it has ended.
func (r *Registry) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.answers.mu.Lock()
	r.answers.closed = true
	r.answers.mu.Unlock()
	r.stop()
	r.workers.Wait()
	r.client.CloseIdleConnections()
}

func (r *Registry) tell(changed bool) {
	if changed && r.changed != nil {
		r.changed()
	}
}

func (r *Registry) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// publish makes a snapshot of what is there, and reports whether it decides otherwise than the one before. The lock is
// held.
func (r *Registry) publish() bool {
	before := r.current.Load()
	next := r.snapshot()
	if next.blocks.key == before.blocks.key && next.key == before.key {
		return false
	}
	next.generation = r.nextGeneration(before)
	r.current.Store(next)
	return true
}

// nextGeneration goes up, across restarts too as long as the clock does.
func (r *Registry) nextGeneration(before *Snapshot) uint64 {
	return max(before.generation+1, uint64(max(r.now().UnixMilli(), 0)))
}

// reconsider makes everybody look again although no list has changed, as after an answer of a responder.
func (r *Registry) reconsider() {
	r.mu.Lock()
	next := *r.current.Load()
	next.generation = r.nextGeneration(&next)
	r.current.Store(&next)
	r.mu.Unlock()
	r.tell(true)
}
