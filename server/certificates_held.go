package server

import (
	"bytes"
	"crypto/rand"
	"sync"
	"time"
)

const (
	heldFor        = 10 * time.Minute // how long the files of a fresh certificate can be downloaded
	heldPerSession = 8
	heldInAll      = 64
)

// heldFile is one file of a fresh certificate.
type heldFile struct {
	name      string // safe in a header and as a file's name
	mediaType string
	data      []byte
}

// heldFiles keeps the files of fresh certificates in memory, private keys among them, for the session that issued them
// and for a few minutes. Then they are wiped.
type heldFiles struct {
	now func() time.Time

	mu   sync.Mutex
	sets []*heldSet // oldest first
}

type heldSet struct {
	id      string
	session string
	until   time.Time
	files   map[string]heldFile
	timer   *time.Timer
}

func newHeldFiles(now func() time.Time) *heldFiles { return &heldFiles{now: now} }

// add keeps files for a session and returns the random ID under which they can be had, and until when. Where a session
// has too many, or all together have, the oldest go.
func (h *heldFiles) add(session string, files map[string]heldFile) (id string, until time.Time) {
	set := &heldSet{id: rand.Text(), session: session, until: h.now().Add(heldFor), files: files}
	h.mu.Lock()
	defer h.mu.Unlock()
	own := 0
	for _, s := range h.sets {
		if s.session == session {
			own++
		}
	}
	if own >= heldPerSession {
		h.dropFirst(func(s *heldSet) bool { return s.session == session })
	}
	if len(h.sets) >= heldInAll {
		h.dropFirst(func(*heldSet) bool { return true })
	}
	// By the clock of the machine, so that nothing outlives its time where nobody asks again.
	set.timer = time.AfterFunc(heldFor, func() { h.drop(set.id) })
	h.sets = append(h.sets, set)
	return set.id, set.until
}

// get returns a copy of a file, if that session may have it still.
func (h *heldFiles) get(session, id, file string) (heldFile, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sets {
		if s.id != id || s.session != session {
			continue
		}
		if !h.now().Before(s.until) {
			h.dropFirst(func(other *heldSet) bool { return other == s })
			return heldFile{}, false
		}
		f, ok := s.files[file]
		f.data = bytes.Clone(f.data)
		return f, ok
	}
	return heldFile{}, false
}

func (h *heldFiles) drop(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropFirst(func(s *heldSet) bool { return s.id == id })
}

// dropFirst wipes the oldest set that fits. The lock is held.
func (h *heldFiles) dropFirst(fits func(*heldSet) bool) {
	for i, s := range h.sets {
		if !fits(s) {
			continue
		}
		s.timer.Stop()
		for _, f := range s.files {
			clear(f.data)
		}
		h.sets = append(h.sets[:i], h.sets[i+1:]...)
		return
	}
}
