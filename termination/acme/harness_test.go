package acme_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/challtestsrv"
	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"countersign/termination"
	"countersign/termination/acme"
	"countersign/termination/gateway"
	"countersign/termination/live"
	"countersign/termination/localca"
	"countersign/termination/servercert"
	"countersign/termination/tlstest"
)

func TestMain(m *testing.M) {
	for name, value := range map[string]string{"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	// Pebble is a program and has no end; everything of ours has.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks"))
}

// patience bounds every wait of these tests; it is reached only when something is wrong.
const patience = 30 * time.Second

// memory is a Storage that ends with the test.
type memory struct {
	mu    sync.Mutex
	kept  map[string][]byte
	locks map[string]chan struct{}
}

func newMemory() *memory {
	return &memory{kept: map[string][]byte{}, locks: map[string]chan struct{}{}}
}

func (m *memory) Put(_ context.Context, key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept[key] = append([]byte(nil), value...)
	return nil
}

func (m *memory) Get(_ context.Context, key string) ([]byte, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, ok := m.kept[key]
	if !ok {
		return nil, time.Time{}, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	}
	return append([]byte(nil), value...), time.Now(), nil
}

func (m *memory) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.kept {
		if k == key || strings.HasPrefix(k, key+"/") {
			delete(m.kept, k)
		}
	}
	return nil
}

func (m *memory) Keys(_ context.Context, prefix string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for k := range m.kept {
		if prefix == "" || strings.HasPrefix(k, prefix+"/") {
			out = append(out, k)
		}
	}
	return out, nil
}

func (m *memory) lock(name string) chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[name] == nil {
		m.locks[name] = make(chan struct{}, 1)
	}
	return m.locks[name]
}

func (m *memory) Lock(ctx context.Context, name string) error {
	select {
	case m.lock(name) <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *memory) Unlock(_ context.Context, name string) error {
	<-m.lock(name)
	return nil
}

// authority is pebble, with a hand on what it answers.
type authority struct {
	*httptest.Server
	issuer *ca.CAImpl
	names  *challtestsrv.ChallSrv // what its resolver answers
	dns    string
	fault  atomic.Pointer[http.HandlerFunc] // answers instead of the CA; it may hang
}

func (a *authority) fail(h http.HandlerFunc) { a.fault.Store(&h) }
func (a *authority) heal()                   { a.fault.Store(nil) }

func (a *authority) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.issuer.GetRootCert(0).PEM())
	return pool
}

func (a *authority) settings() termination.ACME {
	return termination.ACME{Directory: a.URL + wfe.DirectoryPath, Email: "ops@example.com", Roots: []*x509.Certificate{a.Certificate()}}
}

// newAuthority starts pebble, which asks for proofs at the given ports of 127.0.0.1.
func newAuthority(t *testing.T, httpPort, tlsPort int, blocked ...string) *authority {
	t.Helper()
	quiet := log.New(io.Discard, "", 0)
	a := &authority{dns: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	var err error
	if a.names, err = challtestsrv.New(challtestsrv.Config{Log: quiet, DNSAddrs: []string{a.dns}}); err != nil {
		t.Fatal(err)
	}
	a.names.SetDefaultDNSIPv6("")
	a.names.Run()
	waitForDNS(t, a.dns)
	store := db.NewMemoryStore()
	for _, name := range blocked {
		if err := store.AddBlockedDomain(name); err != nil {
			t.Fatal(err)
		}
	}
	const day = 24 * 3600
	a.issuer = ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "for tests", ValidityPeriod: 90 * day}})
	front := wfe.New(quiet, store, va.New(quiet, httpPort, tlsPort, true, a.dns, store), a.issuer, []string{"pebble.test"}, true, false, 0, 0)
	handler := front.Handler()
	a.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault := a.fault.Load(); fault != nil {
			(*fault)(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		a.Close()
		a.names.Shutdown()
	})
	return a
}

func waitForDNS(t *testing.T, address string) {
	t.Helper()
	question := new(dns.Msg).SetQuestion("ready.test.", dns.TypeA)
	tlstest.Eventually(t, "the name server", func() bool {
		for _, network := range []string{"udp", "tcp"} {
			c := dns.Client{Net: network}
			if _, _, err := c.Exchange(question, address); err != nil {
				return false
			}
		}
		return true
	})
}

