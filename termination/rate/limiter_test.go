package rate

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign/termination"
)

// clock is set by hand.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func identity(id string, rate termination.Rate) termination.Identity {
	return termination.Identity{ID: id, Name: "name of " + id, Rate: rate}
}

func config(identities ...termination.Identity) *termination.Config {
	return &termination.Config{Identities: identities}
}

func TestTokens(t *testing.T) {
	c := &clock{time.Unix(1_000_000, 0)}
	l := New(c.now)
	bounded, free := identity("a", termination.Rate{Count: 2, Per: time.Second, Burst: 3}), identity("b", termination.Rate{})
	l.Apply(config(bounded, free))
	for range 3 {
		if wait := l.Take(&bounded); wait != 0 {
			t.Fatalf("within the burst: wait %s", wait)
		}
	}
	for range 2 { // looking, and being refused, costs nothing
		if l.Peek(&bounded) != 500*time.Millisecond || l.Take(&bounded) != 500*time.Millisecond {
			t.Fatalf("after the burst: wait %s", l.Peek(&bounded))
		}
	}
	c.at = c.at.Add(500 * time.Millisecond)
	if l.Peek(&bounded) != 0 || l.Take(&bounded) != 0 || l.Take(&bounded) == 0 {
		t.Error("half a second gives one token")
	}
	c.at = c.at.Add(time.Hour)
	for range 3 {
		if l.Take(&bounded) != 0 {
			t.Error("a long rest fills the bucket")
		}
	}
	if l.Take(&bounded) == 0 {
		t.Error("a long rest gives more than the burst")
	}
	c.at = c.at.Add(-24 * time.Hour)
	if wait := l.Take(&bounded); wait > 500*time.Millisecond {
		t.Errorf("the clock was set back: wait %s", wait)
	}
	for range 100 {
		if l.Take(&free) != 0 || l.Take(nil) != 0 || (*Limiter)(nil).Take(&bounded) != 0 {
			t.Fatal("bounded without a rate")
		}
	}
}

// TestConfigurationChanges: who keeps the rate keeps the bucket, a new rate begins with a full one, and what is gone
// leaves nothing behind.
func TestConfigurationChanges(t *testing.T) {
	c := &clock{time.Unix(1_000_000, 0)}
	l := New(c.now)
	rate := termination.Rate{Count: 1, Per: time.Hour}
	a := identity("a", rate)
	l.Apply(config(a))
	if l.Take(&a) != 0 || l.Take(&a) != time.Hour {
		t.Fatal("one in an hour")
	}
	renamed := a
	renamed.Name, renamed.Blocked = "another", true
	l.Apply(config(renamed, identity("b", rate)))
	if l.Take(&renamed) == 0 {
		t.Error("a change that is not the rate's filled the bucket")
	}
	raised := a
	raised.Rate.Count = 2
	l.Apply(config(raised))
	if l.Take(&raised) != 0 || len(l.buckets) != 1 {
		t.Errorf("%d buckets", len(l.buckets))
	}
	l.Apply(config())
	if l.Take(&raised) != 0 || len(l.buckets) != 0 {
		t.Errorf("%d buckets", len(l.buckets))
	}
}

func TestConcurrentTakes(t *testing.T) {
	c := &clock{time.Unix(1_000_000, 0)}
	l := New(c.now)
	a := identity("a", termination.Rate{Count: 1, Per: time.Hour, Burst: 100})
	l.Apply(config(a))
	var in atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				if l.Take(&a) == 0 {
					in.Add(1)
				}
			}
		})
	}
	all.Wait()
	if in.Load() != 100 {
		t.Errorf("%d came in, of a burst of 100", in.Load())
	}
}
