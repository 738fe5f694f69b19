package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/tlstest"
)

const (
	changes       = 1000
	crowdClients  = 200
	streamsOfEach = 4 // of each kind of long stream
	// visitsPerChange is how many connections end per change, so that each change meets some in every state.
	visitsPerChange = 2
)

// truth is what one revision says: what its records must be explained by.
type truth struct {
	leaf  map[string]termination.Fingerprint // by endpoint, of those where TLS ends here
	hash  map[string]string
	flips bool              // whether clients of the CA that comes and goes are let in
	port  map[string]uint16 // where the endpoint is
}

// visit is what a client saw on one connection.
type visit struct {
	who      *visitor
	endpoint string
	in       bool
	err      error
	leaf     termination.Fingerprint // zero: the client saw none
}

// visitor is a client with a certificate that is always, never or sometimes good, or without one.
type visitor struct {
	cert   *tlstest.Cert
	always bool
	flips  bool
	source net.IP
}

// whirl is a gateway whose configuration does not rest.
type whirl struct {
	*rig
	always, flips   *tlstest.Cert // authorities
	shared, roaming uint16
	moving          [3]uint16
	certs           [2]map[string]*tlstest.Cert // server certificates that replace each other

	mu     sync.Mutex
	truths map[uint64]*truth
	visits map[netip.AddrPort][]visit
	now    atomic.Pointer[truth] // of the newest revision that is in force
	steps  atomic.Int64          // of changes: odd while one is on its way into force
	ended  atomic.Int64          // visits
}

// TestUnderChange: 200 clients connect without pause while 1,000 changes of policies, certificates, names, limits and
// listeners come into force. Nobody who is still admitted is dropped, nobody gets in who is not, and each record is
// explained by its revision alone.
func TestUnderChange(t *testing.T) {
	w := newWhirl(t)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var clients sync.WaitGroup
	w.holdStreams(ctx, &clients)
	good := w.always.Client("steady")
	for i := range crowdClients {
		v := &visitor{cert: good, always: true, source: net.IPv4(127, 1, byte(i/200), byte(i%200+1))}
		switch i % 4 {
		case 1:
			v.cert, v.always, v.flips = w.flips.Client("flips"), false, true
		case 2:
			v.cert, v.always = tlstest.NewCA(tlstest.CN("Strangers")).Client("stranger"), false
		case 3:
			if i%8 == 3 {
				v.cert, v.always = nil, false
			}
		}
		clients.Go(func() { w.visitAll(ctx, v, rand.New(rand.NewPCG(uint64(i), 7))) })
	}
	began := time.Now()
	for i := range changes {
		w.change(i)
		w.wait("clients", func() bool { return w.ended.Load() >= int64(i*visitsPerChange) })
	}
	took := time.Since(began)
	stop()
	clients.Wait()
	total, in := w.compare()
	t.Logf("%d changes in %v, %d connections, %d let in", changes, took.Round(time.Millisecond), total, in)
	if total < changes || in < total/10 {
		t.Error("the test shows little")
	}
}

