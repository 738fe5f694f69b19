// Package staple keeps an answer of the responder beside each server certificate that names one, so that clients need not ask
// for it themselves (OCSP stapling, RFC 6066, section 8, and RFC 8446, section 4.4.2.1). Only addresses in our own
// certificates are asked, in the background: a handshake takes what is there.
package staple

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"countersign/termination/servercert"
)

const (
	// atOnce is how many responders are asked at a time.
	atOnce = 4
	// lookAgain is how often the clock is looked at, so that one that was set is noticed.
	lookAgain = time.Minute
)

// Options are what a Stapler needs.
type Options struct {
	Log  *slog.Logger     // nil: discards
	Now  func() time.Time // nil: time.Now
	Look time.Duration    // how often the clock is looked at; 0: a minute
}

// Stapler keeps the answers for the certificates that are presented.
type Stapler struct {
	log     *slog.Logger
	now     func() time.Time
	look    time.Duration
	client  *http.Client
	slots   chan struct{}
	changed chan struct{}
	workers sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	watched map[string]*watch // by the leaf's DER
}

// New returns a Stapler that does nothing until Watch.
func New(o Options) *Stapler {
	s := &Stapler{
		log: o.Log, now: o.Now, look: o.Look, client: newClient(), slots: make(chan struct{}, atOnce),
		changed: make(chan struct{}, 1), watched: map[string]*watch{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.look == 0 {
		s.look = lookAgain
	}
	return s
}

// Status tells about the answer for one certificate.
type Status struct {
	Responder string    // its address; empty: the certificate names none
	Must      bool      // clients are told to refuse the certificate without an answer (RFC 7633)
	Until     time.Time // of the answer that is sent; zero: there is none
	Problem   string    // why there is none, or no newer one; empty: all is well
	Revoked   bool      // the responder says so
}

// watch is one certificate with its answer.
type watch struct {
	leaf, issuer *x509.Certificate
	cancel       context.CancelFunc

	mu     sync.Mutex
	answer []byte
	status Status
}

// Watch keeps answers for these chains from now on, and for no others. issuers are CA certificates that are known beside
// those in the chains: a root is not sent. It does not wait.
func (s *Stapler) Watch(chains []servercert.Chain, issuers []*x509.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	wanted := map[string]bool{}
	for _, c := range chains {
		leaf := c.Certificates[0]
		if len(leaf.OCSPServer) == 0 {
			continue
		}
		key := string(leaf.Raw)
		wanted[key] = true
		if w := s.watched[key]; w == nil || w.issuer == nil {
			s.watched[key] = s.start(leaf, append(slices.Clone(c.Certificates[1:]), issuers...))
		}
	}
	for key, w := range s.watched {
		if !wanted[key] {
			w.cancel()
			delete(s.watched, key)
		}
	}
}

func (s *Stapler) start(leaf *x509.Certificate, issuers []*x509.Certificate) *watch {
	w := &watch{leaf: leaf, cancel: func() {}, status: Status{Responder: leaf.OCSPServer[0], Must: Must(leaf)}}
	for _, c := range issuers {
		if w.issuer == nil && bytes.Equal(c.RawSubject, leaf.RawIssuer) && leaf.CheckSignatureFrom(c) == nil {
			w.issuer = c
		}
	}
	if w.issuer == nil {
		w.status.Problem = "its issuer is not known, so an answer could not be checked; upload the certificate with its intermediate"
		return w
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	s.workers.Go(func() { s.keep(ctx, w) })
	return w
}

// Changed receives after an answer came or went; several may be told at once.
func (s *Stapler) Changed() <-chan struct{} { return s.changed }

func (s *Stapler) tell() {
	select {
	case s.changed <- struct{}{}:
	default: // somebody is told already
	}
}

// Staple returns the answer to send with a certificate; nil where there is none.
func (s *Stapler) Staple(leaf *x509.Certificate) []byte {
	w := s.find(leaf)
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.answer
}

// Status tells about the answer for a certificate.
func (s *Stapler) Status(leaf *x509.Certificate) Status {
	w := s.find(leaf)
	if w == nil {
		return Status{Must: Must(leaf)}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

func (s *Stapler) find(leaf *x509.Certificate) *watch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watched[string(leaf.Raw)]
}

// Close ends everything and returns when it has ended.
func (s *Stapler) Close() {
	s.mu.Lock()
	s.closed = true
	for _, w := range s.watched {
		w.cancel()
	}
	s.mu.Unlock()
	s.workers.Wait()
	s.client.CloseIdleConnections()
}

// keep asks, holds the answer until half of its life is over, and asks again. An answer that has ended is dropped.
func (s *Stapler) keep(ctx context.Context, w *watch) {
	failures := 0
	for ctx.Err() == nil {
		a, err := s.ask(ctx, w)
		if ctx.Err() != nil {
			return
		}
		var next time.Time
		if err == nil {
			failures = 0
			next = a.refresh()
			w.take(a)
			s.tell()
		} else {
			failures++
			next = s.now().Add(backoff(failures))
			s.log.Warn("no answer to staple", "certificate", w.leaf.Subject.CommonName, "responder", w.status.Responder, "error", err)
			w.fail(err)
		}
		s.wait(ctx, w, next)
	}
}

// wait waits until next, and drops an answer that ends meanwhile.
func (s *Stapler) wait(ctx context.Context, w *watch, next time.Time) {
	for ctx.Err() == nil {
		now := s.now()
		if w.drop(now) {
			s.tell()
		}
		left := next.Sub(now)
		if left <= 0 {
			return
		}
		t := time.NewTimer(min(left, s.look))
		select {
		case <-ctx.Done():
			t.Stop()
		case <-t.C:
		}
	}
}

func (w *watch) take(a answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status.Problem, w.status.Revoked = "", a.revoked
	if a.revoked {
		// To send it would change nothing for clients that ask, and to hide it nothing for those that do not.
		w.answer, w.status.Until = nil, time.Time{}
		w.status.Problem = "the responder says that the certificate is revoked; replace it"
		return
	}
	w.answer, w.status.Until = a.der, a.until
}

func (w *watch) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status.Problem = err.Error()
}

// drop lets go of an answer that has ended, and reports whether it did.
func (w *watch) drop(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.answer == nil || now.Before(w.status.Until) {
		return false
	}
	w.answer, w.status.Until = nil, time.Time{}
	return true
}

// backoff is how long to wait after so many failures in a row. A fifth of it is chance.
func backoff(failures int) time.Duration {
	steps := [...]time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}
	d := steps[min(failures, len(steps))-1]
	return d - d/10 + rand.N(d/5) //nolint:gosec // no secret
}

// Must reports whether a certificate tells clients to refuse it without a stapled answer (RFC 7633: the feature
// status_request).
func Must(leaf *x509.Certificate) bool {
	const statusRequest = 5
	for _, e := range leaf.Extensions {
		if !e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}) {
			continue
		}
		var features []int
		rest, err := asn1.Unmarshal(e.Value, &features)
		return err == nil && len(rest) == 0 && slices.Contains(features, statusRequest)
	}
	return false
}
