package credential

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"countersign/termination"
)

// Errors of [Checker.Check].
var (
	ErrWrong  = errors.New("there is no such credential")
	ErrSlowed = errors.New("too many wrong credentials came from there")
	ErrBusy   = errors.New("too many passwords are being checked")
)

const (
	// maxAtOnce bounds the passwords that are checked at the same time, each on a core of its own.
	maxAtOnce = 2
	// maxWaiting and maxWaitingPerAddress bound those that wait, so that one client cannot keep all others waiting.
	maxWaiting           = 64
	maxWaitingPerAddress = 4
	maxWait              = 5 * time.Second
	// guessProof is the length from which on a token is not found by trying: its holder need not wait for what others at the
	// same address do wrong.
	guessProof = 32
)

// Options are what a checker needs.
type Options struct {
	Now func() time.Time // nil: time.Now
}

// Checker checks credentials, under whatever configuration. It is safe for concurrent use.
type Checker struct {
	now   func() time.Time
	key   []byte // of this process: what is remembered of secrets is of no use elsewhere
	slots chan struct{}
	right rightOnes
	wrong *failures

	mu      sync.Mutex
	waiting int
	from    map[netip.Prefix]int
	used    map[string]time.Time // by ID
}

// New returns a checker that remembers nothing.
func New(o Options) *Checker {
	if o.Now == nil {
		o.Now = time.Now
	}
	key := make([]byte, sha256.Size)
	rand.Read(key) // never fails since Go 1.24
	// On a machine with few cores, passwords leave one for everything else.
	slots := min(maxAtOnce, max(1, runtime.GOMAXPROCS(0)/2))
	return &Checker{
		now: o.Now, key: key, slots: make(chan struct{}, slots), wrong: newFailures(),
		from: map[netip.Prefix]int{}, used: map[string]time.Time{},
	}
}

// Check returns the credential that a client has presented, from an address. It may be one that does not count where it
// is used: see [Usable]. The error is [ErrWrong], [ErrSlowed] or [ErrBusy], or the end of ctx.
func (c *Checker) Check(ctx context.Context, set *Set, p Presented, from netip.Addr) (*termination.Credential, error) {
	switch p.Kind {
	case termination.ProofBearer:
		return c.bearer(set, p, from)
	case termination.ProofBasic:
		return c.basic(ctx, set, p, from)
	default:
		return nil, ErrWrong
	}
}

// Failed notes that what came from an address was of no use: a wrong secret, or one that does not count there.
func (c *Checker) Failed(from netip.Addr) { c.wrong.add(from, c.now()) }

func (c *Checker) bearer(set *Set, p Presented, from netip.Addr) (*termination.Credential, error) {
	found := set.token(p.secret)
	if (found == nil || len(p.secret) < guessProof) && c.wrong.full(from, c.now()) {
		return nil, ErrSlowed
	}
	if found == nil {
		return nil, ErrWrong
	}
	return found, nil
}

func (c *Checker) basic(ctx context.Context, set *Set, p Presented, from netip.Addr) (*termination.Credential, error) {
	if c.wrong.full(from, c.now()) {
		return nil, ErrSlowed
	}
	if len(p.secret) > maxPassword {
		return nil, ErrWrong // whoever the user is
	}
	found, hash := set.password(p.User, c.key)
	if hash == "" {
		return nil, ErrWrong
	}
	remembered := string(mac(c.key, "right", hash, p.User, p.secret))
	if found != nil && c.right.has(remembered, c.now()) {
		return found, nil
	}
	if err := c.enter(ctx, from); err != nil {
		return nil, err
	}
	err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(p.secret))
	c.leave()
	if err != nil || found == nil {
		return nil, ErrWrong
	}
	c.right.add(remembered, c.now())
	return found, nil
}

// enter waits for one of the slots, if not too many wait already.
func (c *Checker) enter(ctx context.Context, from netip.Addr) error {
	network := networkOf(from)
	c.mu.Lock()
	if c.waiting >= maxWaiting || c.from[network] >= maxWaitingPerAddress {
		c.mu.Unlock()
		return ErrBusy
	}
	c.waiting++
	c.from[network]++
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.waiting--
		if c.from[network]--; c.from[network] == 0 {
			delete(c.from, network)
		}
		c.mu.Unlock()
	}()
	patience := time.NewTimer(maxWait)
	defer patience.Stop()
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-patience.C:
		return ErrBusy
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Checker) leave() { <-c.slots }

// Used notes that a credential let a request in.
func (c *Checker) Used(credential *termination.Credential) {
	now := c.now()
	c.mu.Lock()
	c.used[credential.ID] = now
	c.mu.Unlock()
}

// Uses returns when credentials were last used, by ID, since the last call.
func (c *Checker) Uses() map[string]time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.used
	c.used = map[string]time.Time{}
	return out
}

// mac is a keyed hash of texts; no two lists of texts are written alike.
func mac(key []byte, texts ...string) []byte {
	h := hmac.New(sha256.New, key)
	for _, t := range texts {
		n := len(t)
		h.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) //nolint:gosec // the bytes of a number
		h.Write([]byte(t))
	}
	return h.Sum(nil)
}

const (
	rightFor   = 10 * time.Minute
	rightsKept = 4096
)

// rightOnes remembers passwords that were right, as keyed hashes, in two generations: when the newer is full it becomes
// the older, and what nobody used since is forgotten.
type rightOnes struct {
	mu           sync.Mutex
	newer, older map[string]time.Time // until when
}

func (r *rightOnes) has(key string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	until, ok := r.newer[key]
	if !ok {
		if until, ok = r.older[key]; ok {
			r.put(key, until)
		}
	}
	return ok && now.Before(until)
}

func (r *rightOnes) add(key string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(key, now.Add(rightFor))
}

func (r *rightOnes) put(key string, until time.Time) {
	if r.newer == nil || len(r.newer) >= rightsKept {
		r.newer, r.older = map[string]time.Time{}, r.newer
	}
	r.newer[key] = until
}