func newWhirl(t *testing.T) *whirl {
	w := &whirl{rig: newRig(t), always: tlstest.NewCA(tlstest.CN("Always")), flips: tlstest.NewCA(tlstest.CN("Flips")), truths: map[uint64]*truth{}, visits: map[netip.AddrPort][]visit{}}
	w.config.Limits.HandshakeTimeout = 3 * patience
	w.config.Limits.IdleTimeout = 10 * time.Minute
	w.trust("always", w.always)
	w.trust("flips", w.flips)
	w.shared, w.roaming = freePort(t), freePort(t)
	for i := range w.moving {
		w.moving[i] = freePort(t)
	}
	web, echo := tlstest.HTTP(t).URL, tlstest.TCP(t).URL
	service := tlstest.TLS(t, &tls.Config{Certificates: []tls.Certificate{w.serverCA.Server("sealed.localhost").TLS()}}).URL
	strict := require("always")
	w.endpoint("web", w.shared, web, strict)
	w.endpoint("raw", w.shared, echo, func(e *termination.Endpoint) { strict(e); raw(e) })
	w.endpoint("open", w.shared, web, nil)
	w.endpoint("sealed", w.shared, "tcp://"+strings.TrimPrefix(service, "tls://"), func(e *termination.Endpoint) { sealed(e) })
	w.endpoint("roam", w.roaming, web, strict)
	w.endpoint("mover", w.moving[0], web, func(e *termination.Endpoint) { strict(e); e.ClientAuth.OnLoss = termination.OnLossLeave })
	for i := range w.certs {
		w.certs[i] = map[string]*tlstest.Cert{}
		for _, name := range []string{"web", "raw", "open", "roam", "mover"} {
			w.certs[i][name] = w.serverCA.Server(name + ".localhost")
		}
	}
	w.change(-1)
	return w
}

// change makes the next revision and puts it into force.
func (w *whirl) change(i int) {
	next := *w.config
	next.Revision++
	next.Endpoints = append([]termination.Endpoint(nil), next.Endpoints...)
	next.Certificates = append([]termination.Certificate(nil), next.Certificates...)
	at := func(name string) *termination.Endpoint {
		for j := range next.Endpoints {
			if next.Endpoints[j].ID == "ep_"+name {
				return &next.Endpoints[j]
			}
		}
		w.t.Fatal(name)
		return nil
	}
	switch i % 6 {
	case 0: // who may enter
		list := []string{"always"}
		if i/6%2 == 0 {
			list = append(list, "flips")
		}
		for _, name := range []string{"web", "raw", "roam", "mover"} {
			at(name).ClientAuth.Authorities = list
		}
	case 1, 4: // certificates
		for j := range next.Certificates {
			if c := w.certs[i/3%2][next.Certificates[j].Name]; c != nil {
				next.Certificates[j].Chain, next.Certificates[j].Key = []*x509.Certificate{c.X509}, c.Key
			}
		}
	case 2: // between one interface and all
		at("roam").Listen = netip.MustParseAddr([]string{"0.0.0.0", "127.0.0.1"}[i/6%2])
	case 3: // from port to port
		at("mover").Port = w.moving[i/6%3]
	case 5: // what matters to nobody's admission
		next.Limits.IdleTimeout = time.Duration(10+i/6%3) * time.Minute
		at("open").Aliases = []string{fmt.Sprintf("alias%d.localhost", i/6%2)}
	}
	now := &truth{leaf: map[string]termination.Fingerprint{}, hash: map[string]string{}, port: map[string]uint16{}}
	now.flips = len(at("web").ClientAuth.Authorities) > 1
	for j := range next.Endpoints {
		e := &next.Endpoints[j]
		now.port[e.Name] = e.Port
		if len(e.Certificates) > 0 {
			now.leaf[e.Name] = termination.FingerprintOf(next.Certificate(e.Certificates[0]).Chain[0])
		}
	}
	w.mu.Lock()
	w.truths[next.Revision] = now
	w.mu.Unlock()
	w.steps.Add(1)
	defer w.steps.Add(1)
	if err := w.gateway.Apply(context.Background(), &next); err != nil {
		w.t.Fatal(err)
	}
	status := w.gateway.Status()
	w.mu.Lock()
	for _, s := range status.Endpoints {
		if s.State != gateway.StateListening {
			w.t.Errorf("revision %d: %s: %s", next.Revision, s.Name, s.Problem)
		}
		now.hash[s.Name] = s.PolicyHash
	}
	w.mu.Unlock()
	w.now.Store(now)
	w.config = &next
}

// visitAll visits one endpoint after the other.
func (w *whirl) visitAll(ctx context.Context, v *visitor, dice *rand.Rand) {
	names := []string{"web", "web", "raw", "open", "sealed", "roam", "mover"}
	for ctx.Err() == nil {
		w.visit(v, names[dice.IntN(len(names))], dice.IntN(2) == 0)
	}
}

