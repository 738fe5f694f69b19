package terminate

import (
	"crypto/rand"
	"sync"
	"time"
)

const (
	ticketKeyLife   = 7 * 24 * time.Hour // as long as crypto/tls takes a ticket
	ticketKeyPeriod = 24 * time.Hour     // for as long one key makes tickets; both as crypto/tls has them by itself
)

// tickets are the ticket keys of one terminator. They are shared with no other and kept nowhere else.
type tickets struct {
	mu   sync.Mutex
	made []ticketKey // the newest first
}

type ticketKey struct {
	key  [32]byte
	made time.Time
}

// keys returns the keys that open tickets now, that which makes them first.
func (t *tickets) keys(now time.Time) [][32]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.made) == 0 || now.Sub(t.made[0].made) >= ticketKeyPeriod {
		next := ticketKey{made: now}
		_, _ = rand.Read(next.key[:]) // never fails
		t.made = append([]ticketKey{next}, t.made...)
	}
	out := make([][32]byte, 0, len(t.made))
	for i, k := range t.made {
		if i > 0 && now.Sub(k.made) >= ticketKeyLife {
			clear(t.made[i:])
			t.made = t.made[:i]
			break
		}
		out = append(out, k.key)
	}
	return out
}
