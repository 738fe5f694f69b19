package staple

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"

	"countersign/termination/outbound"
)

const (
	askTime   = 10 * time.Second
	maxAnswer = 64 << 10 // answers have one or two kB
	// skew is by how much the responder's clock may be ahead of ours.
	skew = 5 * time.Minute
	// maxLife bounds how long an answer is sent, and that of one that does not say when it ends.
	maxLife     = 14 * 24 * time.Hour
	defaultLife = 12 * time.Hour
)

// answer is what a responder said, checked.
type answer struct {
	der     []byte
	from    time.Time
	until   time.Time
	revoked bool
}

// refresh is when half of the answer's life is over, give or take a tenth.
func (a answer) refresh() time.Time {
	half := a.until.Sub(a.from) / 2
	if half <= 0 {
		return a.until
	}
	return a.from.Add(half - half/10 + rand.N(half/5+1)) //nolint:gosec // no secret
}

// newClient speaks with responders: no proxy that would hide where we connect to, nothing on the machine's own links, no
// redirect to another place, and no connection that stays.
func newClient() *http.Client {
	return &http.Client{
		Timeout: askTime,
		Transport: &http.Transport{
			DialContext: outbound.Dialer(askTime).DialContext, DisableKeepAlives: true, TLSHandshakeTimeout: askTime,
			ResponseHeaderTimeout: askTime, MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 1 || r.URL.Host != via[0].URL.Host || r.URL.Scheme != via[0].URL.Scheme {
				return fmt.Errorf("it leads to %q, which is another place", r.URL.Redacted())
			}
			return nil
		},
	}
}

// ask asks the responder of a certificate and checks what it says.
func (s *Stapler) ask(ctx context.Context, w *watch) (answer, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
	at, err := url.Parse(w.leaf.OCSPServer[0])
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" {
		return answer{}, errors.New("the certificate's responder has no http address")
	}
	question, err := ocsp.CreateRequest(w.leaf, w.issuer, nil)
	if err != nil {
		return answer{}, fmt.Errorf("write the question: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), bytes.NewReader(question))
	if err != nil {
		return answer{}, fmt.Errorf("write the question: %w", err)
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	req.Header.Set("Accept", "application/ocsp-response")
	resp, err := s.client.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("ask the responder: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return answer{}, fmt.Errorf("the responder says %s", http.StatusText(resp.StatusCode))
	}
	der, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return answer{}, fmt.Errorf("read the responder's answer: %w", err)
	}
	if len(der) > maxAnswer {
		return answer{}, fmt.Errorf("the responder's answer has more than %d bytes", maxAnswer)
	}
	return check(der, w.leaf, w.issuer, s.now())
}

// check reads an answer and refuses what a client would refuse (RFC 6960, section 3.2).
func check(der []byte, leaf, issuer *x509.Certificate, now time.Time) (answer, error) {
	said, err := ocsp.ParseResponseForCert(der, leaf, issuer)
	if err != nil {
		return answer{}, fmt.Errorf("read the responder's answer: %w", err)
	}
	if d := said.Certificate; d != nil && !d.Equal(issuer) {
		// The library checks that the issuer signed it; any certificate of that CA would do. Section 4.2.2.2 wants more.
		if !slices.Contains(d.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) || now.Before(d.NotBefore) || now.After(d.NotAfter) {
			return answer{}, errors.New("the responder's answer is signed by one who may not")
		}
	}
	a := answer{der: der, from: said.ThisUpdate, until: said.NextUpdate, revoked: said.Status == ocsp.Revoked}
	if a.until.IsZero() {
		a.until = a.from.Add(defaultLife)
	}
	if last := a.from.Add(maxLife); a.until.After(last) {
		a.until = last
	}
	switch {
	case said.Status == ocsp.Unknown:
		return answer{}, errors.New("the responder does not know the certificate")
	case a.from.After(now.Add(skew)):
		return answer{}, fmt.Errorf("the responder's answer holds from %s only; compare the clocks", a.from.UTC().Format(time.RFC3339))
	case !a.until.After(now):
		return answer{}, fmt.Errorf("the responder's answer ended at %s", a.until.UTC().Format(time.RFC3339))
	}
	return a, nil
}
