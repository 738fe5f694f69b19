package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patient = 30 * time.Second

// at makes an upstream of these addresses.
func at(scheme termination.UpstreamScheme, policy termination.UpstreamPolicy, addresses ...string) termination.Upstream {
	return termination.Upstream{Scheme: scheme, Address: addresses[0], More: addresses[1:], Policy: policy}
}

func newSet(t *testing.T) *Set {
	s := NewSet(Options{})
	t.Cleanup(s.Close)
	return s
}

func (s *Set) one(u termination.Upstream) *Service { return s.Use([]termination.Upstream{u})[KeyOf(u)] }

// names are the ports of the targets as they are chosen one after the other, the first of each choice.
func chosen(s *Service, n int) (out string) {
	for range n {
		c := s.Choose()
		out += c.Next().address
	}
	return out
}

func TestRoundRobin(t *testing.T) {
	s := newSet(t).one(at(termination.UpstreamTCP, termination.UpstreamPolicy{}, "a", "b", "c"))
	if got := chosen(s, 7); got != "abcabca" {
		t.Errorf("turns %s", got)
	}
	// One that is out leaves its share to both others.
	b := s.targets[1]
	b.change(func(now time.Time) { b.health.failedLocked(now, errors.New("gone")) })
	got := chosen(s, 100)
	if strings.Count(got, "b") != 0 || strings.Count(got, "a") != 50 {
		t.Errorf("turns without b: %s", got)
	}
	// All are out: they are tried in order, each once.
	for _, o := range s.targets {
		o.change(func(now time.Time) { o.health.failedLocked(now, errors.New("gone")) })
	}
	c := s.Choose()
	order := c.Next().address + c.Next().address + c.Next().address
	if order != "abc" || c.More() || c.Next() != nil {
		t.Errorf("tried %s", order)
	}
	b.Answers()
	if got := chosen(s, 3); got != "bbb" {
		t.Errorf("only b is back, and turns are %s", got)
	}
}

func TestTriesAreBounded(t *testing.T) {
	s := newSet(t).one(at(termination.UpstreamTCP, termination.UpstreamPolicy{}, "a", "b", "c", "d", "e", "f", "g"))
	c, n := s.Choose(), 0
	for c.Next() != nil {
		n++
	}
	if n != maxTries {
		t.Errorf("%d tries", n)
	}
}

func TestLeastConnections(t *testing.T) {
	s := newSet(t).one(at(termination.UpstreamTCP, termination.UpstreamPolicy{Balance: termination.BalanceLeastConnections}, "a", "b", "c"))
	begin := func(i, n int) {
		for range n {
			s.targets[i].Begin()
		}
	}
	begin(0, 3)
	begin(1, 1)
	begin(2, 2)
	if got := chosen(s, 3); got != "bbb" {
		t.Errorf("chose %s with 3, 1 and 2 under way", got)
	}
	begin(1, 2)
	if got := chosen(s, 2); got != "cc" {
		t.Errorf("chose %s with 3, 3 and 2 under way", got)
	}
	begin(2, 1)
	if got := chosen(s, 30); strings.Count(got, "a") != 10 || strings.Count(got, "c") != 10 {
		t.Errorf("chose %s where all have the same", got)
	}
}

// TestPauses: a target is out for a while that grows, and failures that were under way already do not count.
func TestPauses(t *testing.T) {
	var h health
	now := time.Now()
	for i, want := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
		h.change(now, func() { h.failedLocked(now, errors.New("x")) })
		if got := time.Until(h.until).Seconds(); got > float64(want) || got < float64(want)/2 {
			t.Errorf("pause %d is %v, want %d s", i, got, want)
		}
		before := h.until
		h.change(now, func() { h.failedLocked(now, errors.New("x")) })
		if h.until != before || h.available() {
			t.Errorf("a failure within pause %d counted, or the target is in", i)
		}
		h.until = time.Now() // it is over
		if !h.available() {
			t.Errorf("still out after pause %d", i)
		}
	}
}

