package revocation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"

	"countersign/termination"
	"countersign/termination/outbound"
)

const (
	// AskTime is how long a handshake waits for a responder.
	AskTime = 2 * time.Second
	// answerTime is how long a responder may take until nobody waits any more.
	answerTime = 10 * time.Second
	maxAnswer  = 64 << 10 // bytes; answers have one or two kB
	maxAnswers = 8192     // that are kept
	maxAsking  = 64       // questions under way
	// Bounds of how long an answer counts: without an end of its own, and in any case.
	defaultLife = time.Hour
	maxLife     = 7 * 24 * time.Hour
	// renewFor is how long after a client was judged by it last an answer is renewed before it ends.
	renewFor = 24 * time.Hour
	// silence is how long a responder that did not answer is left alone. Every handshake would wait for it.
	silence = 10 * time.Second
	// doubt is how long an answer that helps nobody is remembered.
	doubt = time.Minute
)

type answerKey [sha256.Size]byte

// Question is one that a responder would have to be asked.
type Question struct {
	URL          string // of the responder that the authority names
	cert, issuer *x509.Certificate
	key          answerKey
}

func keyOfAnswer(cert, issuer *x509.Certificate) answerKey {
	h := sha256.New()
	h.Write(cert.Raw)
	h.Write(issuer.RawSubject)
	h.Write(issuer.RawSubjectPublicKeyInfo)
	var k answerKey
	h.Sum(k[:0])
	return k
}

// answer is what a responder has said, checked.
type answer struct {
	from, until time.Time
	revoked     bool
	entry       entry
	problem     string   // it helps nobody, until then
	question    Question // that it answers; without a URL for what clients have sent
	asked       time.Time
	used        time.Time
}

// answers are what responders have said lately.
type answers struct {
	mu     sync.Mutex
	known  map[answerKey]*answer
	asking map[answerKey]chan struct{} // closed when that question is over
	silent map[string]time.Time        // responders that are left alone, until then
	closed bool
}

func (a *answers) init() {
	a.known, a.asking, a.silent = map[answerKey]*answer{}, map[answerKey]chan struct{}{}, map[string]time.Time{}
}

// get returns a copy of the answer that counts now, and notes that it was used.
func (a *answers) get(k answerKey, now time.Time) (answer, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	found := a.known[k]
	if found == nil {
		return answer{}, false
	}
	found.used = now
	return *found, now.Before(found.until)
}

// put keeps an answer, unless a newer one is there: an old one, signed once, may be sent again. It reports whether the
// certificate was known as good, or not at all, and now is revoked.
func (a *answers) put(k answerKey, n *answer, now time.Time) (turned bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.known[k]
	switch {
	case old == nil:
	case n.problem != "" && (old.revoked || old.problem == "" && now.Before(old.until)):
		return false // no answer takes nothing back
	case n.problem == "" && n.from.Before(old.from):
		return false
	}
	if old == nil && len(a.known) >= maxAnswers {
		a.makeRoom(now)
	}
	n.used = now
	if old != nil {
		n.used = old.used
		if n.question.URL == "" {
			n.question = old.question
		}
	}
	a.known[k] = n
	return n.revoked && (old == nil || !old.revoked)
}

// makeRoom forgets answers that have ended, or else some. The lock is held.
func (a *answers) makeRoom(now time.Time) {
	for k, old := range a.known {
		if !now.Before(old.until) {
			delete(a.known, k)
		}
	}
	for k := range a.known {
		if len(a.known) < maxAnswers {
			return
		}
		delete(a.known, k)
	}
}

// answered looks for an answer about one certificate, and reports whether a fresh one clears it.
func (s *Snapshot) answered(out *Finding, a *authority, q query, listed bool) (known bool) {
	if s.answers == nil {
		return false
	}
	key := keyOfAnswer(q.cert, q.issuer)
	found, fresh := s.answers.get(key, q.now)
	if len(q.staple) > 0 && (!fresh || found.problem != "") {
		if n, err := checkAnswer(q.staple, q.cert, q.issuer, q.now); err == nil {
			n.question = Question{cert: q.cert, issuer: q.issuer, key: key}
			s.answers.put(key, n, q.now)
			found, fresh = s.answers.get(key, q.now)
		}
	}
	if fresh && found.problem == "" || found.revoked {
		if found.revoked {
			out.Revoked, out.Detail = q.cert, found.says()
			return false
		}
		return true
	}
	// CAs below the anchor are asked about only where something hangs on it.
	leaf := !(q.cert.BasicConstraintsValid && q.cert.IsCA)
	if a.responder != "" && (leaf || !listed && a.mode == termination.RevocationHard) && !(fresh && found.problem != "") {
		out.Ask = append(out.Ask, Question{URL: a.responder, cert: q.cert, issuer: q.issuer, key: key})
	}
	return false
}

func (a answer) says() string {
	s := "It was revoked on " + date(a.entry.time)
	if reason := termination.RevocationReason(a.entry.reason); reason != "" {
		s += " (" + reason + ")"
	}
	return s + ", says the OCSP responder of its CA, as of " + date(a.from) + "."
}

// Ask asks responders and waits for them until ctx ends. It reports whether something may have become known. A question
// goes on without those who wait, for those who come next.
func (r *Registry) Ask(ctx context.Context, questions []Question) bool {
	if r == nil {
		return false
	}
	waited := false
	for _, q := range questions {
		over := r.begin(q)
		if over == nil {
			continue
		}
		select {
		case <-over:
			waited = true
		case <-ctx.Done():
			return waited
		}
	}
	return waited
}

// AskLater asks responders without waiting.
func (r *Registry) AskLater(questions []Question) {
	if r == nil {
		return
	}
	for _, q := range questions {
		r.begin(q)
	}
}

