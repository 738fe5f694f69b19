package acme

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"

	"countersign/termination"
	"countersign/termination/servercert"
	"countersign/termination/sockets"
)

const (
	// attemptTime bounds one attempt to obtain a certificate, DNS and all.
	attemptTime = 5 * time.Minute
	// atOnce is how many names are obtained at a time.
	atOnce = 4
)

// Options are what a Manager needs.
type Options struct {
	Storage  Storage
	Obtained *servercert.Obtained // certificates and answers to challenges go there
	Log      *slog.Logger         // nil: discards
	Now      func() time.Time     // nil: time.Now
	Sockets  *sockets.Set         // opens the address for challenges over HTTP; nil: a set of its own
	Attempt  time.Duration        // how long one attempt may take; 0: five minutes
	// Backoff is how long to wait after so many failures in a row. Nil: a minute, and more each time, up to six hours.
	Backoff func(failures int) time.Duration
}

// Manager obtains and renews the certificates called "acme" of the configuration that was applied last.
type Manager struct {
	options Options
	tokens  tokens
	slots   chan struct{} // one for each name that is being obtained
	cache   *certmagic.Cache
	workers sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	settings termination.ACME
	authority
	jobs     map[string]*job
	listener *challengeListener
}

// authority is the CA of the settings in force.
type authority struct {
	magic  *certmagic.Config // nil: ACME is off, or the settings are of no use
	issuer *issuer
	broken string // why the settings are of no use
}

// New returns a Manager that does nothing until Apply.
func New(o Options) *Manager {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sockets == nil {
		o.Sockets = sockets.New()
	}
	if o.Attempt == 0 {
		o.Attempt = attemptTime
	}
	if o.Backoff == nil {
		o.Backoff = backoff
	}
	m := &Manager{options: o, slots: make(chan struct{}, atOnce), jobs: map[string]*job{}}
	// Nothing is ever put into the cache: it is there because certmagic wants one, and its goroutine ends with Close.
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return m.magicConfig(nil), nil },
		Logger:           zap.NewNop(),
	})
	return m
}

func (m *Manager) magicConfig(issuers []certmagic.Issuer) *certmagic.Config {
	return certmagic.New(m.cache, certmagic.Config{
		Storage: magicStorage{m.options.Storage}, Issuers: issuers, Logger: zap.NewNop(),
		DisableStorageCheck: true, DisableARI: true,
	})
}

// Apply obtains, from now on, what config wants. It does not wait for anything.
func (m *Manager) Apply(config *termination.Config) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	wanted := wantedNames(config)
	if !sameCA(m.settings, config.ACME) {
		for _, j := range m.jobs {
			j.cancel()
		}
		m.jobs = map[string]*job{}
		if m.issuer != nil {
			m.issuer.base.CloseIdleConnections()
		}
		m.authority = m.newAuthority(config.ACME)
	}
	m.settings = config.ACME
	m.listen(config.ACME.HTTP)
	for name, j := range m.jobs {
		if !wanted[name] {
			j.cancel()
			delete(m.jobs, name)
			m.options.Obtained.Drop(name)
		}
	}
	for name := range wanted {
		if m.jobs[name] == nil {
			m.jobs[name] = m.start(name)
		}
	}
}

// Settle waits until what was obtained earlier, of what the configuration applied last wants, is there to be shown.
func (m *Manager) Settle(ctx context.Context) error {
	m.mu.Lock()
	jobs := slices.Collect(maps.Values(m.jobs))
	m.mu.Unlock()
	for _, j := range jobs {
		select {
		case <-j.looked:
		case <-ctx.Done():
			return fmt.Errorf("wait for the certificates that are kept: %w", ctx.Err())
		}
	}
	return nil
}

// wantedNames are the names of enabled endpoints that have their certificates through ACME.
func wantedNames(config *termination.Config) map[string]bool {
	out := map[string]bool{}
	for i := range config.Endpoints {
		e := &config.Endpoints[i]
		if e.Enabled && e.TerminateAt == termination.AtEdge && slices.Contains(e.Certificates, termination.CertificateACME) {
			for _, name := range e.ServerNames() {
				out[name] = true
			}
		}
	}
	return out
}

// sameCA reports whether the two come from one account of one CA and are proven in the same way.
func sameCA(a, b termination.ACME) bool {
	return a.Directory == b.Directory && a.Email == b.Email && a.HTTP.IsValid() == b.HTTP.IsValid() &&
		slices.EqualFunc(a.Roots, b.Roots, (*x509.Certificate).Equal) &&
		a.DNS.Provider == b.DNS.Provider && maps.Equal(a.DNS.Settings, b.DNS.Settings)
}

func (m *Manager) newAuthority(a termination.ACME) authority {
	if a.Directory == "" {
		return authority{}
	}
	solvers := map[string]acmez.Solver{}
	if a.DNS.Provider != "" {
		solver, err := dnsSolver(a.DNS)
		if err != nil {
			return authority{broken: err.Error()}
		}
		solvers[acme.ChallengeTypeDNS01] = ownName{solver}
	} else {
		solvers[acme.ChallengeTypeTLSALPN01] = ownName{alpnSolver{m.options.Obtained}}
		if a.HTTP.IsValid() {
			solvers[acme.ChallengeTypeHTTP01] = ownName{&m.tokens}
		}
	}
	i := newIssuer(a, m.options, solvers)
	return authority{issuer: i, magic: m.magicConfig([]certmagic.Issuer{i})}
}

// Close ends everything, attempts in flight too, and returns when it has ended.
func (m *Manager) Close() {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return
	}
	m.closed = true
	for _, j := range m.jobs {
		j.cancel()
	}
	if m.listener != nil {
		m.listener.close()
	}
	issuer := m.issuer
	m.mu.Unlock()
	m.workers.Wait()
	if issuer != nil {
		issuer.base.CloseIdleConnections()
	}
	m.cache.Stop()
}
