package acme

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// State says how the certificate of a name is doing.
type State string

// The states of a name.
const (
	StateObtaining State = "obtaining" // an attempt is in flight, or waits for its turn
	StateOK        State = "ok"
	StateFailed    State = "failed" // it is tried again at NextTry; a certificate from before goes on answering
)

// NameStatus tells how the certificate of one name is doing.
type NameStatus struct {
	Name    string
	State   State
	Error   string // of the last attempt, in the CA's own words; hostile text
	LastTry time.Time
	NextTry time.Time         // of the next attempt, or the renewal
	Leaf    *x509.Certificate // that is there; nil: none yet
}

// Status is how everything is doing.
type Status struct {
	Directory string
	Listener  string       // why challenges over HTTP cannot be answered; empty: they can, or need not
	Names     []NameStatus // sorted
}

// Status tells how the certificates are doing.
func (m *Manager) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Status{Directory: m.settings.Directory}
	if m.listener != nil {
		s.Listener = m.listener.problem()
	}
	for _, j := range m.jobs {
		j.mu.Lock()
		s.Names = append(s.Names, j.status)
		j.mu.Unlock()
	}
	slices.SortFunc(s.Names, func(a, b NameStatus) int { return cmp.Compare(a.Name, b.Name) })
	return s
}

// Retry tries a name now that waits for its next try. It reports whether there is such a name.
func (m *Manager) Retry(name string) bool {
	m.mu.Lock()
	j := m.jobs[name]
	m.mu.Unlock()
	if j == nil {
		return false
	}
	select {
	case j.now <- struct{}{}:
	default: // it wakes up already
	}
	return true
}

// limited reports whether the CA says that we ask too often.
func limited(err error) bool {
	var p acme.Problem
	return errors.As(err, &p) && (p.Status == http.StatusTooManyRequests || p.Type == acme.ProblemTypeRateLimited)
}

// words says what the CA said, and otherwise what went wrong.
func words(err error) string {
	var p acme.Problem
	if !errors.As(err, &p) {
		said, _, _ := strings.Cut(err.Error(), " (order=")
		return short(said)
	}
	said := p.Detail
	for _, sub := range p.Subproblems {
		said += "; " + sub.Identifier.Value + ": " + sub.Detail
	}
	if said == "" {
		said = p.Title
	}
	kind := strings.TrimPrefix(p.Type, "urn:ietf:params:acme:error:")
	switch p.Type {
	case acme.ProblemTypeRateLimited:
		return "the CA says that it was asked too often: " + short(said)
	case "":
		return fmt.Sprintf("the CA answered with status %d: %s", p.Status, short(said))
	}
	return "the CA says (" + short(kind) + "): " + short(said)
}