// begin asks one question in the background, unless it is under way. It returns what is closed when it is over; nil: it is
// not asked now.
func (r *Registry) begin(q Question) <-chan struct{} {
	a := &r.answers
	a.mu.Lock()
	defer a.mu.Unlock()
	if over := a.asking[q.key]; over != nil {
		return over
	}
	if a.closed || len(a.asking) >= maxAsking || r.now().Before(a.silent[q.URL]) {
		return nil
	}
	over := make(chan struct{})
	a.asking[q.key] = over
	r.workers.Go(func() {
		turned := r.answer(q)
		a.mu.Lock()
		delete(a.asking, q.key)
		a.mu.Unlock()
		if turned {
			r.reconsider()
		}
		close(over)
	})
	return over
}

// answer asks one question, and keeps what was said.
func (r *Registry) answer(q Question) (turned bool) {
	ctx, cancel := context.WithTimeout(r.stopped, answerTime)
	defer cancel()
	der, err := r.post(ctx, q)
	a := &r.answers
	if err != nil {
		if r.stopped.Err() == nil {
			r.log.Warn("an OCSP responder did not answer", "url", q.URL, "error", err)
		}
		a.mu.Lock()
		if len(a.silent) > termination.MaxCRLSources {
			clear(a.silent)
		}
		a.silent[q.URL] = r.now().Add(silence)
		a.mu.Unlock()
		return false
	}
	a.mu.Lock()
	delete(a.silent, q.URL)
	a.mu.Unlock()
	now := r.now()
	n, err := checkAnswer(der, q.cert, q.issuer, now)
	if err != nil {
		r.log.Warn("an OCSP responder's answer is of no use", "url", q.URL, "error", err)
		n = &answer{until: now.Add(doubt), problem: err.Error()}
	}
	n.question, n.asked = q, now
	return a.put(q.key, n, now)
}

// post sends a question (RFC 6960, appendix A.1).
func (r *Registry) post(ctx context.Context, q Question) ([]byte, error) {
	question, err := ocsp.CreateRequest(q.cert, q.issuer, nil)
	if err != nil {
		return nil, fmt.Errorf("write the question: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, q.URL, bytes.NewReader(question))
	if err != nil {
		return nil, errors.New("the address cannot be read")
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	req.Header.Set("Accept", "application/ocsp-response")
	req.Header.Set("User-Agent", "countersign")
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, outbound.WithoutURL(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it says %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	der, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, outbound.WithoutURL(err)
	}
	if len(der) > maxAnswer {
		return nil, fmt.Errorf("its answer has more than %d bytes", maxAnswer)
	}
	return der, nil
}

// checkAnswer reads an answer and refuses what RFC 6960, section 3.2, does not accept.
func checkAnswer(der []byte, cert, issuer *x509.Certificate, now time.Time) (*answer, error) {
	if len(der) > maxAnswer {
		return nil, fmt.Errorf("it has more than %d bytes", maxAnswer)
	}
	if err := checkResponder(der); err != nil {
		return nil, fmt.Errorf("it cannot be used: %w", err)
	}
	said, err := ocsp.ParseResponseForCert(der, cert, issuer)
	if err != nil {
		return nil, fmt.Errorf("it cannot be used: %w", err)
	}
	if d := said.Certificate; d != nil && !d.Equal(issuer) {
		// The library checks that the issuer signed it; any certificate of that CA would do. Section 4.2.2.2 wants more.
		if !slices.Contains(d.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) || now.Before(d.NotBefore) || now.After(d.NotAfter) {
			return nil, errors.New("it is signed by one who may not speak for the CA")
		}
	}
	n := &answer{from: said.ThisUpdate, until: said.NextUpdate, revoked: said.Status == ocsp.Revoked}
	if n.until.IsZero() {
		n.until = n.from.Add(defaultLife)
	}
	if last := n.from.Add(maxLife); n.until.After(last) {
		n.until = last
	}
	switch {
	case said.Status == ocsp.Unknown:
		return nil, errors.New("the responder does not know the certificate")
	case n.from.After(now.Add(skew)):
		return nil, fmt.Errorf("it holds from %s only; compare the clocks", n.from.UTC().Format(time.RFC3339))
	case !n.until.Add(skew).After(now):
		return nil, fmt.Errorf("it ended at %s", n.until.UTC().Format(time.RFC3339))
	}
	n.until = n.until.Add(skew)
	n.entry = entry{time: said.RevokedAt, reason: said.RevocationReason}
	return n, nil
}

// renewAnswers asks again, before an answer ends by which clients were judged lately: live connections are judged by it
// too, and nobody is waiting there. What has ended and is not used any more is forgotten.
func (r *Registry) renewAnswers() {
	now := r.now()
	var again []Question
	ended := false
	a := &r.answers
	a.mu.Lock()
	for k, n := range a.known {
		recent := now.Sub(n.used) < renewFor
		asked := n.asked
		if asked.IsZero() {
			asked = n.from
		}
		switch {
		case now.Before(n.until) && n.problem == "" && n.question.URL != "" && recent && now.Sub(asked) > n.until.Sub(asked)/2:
			again = append(again, n.question)
		case n.revoked && recent: // it does not come back because its answer is old
			if !now.Before(n.until) && n.question.URL != "" {
				again = append(again, n.question)
			}
		case !now.Before(n.until):
			ended = ended || n.problem == "" && recent
			delete(a.known, k)
		}
	}
	a.mu.Unlock()
	if len(again) > maxAsking/2 {
		again = again[:maxAsking/2]
	}
	r.AskLater(again)
	if ended {
		r.reconsider()
	}
}
