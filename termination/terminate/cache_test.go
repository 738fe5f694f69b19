package terminate_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/revocation"
	"countersign/termination/servercert"
	"countersign/termination/terminate"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
	"countersign/termination/wire"
)

// changing is an endpoint of which policy, revocation data and date change while clients come in. Its chains are kept in
// the cache of verified chains from one judgement to the next.
type changing struct {
	t        *testing.T
	serverCA *tlstest.Cert
	chooser  *servercert.Chooser
	cas      [2]*tlstest.Cert
	clients  [4]*tlstest.Cert // two of each CA; the last of each ends first
	registry *revocation.Registry
	start    time.Time
	dir      string

	connected atomic.Int64
	passed    atomic.Int64
	moment    atomic.Uint64 // goes up by one when a change begins and when it has ended
	state     atomic.Pointer[stateOfChanging]
}

// stateOfChanging is what holds between two changes.
type stateOfChanging struct {
	terminator *terminate.Terminator
	trusted    int // the CA
	blocked    int // the client; -1: none
	ended      bool
}

// in says who may come in, by rules of its own.
func (s *stateOfChanging) in(client int) bool {
	return client/2 == s.trusted && client != s.blocked && !(s.ended && client%2 == 1)
}

func newChanging(t *testing.T) *changing {
	c := &changing{t: t, serverCA: tlstest.NewCA(tlstest.CN("Server CA")), start: time.Now(), dir: t.TempDir(), registry: revocation.New(revocation.Options{})}
	server := c.serverCA.Server(serverName)
	c.chooser = servercert.NewChooser([]servercert.Chain{{Certificates: []*x509.Certificate{server.X509}, Key: server.Key}}, nil)
	for i := range c.cas {
		c.cas[i] = tlstest.NewCA()
		between := c.cas[i].Intermediate()
		c.clients[2*i] = between.Client("long", tlstest.Valid(c.start.Add(-time.Hour), c.start.Add(100*time.Hour)))
		c.clients[2*i+1] = between.Client("short", tlstest.Valid(c.start.Add(-time.Hour), c.start.Add(time.Hour)))
	}
	c.trust(0)
	return c
}

func (c *changing) now() time.Time { return c.start.Add(time.Duration(c.passed.Load())) }

// trust makes the policy anew, as a change of the configuration does.
func (c *changing) trust(ca int) {
	cfg := &termination.Config{Limits: termination.DefaultLimits(), Authorities: []termination.Authority{{
		Name: "devices", Certificates: []termination.CACertificate{{Certificate: c.cas[ca].X509, Role: termination.RoleAnchor}},
	}}}
	policy, err := verify.Compile(cfg, termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}}, verify.Scope{Revocation: c.registry})
	if err != nil {
		c.t.Error(err)
		return
	}
	terminator, err := terminate.New(terminate.Options{
		Endpoint: &termination.Endpoint{Name: "api", Scheme: termination.SchemeTLS}, Policy: policy, Now: c.now,
		Certificates: terminate.Certificates{GetCertificate: c.chooser.GetCertificate, Leaves: c.chooser.Leaves},
	})
	if err != nil {
		c.t.Error(err)
		return
	}
	next := stateOfChanging{terminator: terminator, trusted: ca, blocked: -1}
	if before := c.state.Load(); before != nil {
		next.blocked, next.ended = before.blocked, before.ended
	}
	c.state.Store(&next)
}

// change makes the n-th change.
func (c *changing) change(n int) {
	c.moment.Add(1)
	next := *c.state.Load()
	switch n % 3 {
	case 0:
		c.trust(1 - next.trusted)
		c.moment.Add(1)
		return
	case 1:
		cfg := &termination.Config{}
		if next.blocked = n/3%5 - 1; next.blocked >= 0 {
			cfg.Blocked = []termination.Block{{Pin: &termination.Pin{Fingerprint: termination.FingerprintOf(c.clients[next.blocked].X509)}}}
		}
		c.registry.Apply(cfg)
	case 2:
		next.ended = !next.ended
		c.passed.Store(0)
		if next.ended {
			c.passed.Store(int64(2 * time.Hour))
		}
	}
	c.state.Store(&next)
	c.moment.Add(1)
}

// compare lets enter decide about a client and compares that with what has to be. It reports whether nothing changed
// meanwhile: only then there is one right answer.
func (c *changing) compare(client int, enter func(*terminate.Terminator) bool) bool {
	before := c.moment.Load()
	state := c.state.Load()
	got := enter(state.terminator)
	if before%2 != 0 || c.moment.Load() != before {
		return false
	}
	if got != state.in(client) {
		c.t.Errorf("client %d came in: %v, at moment %d of %+v", client, got, before, *state)
	}
	return true
}

