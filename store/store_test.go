package store

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func TestMain(m *testing.M) {
	runIfChild()
	goleak.VerifyTestMain(m)
}

// clock is a time that only tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock {
	return &clock{now: time.Date(2026, 3, 14, 15, 9, 26, 535_000_000, time.UTC)}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// testOptions use a cheap scrypt and keep quiet.
func testOptions(c *clock) Options {
	return Options{Clock: c.Now, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), workFactor: 2}
}

func openIn(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), dir, o)
	if err != nil {
		t.Fatalf("open store: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	return s
}

// newStore opens a store in a directory of its own.
func newStore(t testing.TB) (*Store, *clock) {
	t.Helper()
	c := newClock()
	return openIn(t, t.TempDir(), testOptions(c)), c
}

var rhea = Actor{Name: "rhea", Via: "dashboard"}

// change makes a change that must succeed.
func change(t testing.TB, s *Store, mutate func(*Tx) error) *termination.Config {
	t.Helper()
	config, problems, err := s.Change(context.Background(), rhea, mutate, nil)
	if err != nil {
		t.Fatalf("change: %v", err)
	}
	if len(problems) > 0 {
		t.Fatalf("problems after a change: %v", problems)
	}
	return config
}

// refuse makes a change that must fail, and checks that it left nothing.
func refuse(t testing.TB, s *Store, mutate func(*Tx) error) error {
	t.Helper()
	before := load(t, s)
	_, _, err := s.Change(context.Background(), rhea, mutate, nil)
	if err == nil {
		t.Fatal("the change was not refused")
	}
	if after := load(t, s); after.Revision != before.Revision {
		t.Fatalf("a refused change raised the revision from %d to %d", before.Revision, after.Revision)
	}
	return err
}

func load(t testing.TB, s *Store) *termination.Config {
	t.Helper()
	config, _, err := s.Load(context.Background())
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return config
}

func authority(name string, ca *tlstest.Cert, helpers ...*tlstest.Cert) termination.Authority {
	a := termination.Authority{Name: name, Certificates: []termination.CACertificate{{Certificate: ca.X509, Role: termination.RoleAnchor}}}
	for _, h := range helpers {
		a.Certificates = append(a.Certificates, termination.CACertificate{Certificate: h.X509, Role: termination.RoleHelper})
	}
	return a
}

func certificate(name string, c *tlstest.Cert) termination.Certificate {
	return termination.Certificate{Name: name, Chain: c.Chain(), Key: c.Key}
}

// endpoint is a valid one that needs the certificate and the authorities of those names.
func endpoint(name, certificate string, authorities ...string) termination.Endpoint {
	return termination.Endpoint{
		Name: name, Enabled: true, Scheme: termination.SchemeHTTPS, Host: name + ".example", Listen: netip.MustParseAddr("127.0.0.1"), Port: 8443,
		TerminateAt: termination.AtEdge, Certificates: []string{certificate},
		Upstream:        termination.Upstream{Scheme: termination.UpstreamHTTP, Address: "127.0.0.1:8080"},
		ClientAuth:      termination.ClientAuth{Mode: termination.ModeRequire, Authorities: authorities, Inherit: true, Announce: true, OnLoss: termination.OnLossClose},
		ForwardIdentity: []termination.IdentityFormat{termination.IdentityNginx},
	}
}

// populate adds an authority "devices", a certificate "site" and an endpoint "api" that needs both.
func populate(t testing.TB, s *Store) {
	t.Helper()
	ca := tlstest.NewCA()
	change(t, s, func(tx *Tx) error {
		if _, err := tx.CreateAuthority(authority("devices", ca)); err != nil {
			return err
		}
		if _, err := tx.CreateCertificate(certificate("site", ca.Server("api.example")), SourceUpload); err != nil {
			return err
		}
		_, err := tx.CreateEndpoint(endpoint("api", "site", "devices"))
		return err
	})
}
