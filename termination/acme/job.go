package acme

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"countersign/termination/servercert"
)

const (
	// lookAgain is how often the clock is looked at, so that one that was set is noticed.
	lookAgain = time.Hour
	// maxBackoff bounds how long a CA can make us wait.
	maxBackoff = 24 * time.Hour
	// minLimited is how long to wait at least after a rate limit without a Retry-After.
	minLimited = time.Hour
)

// backoff is the default of Options.Backoff. A fifth of it is chance, so that names that failed together do not come
// back together.
func backoff(failures int) time.Duration {
	steps := [...]time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 6 * time.Hour}
	d := steps[min(max(failures, 1), len(steps))-1]
	return d - d/10 + rand.N(d/5) //nolint:gosec // no secret
}

// job obtains and renews the certificate of one name.
type job struct {
	manager *Manager
	authority
	name   string
	cancel context.CancelFunc
	now    chan struct{} // wakes it up
	looked chan struct{} // closed once what is kept was looked at

	mu     sync.Mutex
	status NameStatus
}

func (m *Manager) start(name string) *job {
	ctx, cancel := context.WithCancel(context.Background())
	j := &job{manager: m, authority: m.authority, name: name, cancel: cancel, now: make(chan struct{}, 1), looked: make(chan struct{})}
	j.status = NameStatus{Name: name, State: StateObtaining}
	m.workers.Go(func() { j.run(ctx) })
	return j
}

func (j *job) set(change func(*NameStatus)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change(&j.status)
}

// run obtains, waits until it is due, and renews, until ctx ends.
func (j *job) run(ctx context.Context) {
	o := j.manager.options
	looked := sync.OnceFunc(func() { close(j.looked) })
	defer looked()
	if j.magic == nil {
		j.set(func(s *NameStatus) { s.State, s.Error = StateFailed, j.broken })
		return
	}
	failures := 0
	j.waitOutLimit(ctx, looked)
	for ctx.Err() == nil {
		due := j.show(ctx)
		looked()
		if due.After(o.Now()) {
			failures = 0
			j.set(func(s *NameStatus) { s.State, s.Error, s.NextTry = StateOK, "", due })
			j.sleep(ctx, due)
			continue
		}
		j.set(func(s *NameStatus) { s.State = StateObtaining })
		wait, err := j.attempt(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil && j.show(ctx).After(o.Now()) {
			_ = o.Storage.Delete(ctx, j.limitKey()) // usually there is none
			o.Log.Info("obtained a certificate", "name", j.name, "directory", j.issuer.settings.Directory)
			continue
		}
		if err == nil {
			err = errors.New("the CA gave a certificate that is due for renewal already; compare the clocks")
		}
		failures++
		wait = max(wait, o.Backoff(failures))
		next := o.Now().Add(wait)
		j.set(func(s *NameStatus) { s.State, s.Error, s.LastTry, s.NextTry = StateFailed, words(err), o.Now(), next })
		if limited(err) {
			j.keepLimit(ctx)
		}
		o.Log.Warn("cannot obtain a certificate", "name", j.name, "error", words(err), "again in", wait.Round(time.Second))
		j.sleep(ctx, next)
	}
}

// sleep waits until then, by a clock that may be set meanwhile, or until somebody asks to try now.
func (j *job) sleep(ctx context.Context, until time.Time) {
	for {
		wait := until.Sub(j.manager.options.Now())
		if wait <= 0 {
			return
		}
		t := time.NewTimer(min(wait, lookAgain))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-j.now:
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// attempt orders a certificate once. The duration is how long the CA wants us to wait after an error.
func (j *job) attempt(ctx context.Context) (time.Duration, error) {
	select {
	case j.manager.slots <- struct{}{}:
		defer func() { <-j.manager.slots }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, j.manager.options.Attempt)
	defer cancel()
	ctx, patience := withPatience(context.WithValue(ctx, nameKey{}, j.name))
	var err error
	_, err = j.load(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = j.magic.ObtainCertSync(ctx, j.name)
	case err != nil:
		// What is kept cannot be used, and renewal would begin with it.
		if err = j.manager.options.Storage.Delete(ctx, certmagic.StorageKeys.CertsSitePrefix(j.issuer.IssuerKey(), j.name)); err == nil {
			err = j.magic.ObtainCertSync(ctx, j.name)
		}
	default:
		err = j.magic.RenewCertSync(ctx, j.name, true)
	}
	if err == nil {
		return 0, nil
	}
	if cause := errors.Unwrap(err); cause != nil {
		err = cause // without certmagic's own words
	}
	var away *url.Error
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("the CA did not answer in time (%s): %w", j.manager.options.Attempt, err)
	case errors.As(err, &away) && ofTheCA(away.URL, j.issuer.settings.Directory):
		err = unreachable(away.Err)
	}
	wait := time.Duration(patience.wait.Load())
	if wait == 0 && limited(err) {
		wait = minLimited
	}
	return wait, err
}

// ofTheCA reports whether an address is at the host of the CA's directory.
func ofTheCA(address, directory string) bool {
	a, err := url.Parse(address)
	d, derr := url.Parse(directory)
	return err == nil && derr == nil && a.Host == d.Host
}

// unreachable says why there was no answer at all, and what to do where that is known.
func unreachable(err error) error {
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return fmt.Errorf("the CA cannot be reached: %w; give the CA of the directory's own certificate as well (ca_file)", err)
	}
	return fmt.Errorf("the CA cannot be reached: %w", err)
}

// show hands out the certificate that is kept, and returns when it is due: at once where there is none.
func (j *job) show(ctx context.Context) time.Time {
	chain, err := j.load(ctx)
	if err != nil {
		return time.Time{}
	}
	leaf := chain.Certificates[0]
	shown, ok := j.manager.options.Obtained.Chain(j.name)
	if ctx.Err() == nil && (!ok || !shown.Certificates[0].Equal(leaf)) {
		j.manager.options.Obtained.Put(j.name, chain)
	}
	j.set(func(s *NameStatus) { s.Leaf = leaf })
	return DueAt(leaf)
}

// DueAt returns when a certificate is renewed: when two thirds of its life are over.
func DueAt(leaf *x509.Certificate) time.Time {
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 3 * 2)
}

// load reads the certificate that is kept. The error is [fs.ErrNotExist] when there is none.
func (j *job) load(ctx context.Context) (servercert.Chain, error) {
	keys, s := certmagic.StorageKeys, j.manager.options.Storage
	cert, _, err := s.Get(ctx, keys.SiteCert(j.issuer.IssuerKey(), j.name))
	if err != nil {
		return servercert.Chain{}, err
	}
	key, _, err := s.Get(ctx, keys.SitePrivateKey(j.issuer.IssuerKey(), j.name))
	if err != nil {
		return servercert.Chain{}, err
	}
	defer clear(key)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return servercert.Chain{}, fmt.Errorf("read the certificate that is kept for %s: %w", j.name, err)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return servercert.Chain{}, fmt.Errorf("the key that is kept for %s cannot sign", j.name)
	}
	out := servercert.Chain{Key: signer}
	for _, der := range pair.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return servercert.Chain{}, fmt.Errorf("read the chain that is kept for %s: %w", j.name, err)
		}
		out.Certificates = append(out.Certificates, c)
	}
	return out, nil
}
