package gateway_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/live"
	"countersign/termination/tlstest"
	"countersign/termination/tunnel/tunneltest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(crowdVariable); what != "" {
		if err := runCrowd(what); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	dir, err := os.MkdirTemp("", "gateway")
	if err != nil {
		panic(err)
	}
	if public, err = tlstest.TrustedBySystem(dir); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// patience bounds every wait of these tests; it is reached only when something is wrong.
const patience = 20 * time.Second

// rig is a running gateway with its records.
type rig struct {
	t        *testing.T
	gateway  *gateway.Gateway
	registry *tunneltest.Registry
	hub      *live.Hub
	serverCA *tlstest.Cert
	config   *termination.Config

	byAgents bool                  // endpoint ends TLS in agents, which apply starts
	services map[string]string     // of those, by endpoint
	running  map[string]*testAgent // likewise

	mu      sync.Mutex
	changed *sync.Cond
	records []*termination.Handshake
	ends    map[string]termination.ConnectionEnd
	taken   int
}

// newRig starts a gateway without endpoints.
func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigAt(t, nil)
}

// newRigAt is newRig with a clock.
func newRigAt(t *testing.T, now func() time.Time) *rig {
	t.Helper()
	return newRigOf(t, gateway.Options{Now: now})
}

// newRigOf is newRig with options, to which its own are added.
func newRigOf(t *testing.T, options gateway.Options) *rig {
	t.Helper()
	r := &rig{
		t: t, serverCA: tlstest.NewCA(tlstest.CN("Server CA")), ends: map[string]termination.ConnectionEnd{},
		config: &termination.Config{Revision: 1, Node: "node_test", Limits: termination.DefaultLimits()},
	}
	r.changed = sync.NewCond(&r.mu)
	r.hub = live.New(live.Options{Sink: r.sink, Flush: 2 * time.Millisecond})
	r.registry = &tunneltest.Registry{}
	options.Hub, options.Registry = r.hub, r.registry
	r.gateway = gateway.New(options)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = r.gateway.Close(ctx)
		_ = r.hub.Close(ctx)
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return r
}

func (r *rig) sink(b termination.HistoryBatch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, b.Handshakes...)
	for _, e := range b.Ends {
		r.ends[e.ID] = e
	}
	r.changed.Broadcast()
	return nil
}

// waitFor waits under the rig's lock until ok, and fails the test when that takes too long.
func (r *rig) waitFor(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	wake := time.AfterFunc(patience, func() { r.mu.Lock(); r.changed.Broadcast(); r.mu.Unlock() })
	defer wake.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for !ok() {
		if time.Now().After(deadline) {
			r.t.Fatalf("waited in vain for %s", what)
		}
		r.changed.Wait()
	}
}

// wait polls for a state that nobody announces.
func (r *rig) wait(what string, ok func() bool) {
	r.t.Helper()
	tlstest.Eventually(r.t, what, ok)
}

// next returns the next record that no earlier call has returned.
func (r *rig) next() *termination.Handshake {
	r.t.Helper()
	r.waitFor("a record", func() bool { return len(r.records) > r.taken })
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.records[r.taken]
	r.taken++
	return rec
}

// end returns the end of a connection.
func (r *rig) end(id string) termination.ConnectionEnd {
	r.t.Helper()
	r.waitFor("the end of "+id, func() bool { _, ok := r.ends[id]; return ok })
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ends[id]
}

// apply serves the rig's configuration as its next revision.
func (r *rig) apply() {
	r.t.Helper()
	next := *r.config
	next.Revision++
	r.config = &next
	if err := r.gateway.Apply(context.Background(), r.config); err != nil {
		r.t.Fatal(err)
	}
	for _, s := range r.gateway.Status().Endpoints {
		if s.State == gateway.StateFailed {
			r.t.Fatalf("endpoint %s: %s", s.Name, s.Problem)
		}
	}
	r.runAgents()
}

