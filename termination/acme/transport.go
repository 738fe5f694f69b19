package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"countersign/termination"
)

const (
	// requestTime bounds one request to the CA, so that one that hangs is noticed within it.
	requestTime = 30 * time.Second
	// maxAnswer bounds what is read of one answer of the CA. Chains have a few kB.
	maxAnswer = 1 << 20
	// maxRedirects is what a directory may need; nothing else in ACME is redirected.
	maxRedirects = 3
)

// patience is told, within one attempt, how long the CA asks us to wait.
type patience struct{ wait atomic.Int64 }

type patienceKey struct{}

func withPatience(ctx context.Context) (context.Context, *patience) {
	p := &patience{}
	return context.WithValue(ctx, patienceKey{}, p), p
}

// transport is the way to the CA: https alone, which RFC 8555 demands (section 6.1) whatever addresses a directory names,
// bounded answers, and an ear for Retry-After (section 6.6).
type transport struct {
	base *http.Transport
	now  func() time.Time
}

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, fmt.Errorf("the CA leads to %q, which is no https address", r.URL.Redacted())
	}
	resp, err := t.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		if p, ok := r.Context().Value(patienceKey{}).(*patience); ok {
			p.wait.Store(int64(retryAfter(resp.Header.Get("Retry-After"), t.now())))
		}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}

// retryAfter reads the header (RFC 9110, section 10.2.3): seconds, or a date.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(header); err == nil {
		return time.Duration(min(max(seconds, 0), int(maxBackoff/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return min(max(at.Sub(now), 0), maxBackoff)
	}
	return 0
}

func newClient(a termination.ACME, now func() time.Time) (*http.Client, *http.Transport) {
	base := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: requestTime}).DialContext,
		TLSHandshakeTimeout:   requestTime,
		ResponseHeaderTimeout: requestTime,
		IdleConnTimeout:       time.Minute,
		MaxConnsPerHost:       4,
		ForceAttemptHTTP2:     true,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if len(a.Roots) > 0 {
		base.TLSClientConfig.RootCAs = x509.NewCertPool()
		for _, c := range a.Roots {
			base.TLSClientConfig.RootCAs.AddCert(c)
		}
	}
	return &http.Client{
		Transport: transport{base, now}, Timeout: requestTime,
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errors.New("the CA leads from one address to the next")
			}
			return nil
		},
	}, base
}