// connect makes a connection. It is a Unix socket: 100,000 handshakes would use up the ports of a machine.
func (c *changing) connect() (client, server net.Conn) {
	name := filepath.Join(c.dir, strconv.FormatInt(c.connected.Add(1), 10))
	listener, err := net.Listen("unix", name)
	if err != nil {
		panic(err)
	}
	defer listener.Close()
	if client, err = net.Dial("unix", name); err != nil {
		panic(err)
	}
	if server, err = listener.Accept(); err != nil {
		panic(err)
	}
	return client, server
}

// handshake runs one, resumed where the client has a ticket that is taken, and reports whether the client got in.
func (c *changing) handshake(terminator *terminate.Terminator, client int, version uint16, cache tls.ClientSessionCache, resumed *atomic.Int64) bool {
	theirs, ours := c.connect()
	defer ours.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer theirs.Close()
		pair := c.clients[client].TLS()
		conn := tls.Client(theirs, &tls.Config{
			RootCAs: c.serverCA.Pool(), ServerName: serverName, MinVersion: version, MaxVersion: version, ClientSessionCache: cache,
			Time: func() time.Time { return c.start }, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
		})
		_, _ = io.Copy(io.Discard, conn) // also what a ticket comes with
	}()
	_ = ours.SetDeadline(time.Now().Add(30 * time.Second))
	_, seen, err := wire.ReadClientHello(ours, 0)
	if err != nil {
		c.t.Errorf("read the ClientHello: %v", err)
	}
	conn := terminate.NewConn(ours, seen, time.Now)
	rec := &termination.Handshake{Time: time.Now(), Hello: &termination.ClientHello{ServerName: serverName}}
	result := terminator.Handshake(conn, rec)
	if result.Conn != nil {
		if rec.Chosen.Resumed {
			resumed.Add(1)
		}
		_ = result.Conn.Close()
	}
	_ = ours.Close()
	<-done
	return result.Conn != nil
}

// TestCacheOutlivesNothing changes the policy, the revocation data and the date under load and looks for one wrong entry.
// What is counted are judgements as VerifyConnection makes them, of clients whose chains are in the cache, during which
// nothing changed: 25,000 of them. A further 1,000 are whole handshakes over Unix sockets, in TLS 1.2 and 1.3, many of them
// resumed. With COUNTERSIGN_LONG set it is 100,000 of each.
func TestCacheOutlivesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		count int64
		every int64 // a change after so many
		whole bool
	}{
		"judgements": {25_000, 250, false},
		"handshakes": {1_000, 20, true},
	} {
		if os.Getenv("COUNTERSIGN_LONG") != "" {
			c.count = 100_000
		}
		t.Run(name, func(t *testing.T) {
			w := newChanging(t)
			var compared, tried, in, resumed atomic.Int64
			changes := make(chan int64, 1)
			var wait, changer sync.WaitGroup
			for worker := range 6 {
				wait.Go(func() {
					var caches [4][2]tls.ClientSessionCache
					for n := worker; compared.Load() < c.count && !t.Failed(); n++ {
						client, version := n%4, n/4%2
						if caches[client][version] == nil {
							caches[client][version] = tls.NewLRUClientSessionCache(1)
						}
						got := false
						ok := w.compare(client, func(terminator *terminate.Terminator) bool {
							if c.whole {
								got = w.handshake(terminator, client, [...]uint16{tls.VersionTLS12, tls.VersionTLS13}[version], caches[client][version], &resumed)
							} else {
								got = terminator.Judge(verify.Showing(w.clients[client].Chain()...)).In
							}
							return got
						})
						if ok {
							compared.Add(1)
						}
						if got {
							in.Add(1)
						}
						if k := tried.Add(1); k%c.every == 0 {
							changes <- k / c.every
						}
					}
				})
			}
			changer.Go(func() {
				for n := range changes {
					w.change(int(n))
				}
			})
			wait.Wait()
			close(changes)
			changer.Wait()
			t.Logf("%d compared of %d, %d let in, %d resumed, %d changes", compared.Load(), tried.Load(), in.Load(), resumed.Load(), w.moment.Load()/2)
			if in.Load() < c.count/8 || w.moment.Load() < uint64(c.count/c.every) || c.whole && resumed.Load() == 0 {
				t.Error("too little happened to show anything")
			}
		})
	}
}