// visit makes one connection and notes what became of it.
func (w *whirl) visit(v *visitor, name string, h2 bool) {
	defer w.ended.Add(1)
	steps := w.steps.Load()
	port := w.now.Load().port[name]
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: v.source}, Timeout: patience}
	tcp, err := dialer.Dial("tcp", address(port))
	if err != nil {
		// Nobody is there any more, or not yet again, if the endpoint moved meanwhile or is moving.
		moved := steps%2 == 1 || w.steps.Load() != steps
		if errors.Is(err, syscall.ECONNREFUSED) && name == "mover" && moved {
			return
		}
		w.t.Errorf("%s: %v", name, err)
		return
	}
	defer tcp.Close()
	_ = tcp.SetDeadline(time.Now().Add(patience))
	config := w.clientConfig(name+".localhost", 0, v.cert)
	if v.source[len(v.source)-1]%3 == 0 {
		config.MaxVersion = tls.VersionTLS12
	}
	if name == "sealed" || name == "raw" {
		h2 = false
	} else if h2 {
		config.NextProtos = []string{"h2"}
	}
	seen := visit{who: v, endpoint: name}
	conn := tls.Client(tcp, config)
	if seen.err = conn.Handshake(); seen.err == nil {
		seen.leaf = termination.FingerprintOf(conn.ConnectionState().PeerCertificates[0])
		seen.err = use(conn, name, h2)
	}
	seen.in = seen.err == nil
	peer := tcp.LocalAddr().(*net.TCPAddr).AddrPort()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.visits[peer] = append(w.visits[peer], seen)
}

// use speaks the protocol of an endpoint.
func use(conn *tls.Conn, name string, h2 bool) error {
	if name == "raw" || name == "sealed" {
		return echo(conn)
	}
	r, err := http.NewRequest(http.MethodGet, "https://"+name+".localhost/", nil) // the connection has a deadline
	if err != nil {
		return err
	}
	var res *http.Response
	if h2 {
		transport := &http.Transport{ForceAttemptHTTP2: true, DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
		defer transport.CloseIdleConnections()
		if res, err = transport.RoundTrip(r); err != nil {
			return err
		}
	} else {
		if err := r.Write(conn); err != nil {
			return err
		}
		if res, err = http.ReadResponse(bufio.NewReader(conn), r); err != nil {
			return err
		}
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}

func echo(conn net.Conn) error {
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 5))
	return err
}

// holdStreams opens streams of admitted clients that must live as long as the test.
func (w *whirl) holdStreams(ctx context.Context, clients *sync.WaitGroup) {
	steady := w.always.Client("stays")
	for range streamsOfEach {
		for _, name := range []string{"raw", "sealed"} {
			conn := w.dial(w.shared, name+".localhost", tls.VersionTLS13, steady)
			_ = conn.SetDeadline(time.Time{})
			clients.Go(func() {
				defer conn.Close()
				for ctx.Err() == nil {
					_ = conn.SetDeadline(time.Now().Add(patience))
					if err := echo(conn); err != nil {
						w.t.Errorf("a stream of %s was dropped: %v", name, err)
						return
					}
					pause(ctx)
				}
			})
		}
		for _, name := range []string{"web", "roam"} {
			for _, h2 := range []bool{true, false} {
				clients.Go(func() { w.holdHTTP(ctx, name, h2, steady) })
			}
		}
	}
}

