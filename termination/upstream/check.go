package upstream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	// HealthTCP is the health check that only connects, TLS included.
	HealthTCP = "tcp"
	// DefaultHealthInterval is the time between two checks.
	DefaultHealthInterval = 10 * time.Second
	// checkTime bounds one check, connecting included.
	checkTime = 5 * time.Second
	// checkHeader bounds the header of an answer to a check, in bytes.
	checkHeader = 64 << 10
)

// watch checks the target until ctx is done: at once, and then at its interval, a tenth more or less so that gateways
// and targets do not fall into step.
func (t *Target) watch(ctx context.Context) {
	interval := t.policy.HealthInterval
	if interval == 0 {
		interval = DefaultHealthInterval
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := t.check(ctx)
		if ctx.Err() != nil {
			return
		}
		t.checked(err)
		timer.Reset(interval - interval/10 + rand.N(interval/5)) //nolint:gosec // no secret
	}
}

// checked takes the result of a check. A good one ends every pause: it is newer than what was seen in passing.
func (t *Target) checked(err error) {
	if err == nil && !t.health.marked.Load() {
		return
	}
	t.change(func(now time.Time) {
		h := &t.health
		h.checkFailed = err != nil
		if err != nil {
			h.noteLocked(now, err)
			return
		}
		h.until, h.mute = time.Time{}, false
	})
}

// check asks the target once.
func (t *Target) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	if t.policy.Health != HealthTCP {
		return t.checkHTTP(ctx)
	}
	conn, _, err := t.connect(ctx, t.Unclaimed(), t.tls)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	_ = conn.Close() // it was there
	return nil
}

// checkHTTP asks for the health path on a connection of its own, and is content with an answer of 2xx or 3xx.
func (t *Target) checkHTTP(ctx context.Context) error {
	transport := t.NewTransport(func(ctx context.Context) (net.Conn, error) {
		conn, _, err := t.connect(ctx, t.Unclaimed(), t.tls)
		return conn, err
	})
	transport.DisableKeepAlives = true
	transport.MaxResponseHeaderBytes = checkHeader
	defer transport.CloseIdleConnections()
	target, err := url.ParseRequestURI(t.policy.Health)
	if err != nil {
		return fmt.Errorf("health check: read the path: %w", err)
	}
	target.Scheme, target.Host = t.URLScheme(), t.Host()
	request := (&http.Request{
		Method: http.MethodGet, URL: target, Host: t.Host(), Header: http.Header{"User-Agent": {"countersign-health"}},
	}).WithContext(ctx)
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("health check of %s: %w", t.policy.Health, err)
	}
	_ = response.Body.Close() // only the status counts
	if response.StatusCode < 200 || response.StatusCode > 399 {
		return fmt.Errorf("health check of %s: the answer was %d", t.policy.Health, response.StatusCode)
	}
	return nil
}
