package gateway_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/tlstest"
)

func on(address string) func(*termination.Endpoint) {
	return func(e *termination.Endpoint) { e.Listen = netip.MustParseAddr(address) }
}

// An endpoint on all interfaces and one on a single interface share a port, whichever came first. The name decides,
// and a fallback on the one interface is not laxer than a name that is known on all.
func TestAllInterfacesBesideOne(t *testing.T) {
	upstream := tlstest.HTTP(t)
	r := newRig(t)
	port := freePort(t)
	r.endpoint("one", port, upstream.URL, nil)
	r.apply()
	r.endpoint("all", port, upstream.URL, on("0.0.0.0"))
	r.endpoint("back", port, upstream.URL, func(e *termination.Endpoint) { e.Host = "" })
	r.apply() // fails when one of them cannot listen
	check := func() {
		t.Helper()
		for name, want := range map[string]string{"one.localhost": "one", "all.localhost": "all", "other.localhost": "back"} {
			config := r.clientConfig(name, tls.VersionTLS13, nil)
			config.InsecureSkipVerify = true // the fallback has no such name
			status, _, err := get(config, port, name)
			if rec := r.next(); rec.Endpoint != want || err != nil || want != "back" && status != 200 {
				t.Errorf("%s led to %q: %d, %v", name, rec.Endpoint, status, err)
			}
		}
	}
	check()
	r.change("all", on("127.0.0.1"))
	check()
	r.change("all", on("0.0.0.0"))
	check()
}

// 0.0.0.0 is IPv4; it does not open the port to IPv6.
func TestIPv4OnlyStaysIPv4(t *testing.T) {
	upstream := tlstest.HTTP(t)
	r := newRig(t)
	port, six := freePort(t), freePort(t)
	r.endpoint("a", port, upstream.URL, on("0.0.0.0"))
	r.apply()
	if conn, err := net.Dial("tcp", net.JoinHostPort("::1", strings.TrimPrefix(address(port), "127.0.0.1:"))); err == nil {
		conn.Close()
		t.Error("IPv6 is open")
	}
	r.endpoint("b", six, upstream.URL, on("::1"))
	r.apply()
	conn, err := tls.Dial("tcp", net.JoinHostPort("::1", strings.TrimPrefix(address(six), "127.0.0.1:")), r.clientConfig("b.localhost", tls.VersionTLS13, nil))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if rec := r.next(); rec.Endpoint != "b" || rec.Peer.Addr() != netip.IPv6Loopback() {
		t.Errorf("recorded %q from %s", rec.Endpoint, rec.Peer)
	}
}

// A port that another program has is a status with advice; when it is free again, Retry opens it. The rest is served
// meanwhile.
func TestPortTaken(t *testing.T) {
	upstream := tlstest.HTTP(t)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	r := newRig(t)
	free := freePort(t)
	r.endpoint("free", free, upstream.URL, nil)
	taken := netip.MustParseAddrPort(other.Addr().String()).Port()
	r.endpoint("taken", taken, upstream.URL, nil)
	if err := r.gateway.Apply(context.Background(), r.config); err != nil {
		t.Fatal(err)
	}
	states := r.gateway.Status().Endpoints
	if states[0].State != gateway.StateListening || states[1].State != gateway.StateFailed || !strings.Contains(states[1].Problem, "stop the program") {
		t.Errorf("%+v", states)
	}
	if status, _, err := get(r.clientConfig("free.localhost", tls.VersionTLS13, nil), free, "free.localhost"); err != nil || status != 200 {
		t.Errorf("the other endpoint: %d, %v", status, err)
	}
	r.next()
	_ = other.Close()
	r.gateway.Retry(context.Background())
	if status, _, err := get(r.clientConfig("taken.localhost", tls.VersionTLS13, nil), taken, "taken.localhost"); err != nil || status != 200 {
		t.Errorf("after Retry: %d, %v", status, err)
	}
	r.next()
	for _, s := range r.gateway.Status().Endpoints {
		if s.State != gateway.StateListening {
			t.Errorf("%s: %s", s.Name, s.Problem)
		}
	}
}

// Advice fits the cause.
func TestListenAdvice(t *testing.T) {
	upstream := tlstest.HTTP(t)
	r := newRig(t)
	r.endpoint("a", freePort(t), upstream.URL, on("192.0.2.1"))
	if err := r.gateway.Apply(context.Background(), r.config); err != nil {
		t.Fatal(err)
	}
	if p := r.gateway.Status().Endpoints[0].Problem; !strings.HasPrefix(p, "cannot listen on ") || !strings.Contains(p, "no interface") {
		t.Errorf("advised %q", p)
	}
}

// Whoever reaches a new port finds its endpoint: nobody is accepted before the configuration is in force.
func TestNewPortFindsItsEndpoint(t *testing.T) {
	upstream := tlstest.HTTP(t)
	r := newRig(t)
	r.endpoint("a", freePort(t), upstream.URL, nil)
	r.apply()
	for range 20 {
		port := freePort(t)
		done := make(chan error, 1)
		go func() {
			for until := time.Now().Add(patience); time.Now().Before(until); {
				conn, err := net.Dial("tcp", address(port))
				if err != nil {
					continue
				}
				inner := tls.Client(conn, r.clientConfig("a.localhost", tls.VersionTLS13, nil))
				err = inner.Handshake()
				_ = conn.Close()
				done <- err
				return
			}
			done <- context.DeadlineExceeded
		}()
		r.change("a", func(e *termination.Endpoint) { e.Port = port })
		if err := <-done; err != nil {
			t.Fatalf("the first client was refused: %v", err)
		}
	}
}

// A change of names or versions is a change of who may be there: live connections that would not get in any more end.
func TestNamesAndVersionsAreJudgedAgain(t *testing.T) {
	echo := tlstest.TCP(t)
	for name, change := range map[string]func(*termination.Endpoint){
		"name":    func(e *termination.Endpoint) { e.Aliases = nil },
		"version": func(e *termination.Endpoint) { e.MinVersion = tls.VersionTLS13 },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			port := freePort(t)
			r.endpoint("a", port, echo.URL, func(e *termination.Endpoint) {
				raw(e)
				e.Aliases = []string{"second.localhost"}
			})
			r.apply()
			loses := r.dial(port, "second.localhost", tls.VersionTLS12, nil)
			lost := r.next()
			stays := r.dial(port, "a.localhost", tls.VersionTLS13, nil)
			r.next()
			r.change("a", change)
			if end := r.end(lost.ID); end.ClosedBy != termination.ClosedByPolicy {
				t.Errorf("closed by %s", end.ClosedBy)
			}
			_, _ = loses.Read(make([]byte, 1))
			if _, err := stays.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := stays.Read(make([]byte, 1)); err != nil {
				t.Errorf("the other one was put out: %v", err)
			}
		})
	}
}
