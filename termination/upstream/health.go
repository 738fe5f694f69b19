package upstream

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// firstBreak is how long a target is out after its first failure; each further one in a row doubles it, up to
	// longestBreak.
	firstBreak   = time.Second
	longestBreak = time.Minute
	// mostBroken is how many connections in a row may break off before an answer begins: one such connection may be the
	// fault of what the client asked for.
	mostBroken = 3
	// maxError bounds the text of an error that is kept, in bytes.
	maxError = 500
)

// health is what is known of a target's health. The zero value is well, and marked says when that is not the whole
// truth, so that the path of every request needs no lock.
type health struct {
	marked atomic.Bool

	mu          sync.Mutex
	checkFailed bool
	failures    int       // connections in a row that could not be had
	broken      int       // connections in a row that broke off
	mute        bool      // it takes connections and answers nothing: only an answer, or a passed check, ends that
	until       time.Time // out of the choice until then; zero: in. Monotonic
	since       time.Time // of the present state
	lastError   string
	lastErrorAt time.Time
}

// available reports whether the target is to be chosen before others that are not.
func (h *health) available() bool {
	if !h.marked.Load() {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.checkFailed && (h.until.IsZero() || !time.Now().Before(h.until))
}

func (h *health) wellLocked() bool { return !h.checkFailed && h.until.IsZero() }

// change runs f under the lock, and reports whether the target has become well, or ceased to be. now is for people.
func (h *health) change(now time.Time, f func()) (changed, well bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.wellLocked()
	f()
	well = h.wellLocked()
	if before != well {
		h.since = now
	}
	h.marked.Store(!well || h.failures > 0 || h.broken > 0 || h.mute)
	return before != well, well
}

func (h *health) noteLocked(now time.Time, err error) {
	h.lastError, h.lastErrorAt = err.Error(), now
	if len(h.lastError) > maxError {
		h.lastError = h.lastError[:maxError]
	}
}

// failed takes the target out for a while. Failures of connections that were begun before it was out do not count.
func (h *health) failedLocked(now time.Time, err error) {
	h.noteLocked(now, err)
	if at := time.Now(); h.until.IsZero() || !at.Before(h.until) {
		pause := longestBreak
		if h.failures < 6 { // 1, 2, 4, 8, 16, 32 s
			pause = firstBreak << h.failures
		}
		h.failures++
		h.until = at.Add(pause)
	}
}