// holdHTTP makes requests on one connection; a second one would mean that the first was dropped.
func (w *whirl) holdHTTP(ctx context.Context, name string, h2 bool, cert *tlstest.Cert) {
	port, dials := w.now.Load().port[name], 0
	transport := &http.Transport{
		TLSClientConfig: w.clientConfig(name+".localhost", tls.VersionTLS13, cert), ForceAttemptHTTP2: h2,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			dials++
			return (&net.Dialer{}).DialContext(ctx, network, address(port))
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	for ctx.Err() == nil {
		res, err := client.Get("https://" + name + ".localhost/") // the client has a timeout
		if err != nil {
			w.t.Errorf("a request to %s: %v", name, err)
			return
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK || dials != 1 {
			w.t.Errorf("%s answered %d on connection %d", name, res.StatusCode, dials)
			return
		}
		pause(ctx)
	}
}

// pause leaves the processor to those who connect.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(50 * time.Millisecond):
	}
}

// compare holds what clients saw against the records, and the records against their revisions.
func (w *whirl) compare() (total, in int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range w.visits {
		total += len(v)
	}
	records := w.recordsOf()
	for peer, visits := range w.visits {
		if len(records[peer]) != len(visits) {
			w.t.Errorf("%s made %d connections, and %d are recorded", peer, len(visits), len(records[peer]))
			continue
		}
		for i, v := range visits {
			if v.in {
				in++
			}
			if problem := w.mixture(v, records[peer][i]); problem != "" {
				rec := records[peer][i]
				w.t.Errorf("%s as %s at revision %d: %s (the client: %v; the record: %s %s %s)", v.endpoint, v.who.kind(), rec.Revision, problem, v.err, rec.Verdict.Outcome, rec.Verdict.Reason, rec.Error)
			}
		}
	}
	return total, in
}

func (v *visitor) kind() string {
	switch {
	case v.always:
		return "somebody always admitted"
	case v.flips:
		return "somebody sometimes admitted"
	case v.cert == nil:
		return "nobody"
	}
	return "a stranger"
}

// recordsOf waits until everything is recorded that was let in, and sorts by client.
func (w *whirl) recordsOf() map[netip.AddrPort][]*termination.Handshake {
	want := 0
	for _, v := range w.visits {
		want += len(v)
	}
	w.waitFor("the records", func() bool {
		n := 0
		for _, rec := range w.records {
			if _, ours := w.visits[rec.Peer]; ours {
				n++
			}
		}
		return n >= want
	})
	w.rig.mu.Lock()
	defer w.rig.mu.Unlock()
	out := map[netip.AddrPort][]*termination.Handshake{}
	for _, rec := range w.records {
		out[rec.Peer] = append(out[rec.Peer], rec)
	}
	return out
}

// mixture says what of a connection its revision does not explain.
func (w *whirl) mixture(v visit, rec *termination.Handshake) string {
	now := w.truths[rec.Revision]
	switch {
	case now == nil:
		return "there is no such revision"
	case rec.Local.Port() != now.port[v.endpoint] && v.endpoint == "mover":
		// It came to where the endpoint was.
		if rec.Verdict.Reason != termination.ReasonNameUnknown || v.in {
			return "let in where the endpoint is not"
		}
		return ""
	case rec.Endpoint != v.endpoint:
		return "led to " + rec.Endpoint
	case v.endpoint == "sealed":
		if !v.in || rec.Verdict.Outcome != termination.OutcomePassed {
			return "did not pass"
		}
		return ""
	case rec.PolicyHash != now.hash[v.endpoint]:
		return "another policy's hash"
	case v.leaf != (termination.Fingerprint{}) && v.leaf != now.leaf[v.endpoint]:
		return "another certificate was served"
	}
	admitted := v.endpoint == "open" || v.who.always || v.who.flips && now.flips
	switch {
	case admitted != rec.Verdict.Outcome.In():
		return fmt.Sprintf("admitted should be %v", admitted)
	case v.in && !admitted:
		return "got in"
	case v.endpoint == "mover" && v.err != nil && strings.HasPrefix(v.err.Error(), "421 "):
		// The endpoint moved away from an open connection, which on_loss: leave keeps, and HTTP does not serve.
	case !v.in && admitted && !v.who.flips: // whose admission may end while the connection is open
		return "was dropped"
	}
	return ""
}