// rig is a gateway that has its certificates from a CA.
type rig struct {
	t        *testing.T
	hub      *live.Hub
	gateway  *gateway.Gateway
	manager  *acme.Manager
	obtained *servercert.Obtained
	storage  acme.Storage
	local    *termination.LocalCA
	config   *termination.Config
	port     uint16

	mu      sync.Mutex
	records []*termination.Handshake
}

type options struct {
	settings termination.ACME
	attempt  time.Duration
	storage  acme.Storage
	change   func(*termination.Config)
}

// newRig starts a gateway on port with an endpoint for the names, the first of which is in its URL.
func newRig(t *testing.T, port int, o options, names ...string) *rig {
	t.Helper()
	local, err := localca.Create(localca.Options{Name: "Local CA", Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, obtained: servercert.NewObtained(), storage: o.storage, local: local, port: uint16(port)}
	if r.storage == nil {
		r.storage = newMemory()
	}
	r.manager = acme.New(acme.Options{
		Storage: r.storage, Obtained: r.obtained, Attempt: o.attempt,
		Backoff: func(int) time.Duration { return time.Hour },
	})
	r.hub = live.New(live.Options{Sink: r.sink, Flush: 2 * time.Millisecond})
	r.gateway = gateway.New(gateway.Options{Hub: r.hub, Obtained: r.obtained, Applied: r.manager.Apply})
	r.config = &termination.Config{
		Revision: 1, Node: "node_test", Limits: termination.DefaultLimits(), ACME: o.settings,
		LocalCAs: []termination.LocalCA{*local}, Authorities: []termination.Authority{},
		Endpoints: []termination.Endpoint{{
			ID: "ep_1", Name: "api", Enabled: true, Scheme: termination.SchemeHTTPS, Host: names[0], Aliases: names[1:],
			Listen: netip.MustParseAddr("127.0.0.1"), Port: r.port, TerminateAt: termination.AtEdge, Certificates: []string{termination.CertificateACME},
			Upstream:   termination.Upstream{Scheme: termination.UpstreamBuiltin, Address: termination.BuiltinWhoami},
			ClientAuth: termination.ClientAuth{Mode: termination.ModeOff, OnLoss: termination.OnLossClose},
		}},
	}
	if o.change != nil {
		o.change(r.config)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = r.gateway.Close(ctx)
		r.manager.Close()
		_ = r.hub.Close(ctx)
	})
	if err := r.gateway.Apply(t.Context(), r.config); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) sink(b termination.HistoryBatch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, b.Handshakes...)
	return nil
}

// record waits for a record that is such.
func (r *rig) record(such func(*termination.Handshake) bool) *termination.Handshake {
	r.t.Helper()
	var found *termination.Handshake
	tlstest.Eventually(r.t, "a record", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, rec := range r.records {
			if such(rec) {
				found = rec
			}
		}
		return found != nil
	})
	return found
}

func (r *rig) address() string { return fmt.Sprintf("127.0.0.1:%d", r.port) }

// presented returns the certificates that the gateway shows for a name.
func (r *rig) presented(name string) []*x509.Certificate {
	r.t.Helper()
	conn, err := tls.Dial("tcp", r.address(), &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState().PeerCertificates
}

// from reports whether the gateway shows a certificate for the name that those roots vouch for.
func (r *rig) from(name string, roots *x509.CertPool) bool {
	r.t.Helper()
	chain := r.presented(name)
	pool := x509.NewCertPool()
	for _, c := range chain[1:] {
		pool.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: pool})
	return err == nil
}

func (r *rig) fromLocalCA(name string) bool {
	pool := x509.NewCertPool()
	pool.AddCert(r.local.Certificate)
	return r.from(name, pool)
}

// status waits until the name is in that state.
func (r *rig) status(name string, state acme.State) acme.NameStatus {
	r.t.Helper()
	var last acme.NameStatus
	defer func() {
		if r.t.Failed() {
			r.t.Logf("last: %+v", last)
		}
	}()
	tlstest.Eventually(r.t, fmt.Sprintf("%s to be %s", name, state), func() bool {
		for _, n := range r.manager.Status().Names {
			if n.Name == name {
				last = n
			}
		}
		return last.State == state
	})
	return last
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}
