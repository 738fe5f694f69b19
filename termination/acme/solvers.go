package acme

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"countersign/termination"
	"countersign/termination/servercert"
)

type nameKey struct{}

// ownName has a challenge answered only for the name that is being obtained, whatever names the CA speaks of.
type ownName struct{ acmez.Solver }

func (s ownName) Present(ctx context.Context, c acme.Challenge) error {
	name, _ := ctx.Value(nameKey{}).(string)
	if c.Identifier.Value != strings.TrimPrefix(name, "*.") {
		return fmt.Errorf("the CA wants a proof for %q, which was not asked for", short(c.Identifier.Value))
	}
	return s.Solver.Present(ctx, c)
}

// Wait implements acmez.Waiter where the solver does.
func (s ownName) Wait(ctx context.Context, c acme.Challenge) error {
	if w, ok := s.Solver.(acmez.Waiter); ok {
		return w.Wait(ctx, c)
	}
	return nil
}

// alpnSolver has the gateway answer TLS-ALPN-01 challenges (RFC 8737).
type alpnSolver struct{ obtained *servercert.Obtained }

var _ acmez.Solver = alpnSolver{}

func (s alpnSolver) Present(_ context.Context, c acme.Challenge) error {
	cert, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return fmt.Errorf("make the certificate of the challenge: %w", err)
	}
	s.obtained.Present(c.Identifier.Value, cert)
	return nil
}

func (s alpnSolver) CleanUp(_ context.Context, c acme.Challenge) error {
	s.obtained.Withdraw(c.Identifier.Value)
	return nil
}

// tokens answer HTTP-01 challenges in flight (RFC 8555, section 8.3).
type tokens struct {
	mu      sync.RWMutex
	answers map[string]string // by name and path
}

var _ acmez.Solver = (*tokens)(nil)

func (t *tokens) Present(_ context.Context, c acme.Challenge) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.answers == nil {
		t.answers = map[string]string{}
	}
	t.answers[c.Identifier.Value+c.HTTP01ResourcePath()] = c.KeyAuthorization
	return nil
}

func (t *tokens) CleanUp(_ context.Context, c acme.Challenge) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.answers, c.Identifier.Value+c.HTTP01ResourcePath())
	return nil
}

// ServeHTTP answers challenges in flight for the name that was asked, and 404 to all else.
func (t *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	name, err := termination.NormalizeName(strings.Trim(host, "[]"))
	get := r.Method == http.MethodGet || r.Method == http.MethodHead
	t.mu.RLock()
	answer := t.answers[name+r.URL.Path]
	t.mu.RUnlock()
	if err != nil || !get || answer == "" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write([]byte(answer)) // the CA asks again
}
