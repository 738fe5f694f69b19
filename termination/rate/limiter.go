package rate

import (
	"sync"
	"time"

	"countersign/termination"
)

// Limiter holds a token bucket for each identity with a rate, shared by all endpoints of a gateway. It is safe for
// concurrent use.
type Limiter struct {
	now func() time.Time

	mu      sync.Mutex
	buckets map[string]*bucket // by ID of the identity
}

// bucket is a token bucket kept as one time, the generic cell rate algorithm (ITU-T I.371): the moment at which it will be
// full again. A token costs one interval, and may be taken as long as the bucket is not further than burst from full.
type bucket struct {
	rate     termination.Rate
	interval time.Duration // between two tokens
	burst    time.Duration // what may be taken at once, less one token
	full     time.Time
}

// New returns a limiter that bounds nobody until Apply.
func New(now func() time.Time) *Limiter {
	if now == nil {
		now = time.Now
	}
	return &Limiter{now: now, buckets: map[string]*bucket{}}
}

// Apply goes by a configuration from now on. An identity whose rate did not change keeps its bucket.
func (l *Limiter) Apply(config *termination.Config) {
	next := map[string]*bucket{}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range config.Identities {
		identity := &config.Identities[i]
		if !identity.Rate.Limited() || identity.Rate.Per <= 0 {
			continue
		}
		key := keyOf(identity)
		if b := l.buckets[key]; b != nil && b.rate == identity.Rate {
			next[key] = b
			continue
		}
		interval := max(identity.Rate.Per/time.Duration(identity.Rate.Count), 1)
		next[key] = &bucket{rate: identity.Rate, interval: interval, burst: interval * time.Duration(identity.Rate.AtOnce()-1)}
	}
	l.buckets = next
}

// Take takes a token of an identity. Where there is none left it returns how long it takes until there is one, else 0. An
// identity without a rate, and nil, are not bounded.
func (l *Limiter) Take(identity *termination.Identity) (wait time.Duration) {
	return l.take(identity, true)
}

// Peek is Take without taking: for a client that has not proven its key yet, so that no stranger uses up what belongs to
// another by showing a certificate that is not his.
func (l *Limiter) Peek(identity *termination.Identity) (wait time.Duration) {
	return l.take(identity, false)
}

func (l *Limiter) take(identity *termination.Identity, really bool) time.Duration {
	if l == nil || identity == nil {
		return 0
	}
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[keyOf(identity)]
	if b == nil {
		return 0
	}
	full := b.full
	if full.Before(now) {
		full = now
	} else if most := now.Add(b.burst + b.interval); full.After(most) {
		full = most // the clock was set back: nobody waits for longer than an empty bucket takes
	}
	if wait := full.Sub(now) - b.burst; wait > 0 {
		return wait
	}
	if really {
		b.full = full.Add(b.interval)
	}
	return 0
}

// keyOf is the same for an identity across configurations, whatever it is called.
func keyOf(i *termination.Identity) string {
	if i.ID != "" {
		return i.ID
	}
	return i.Name
}