// TestMuteTarget: one that takes connections and breaks them off is out after three, and stays so until it answers.
func TestMuteTarget(t *testing.T) {
	up := tlstest.TCP(t)
	s := newSet(t).one(at(termination.UpstreamHTTP, termination.UpstreamPolicy{}, up.Addr, "127.0.0.1:1"))
	mute := s.targets[0]
	connect := func() {
		conn, _, err := mute.Dial(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	for i := range mostBroken {
		if !mute.Status().Healthy {
			t.Errorf("out after %d", i)
		}
		connect()
		mute.Broke(errors.New("no answer"))
	}
	for range 2 {
		connect() // alone it says nothing
		if got := mute.Status(); got.Healthy || got.LastError != "no answer" || mute.health.available() {
			t.Errorf("%+v", got)
		}
		mute.health.mu.Lock()
		mute.health.until = time.Now() // its pause is over
		mute.health.mu.Unlock()
		connect()
		mute.Broke(errors.New("no answer")) // once is enough now
	}
	mute.Answers()
	if !mute.Status().Healthy {
		t.Error("it answers, and is out")
	}
}

// TestDialGoesOn: raw bytes go to the next target when the first cannot be reached; its error is kept, and its turn
// comes again once it answers.
func TestDialGoesOn(t *testing.T) {
	dead, alive := tlstest.Refusing(t), tlstest.TCP(t)
	s := newSet(t).one(at(termination.UpstreamTCP, termination.UpstreamPolicy{}, dead.Addr, alive.Addr))
	for range 4 {
		d, err := s.Dial(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if d.Target.address != alive.Addr || d.Target.Status().InUse != 1 {
			t.Errorf("reached %+v", d.Target.Status())
		}
		_ = d.Close()
		d.Target.End()
	}
	status := s.Status()
	if status[0].Healthy || !strings.Contains(status[0].LastError, "refused") || status[0].InUse != 0 || !status[1].Healthy || status[1].LastError != "" {
		t.Errorf("%+v", status)
	}
	listener, err := net.Listen("tcp", dead.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	s.targets[0].health.mu.Lock()
	s.targets[0].health.until = time.Now() // its pause is over
	s.targets[0].health.mu.Unlock()
	for range 2 {
		d, err := s.Dial(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = d.Close()
		d.Target.End()
	}
	if got := s.Status()[0]; !got.Healthy || got.LastError == "" {
		t.Errorf("it answers again: %+v", got)
	}
}

// TestOneTargetIsAlwaysTried: several targets, or a check, are never worse than nothing.
func TestOneTargetIsAlwaysTried(t *testing.T) {
	up := tlstest.TCP(t)
	s := newSet(t).one(at(termination.UpstreamTCP, termination.UpstreamPolicy{}, up.Addr))
	only := s.targets[0]
	only.change(func(now time.Time) { only.health.failedLocked(now, errors.New("x")); only.health.checkFailed = true })
	d, err := s.Dial(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = d.Close()
	d.Target.End()
}

// TestDialErrors: what fails is typed, and blames nobody when the caller has left.
func TestDialErrors(t *testing.T) {
	ca, plain := tlstest.NewCA(), tlstest.TCP(t)
	s := newSet(t)
	secure := at(termination.UpstreamTLS, termination.UpstreamPolicy{ConnectTimeout: 200 * time.Millisecond}, tlstest.Silent(t).Addr)
	secure.TLS.Roots = append(secure.TLS.Roots, ca.X509)
	_, err := s.one(secure).Dial(t.Context(), nil)
	var dial *DialError
	if !errors.As(err, &dial) || !dial.InTLS || dial.Target != secure.String() || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a target that is silent in TLS: %v", err)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	u := at(termination.UpstreamTCP, termination.UpstreamPolicy{}, plain.Addr)
	service := s.one(u)
	if _, err := service.Dial(gone, nil); err == nil || !service.Status()[0].Healthy {
		t.Errorf("dialled for nobody: %v, %+v", err, service.Status())
	}
}

// TestTLS: a target is verified by the given CA and name, in every one of several, and sees our certificate whatever
// authorities it names.
func TestTLS(t *testing.T) {
	ca, clients, strangers := tlstest.NewCA(), tlstest.NewCA(), tlstest.NewCA()
	own := clients.Client("gateway")
	seen := make(chan tls.ConnectionState, 10)
	server := func(name string) *tlstest.Upstream {
		config := &tls.Config{
			Certificates: []tls.Certificate{ca.Server(name).TLS()}, ClientAuth: tls.RequireAnyClientCert, ClientCAs: strangers.Pool(),
			VerifyConnection: func(s tls.ConnectionState) error { seen <- s; return nil },
		}
		return tlstest.TLS(t, config)
	}
	good, bad := server("service.internal"), server("other.internal")
	u := at(termination.UpstreamTLS, termination.UpstreamPolicy{}, bad.Addr, good.Addr)
	u.TLS = termination.UpstreamTLSConfig{ServerName: "service.internal", Client: &termination.KeyPair{Key: own.Key}}
	u.TLS.Roots = append(u.TLS.Roots, ca.X509)
	u.TLS.Client.Chain = append(u.TLS.Client.Chain, own.X509)
	s := newSet(t).one(u)
	for range 2 {
		d, err := s.Dial(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if d.Target.address != good.Addr {
			t.Errorf("reached %s", d.Target.Name())
		}
		// The server sees the certificate once it reads.
		if _, err := d.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		got := <-seen
		if got.ServerName != "service.internal" || got.PeerCertificates[0].Subject.CommonName != "gateway" {
			t.Errorf("the service sees %q, %v", got.ServerName, got.PeerCertificates)
		}
		_ = d.Close()
		d.Target.End()
	}
	var verification *tls.CertificateVerificationError
	u.More = nil
	if _, err := newSet(t).one(u).Dial(t.Context(), nil); !errors.As(err, &verification) {
		t.Errorf("another name: %v", err)
	}
	u.TLS.Roots, u.Address = nil, good.Addr // the system's
	if _, err := newSet(t).one(u).Dial(t.Context(), nil); !errors.As(err, &verification) {
		t.Errorf("no CA of the system: %v", err)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	s := newSet(t).one(at(termination.UpstreamUnix, termination.UpstreamPolicy{}, path))
	d, err := s.Dial(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Target.Name() != "unix:"+path || d.Target.Host() != "localhost" {
		t.Errorf("%s, %s", d.Target.Name(), d.Target.Host())
	}
}

// TestHealthHTTP: a path that stops to answer as it should takes its target out, and one that does again brings it back.
func TestHealthHTTP(t *testing.T) {
	var status atomic.Int64
	status.Store(204)
	asked := make(chan *http.Request, 1000)
	up := tlstest.HTTPHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		w.WriteHeader(int(status.Load()))
	}))
	s := newSet(t).one(at(termination.UpstreamHTTP, termination.UpstreamPolicy{Health: "/healthz?full=1", HealthInterval: 10 * time.Millisecond}, up.Addr))
	if r := <-asked; r.URL.String() != "/healthz?full=1" || r.Host != up.Addr || r.Method != http.MethodGet {
		t.Errorf("asked %s %s of %s", r.Method, r.URL, r.Host)
	}
	for _, c := range []struct {
		status  int64
		healthy bool
	}{{503, false}, {302, true}, {404, false}, {200, true}} {
		status.Store(c.status)
		tlstest.Eventually(t, "the check to see the answer", func() bool { return s.Status()[0].Healthy == c.healthy })
	}
	if got := s.Status()[0].LastError; !strings.Contains(got, "/healthz?full=1") || !strings.Contains(got, "404") {
		t.Errorf("last error %q", got)
	}
}

// TestHealthTCP: a target that dies and returns is noticed without a client.
func TestHealthTCP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	s := newSet(t).one(at(termination.UpstreamTCP, termination.UpstreamPolicy{Health: "tcp", HealthInterval: 10 * time.Millisecond}, address))
	if conn, err := listener.Accept(); err != nil {
		t.Fatal(err)
	} else {
		_ = conn.Close()
	}
	_ = listener.Close()
	tlstest.Eventually(t, "the target to be out", func() bool { return !s.Status()[0].Healthy })
	if listener, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	tlstest.Eventually(t, "the target to be back", func() bool { return s.Status()[0].Healthy })
}

// TestUse: what did not change keeps its state and its check; what is gone is not checked any more, also after Close.
func TestUse(t *testing.T) {
	policy := termination.UpstreamPolicy{Health: "tcp", HealthInterval: time.Hour}
	set := NewSet(Options{})
	one := set.one(at(termination.UpstreamTCP, policy, "127.0.0.1:1", "127.0.0.1:2"))
	a := one.targets[0]
	policy.Balance = termination.BalanceLeastConnections
	two := set.one(at(termination.UpstreamTCP, policy, "127.0.0.1:2", "127.0.0.1:1", "127.0.0.1:3"))
	if two == one || two.targets[1] != a || two.targets[0] != one.targets[1] {
		t.Error("a target is another one although it did not change")
	}
	if again := set.one(at(termination.UpstreamTCP, policy, "127.0.0.1:2", "127.0.0.1:1", "127.0.0.1:3")); again != two {
		t.Error("a service is another one although it did not change")
	}
	if got := set.Use([]termination.Upstream{{Scheme: termination.UpstreamBuiltin, Address: "whoami"}, {}}); len(got) != 0 {
		t.Errorf("%d services for none", len(got))
	}
	set.Close()
	set.one(at(termination.UpstreamTCP, policy, "127.0.0.1:1")) // goleak sees a check that runs now
}

func TestKeys(t *testing.T) {
	one, two := tlstest.NewCA(), tlstest.NewCA()
	https := func(change func(*termination.Upstream)) termination.Upstream {
		u := termination.Upstream{Scheme: termination.UpstreamHTTPS, Address: "a:443"}
		change(&u)
		return u
	}
	different := []termination.Upstream{
		{Scheme: termination.UpstreamHTTP, Address: "a:443"},
		{Scheme: termination.UpstreamH2C, Address: "a:443"},
		{Scheme: termination.UpstreamUnix, Address: "a:443"},
		https(func(*termination.Upstream) {}),
		https(func(u *termination.Upstream) { u.Address = "b:443" }),
		https(func(u *termination.Upstream) { u.More = []string{"b:443"} }),
		https(func(u *termination.Upstream) { u.More = []string{"b:443", "c:443"} }),
		https(func(u *termination.Upstream) { u.TLS.ServerName = "x" }),
		https(func(u *termination.Upstream) { u.TLS.Roots = append(u.TLS.Roots, one.X509) }),
		https(func(u *termination.Upstream) { u.TLS.Roots = append(u.TLS.Roots, two.X509) }),
		https(func(u *termination.Upstream) { u.TLS.Roots = append(u.TLS.Roots, one.X509, two.X509) }),
		https(func(u *termination.Upstream) {
			u.TLS.Client = &termination.KeyPair{Key: one.Key}
			u.TLS.Client.Chain = append(u.TLS.Client.Chain, one.X509)
		}),
		https(func(u *termination.Upstream) { u.Policy.ProxyProtocol = termination.ProxyProtocolV1 }),
		https(func(u *termination.Upstream) { u.Policy.Health = "tcp" }),
		https(func(u *termination.Upstream) { u.Policy.Host = termination.HostUpstream }),
	}
	seen := map[Key]int{}
	for i, u := range different {
		if j, ok := seen[KeyOf(u)]; ok {
			t.Errorf("%+v and %+v are taken for the same", different[j], u)
		}
		seen[KeyOf(u)] = i
	}
	// A root that says nothing of itself means the system's, and that alone.
	if c := tlsConfig(different[3], "a:443"); c.RootCAs != nil || c.ServerName != "a" || c.InsecureSkipVerify {
		t.Errorf("%+v", c)
	}
	// Where upstreams are is said by the configuration alone.
	if tr := newSet(t).one(different[0]).targets[0].NewTransport(nil); tr.Proxy != nil {
		t.Error("the transport asks for a proxy")
	}
}