// trust adds an authority of that name with the CA as its anchor, and others as helpers.
func (r *rig) trust(name string, anchor *tlstest.Cert, helpers ...*tlstest.Cert) {
	a := termination.Authority{ID: "ca_" + name, Name: name, Certificates: []termination.CACertificate{{Certificate: anchor.X509, Role: termination.RoleAnchor}}}
	for _, h := range helpers {
		a.Certificates = append(a.Certificates, termination.CACertificate{Certificate: h.X509, Role: termination.RoleHelper})
	}
	r.config.Authorities = append(r.config.Authorities, a)
}

// endpoint adds an https endpoint at the edge for a name on a port, with a server certificate from the rig's CA.
func (r *rig) endpoint(name string, port uint16, upstream string, change func(*termination.Endpoint)) *termination.Endpoint {
	r.t.Helper()
	up, err := termination.ParseUpstream(upstream)
	if err != nil {
		r.t.Fatal(err)
	}
	e := termination.Endpoint{
		ID: "ep_" + name, Name: name, Enabled: true, Scheme: termination.SchemeHTTPS, Host: name + ".localhost",
		Listen: netip.MustParseAddr("127.0.0.1"), Port: port, TerminateAt: termination.AtEdge, Upstream: up,
		Certificates: []string{name},
		ClientAuth:   termination.ClientAuth{Mode: termination.ModeOff, Announce: true, OnLoss: termination.OnLossClose},
	}
	if change != nil {
		change(&e)
	}
	if r.byAgents && e.TerminateAt == termination.AtEdge {
		r.services[name] = upstream
		atAgent(&e)
	}
	if e.TerminateAt == termination.AtEdge {
		names := e.ServerNames()
		if len(names) == 0 {
			names = []string{"fallback.localhost"}
		}
		server := r.serverCA.Server(names[0], tlstest.DNS(names...))
		r.config.Certificates = append(r.config.Certificates, termination.Certificate{
			ID: "crt_" + name, Name: name, Chain: []*x509.Certificate{server.X509}, Key: server.Key,
		})
	} else {
		e.Certificates = nil
	}
	r.config.Endpoints = append(r.config.Endpoints, e)
	return &r.config.Endpoints[len(r.config.Endpoints)-1]
}

// change replaces an endpoint in a copy of the configuration and applies it.
func (r *rig) change(name string, f func(*termination.Endpoint)) {
	r.t.Helper()
	next := *r.config
	next.Endpoints = append([]termination.Endpoint(nil), r.config.Endpoints...)
	for i := range next.Endpoints {
		if next.Endpoints[i].Name == name {
			f(&next.Endpoints[i])
		}
	}
	r.config = &next
	r.apply()
}

// require is a policy that demands a certificate of these authorities.
func require(authorities ...string) func(*termination.Endpoint) {
	return mode(termination.ModeRequire, authorities...)
}

func mode(m termination.Mode, authorities ...string) func(*termination.Endpoint) {
	return func(e *termination.Endpoint) {
		e.ClientAuth = termination.ClientAuth{Mode: m, Authorities: authorities, Announce: true, OnLoss: termination.OnLossClose}
	}
}

// freePort finds a port that nobody uses at the moment.
func freePort(t testing.TB) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func address(port uint16) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// clientConfig is a Go client that presents cert whatever the server announces.
func (r *rig) clientConfig(serverName string, version uint16, cert *tlstest.Cert) *tls.Config {
	return &tls.Config{
		ServerName: serverName, RootCAs: r.serverCA.Pool(), MinVersion: version, MaxVersion: version,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if cert == nil {
				return &tls.Certificate{}, nil
			}
			c := cert.TLS()
			return &c, nil
		},
	}
}

// get makes one request on a connection of its own.
func get(config *tls.Config, port uint16, host string) (int, string, error) {
	transport := &http.Transport{
		TLSClientConfig: config, DisableKeepAlives: true, ForceAttemptHTTP2: false,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address(port))
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	res, err := client.Get("https://" + host + "/")
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}
