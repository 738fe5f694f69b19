package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/proxyproto"
	"countersign/termination/tlstest"
)

var (
	farClient = netip.MustParseAddrPort("203.0.113.7:4711")
	farServer = netip.MustParseAddrPort("198.51.100.1:443")
)

// from makes an endpoint expect PROXY headers from these networks.
func from(networks ...string) func(*termination.Endpoint) {
	return func(e *termination.Endpoint) {
		e.Scheme = termination.SchemeTLS
		for _, n := range networks {
			e.ProxyProtocol = append(e.ProxyProtocol, netip.MustParsePrefix(n))
		}
	}
}

// behindBalancer sends these bytes, then TLS, one byte inside it, and waits for its echo.
func behindBalancer(t *testing.T, port uint16, header []byte, config *tls.Config) (*tls.Conn, error) {
	t.Helper()
	conn, err := net.Dial("tcp", address(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(header); err != nil {
		t.Fatal(err)
	}
	inside := tls.Client(conn, config)
	if err := inside.Handshake(); err != nil {
		return nil, err
	}
	if _, err := inside.Write([]byte("x")); err != nil {
		return nil, err
	}
	_, err = io.ReadFull(inside, make([]byte, 1))
	return inside, err
}

// TestPROXYIn: a listed source must send a header and is believed; nobody else may send one.
func TestPROXYIn(t *testing.T) {
	v1, v2 := proxyproto.V1(farClient, farServer), proxyproto.V2(farClient, farServer)
	own := proxyproto.V2(netip.AddrPort{}, netip.AddrPort{})
	for _, c := range []struct {
		name, listed string
		header       []byte
		reason       termination.Reason // empty: in
		peer         string             // beginning of the record's peer
		says         string
	}{
		{"v1", "127.0.0.0/8", v1, "", "203.0.113.7:4711", ""},
		{"v2", "127.0.0.1/32", v2, "", "203.0.113.7:4711", ""},
		{"local", "127.0.0.0/8", own, "", "127.0.0.1:", ""},
		{"unknown", "127.0.0.0/8", []byte("PROXY UNKNOWN\r\n"), "", "127.0.0.1:", ""},
		{"none from a stranger", "192.0.2.0/24", nil, "", "127.0.0.1:", ""},
		{"none", "127.0.0.0/8", nil, termination.ReasonProxyHeader, "127.0.0.1:", "no PROXY header"},
		{"broken", "127.0.0.0/8", []byte("PROXY TCP4 203.0.113.7 x 1 1\r\n"), termination.ReasonProxyHeader, "127.0.0.1:", "is no address of TCP4"},
		{"two", "127.0.0.0/8", append(bytes.Clone(v2), v2...), termination.ReasonProxyHeader, "203.0.113.7:4711", ""},
		{"v1 from a stranger", "192.0.2.0/24", v1, termination.ReasonProxyHeader, "127.0.0.1:", "not listed under proxy_protocol"},
		{"v2 from a stranger", "192.0.2.0/24", v2, termination.ReasonProxyHeader, "127.0.0.1:", "not listed under proxy_protocol"},
		{"expected of nobody", "", v2, termination.ReasonProxyHeader, "127.0.0.1:", "does not expect one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, port := newRig(t), freePort(t)
			change := from(c.listed)
			if c.listed == "" {
				change = from()
			}
			r.endpoint("a", port, tlstest.TCP(t).URL, change)
			r.apply()
			_, err := behindBalancer(t, port, c.header, r.clientConfig("a.localhost", tls.VersionTLS13, nil))
			rec := r.next()
			if (err == nil) != (c.reason == "") || rec.Verdict.Reason != c.reason || !strings.HasPrefix(rec.Peer.String(), c.peer) {
				t.Errorf("%v; the record has peer %s and reason %q", err, rec.Peer, rec.Verdict.Reason)
			}
			if c.reason != "" && (rec.Verdict.Outcome != termination.OutcomeRefused || !strings.Contains(rec.Verdict.Explanation.Sentence, c.says) || len(rec.Verdict.Explanation.Fixes) == 0) {
				t.Errorf("%+v", rec.Verdict)
			}
			if rec.Local.Port() != port {
				t.Errorf("local address %s", rec.Local)
			}
		})
	}
}

// TestPROXYInIsUnderTheDeadline: who sends half a header holds its place no longer than the handshake's time.
func TestPROXYInIsUnderTheDeadline(t *testing.T) {
	r, port := newRig(t), freePort(t)
	r.config.Limits.HandshakeTimeout = 50 * time.Millisecond
	r.endpoint("a", port, tlstest.TCP(t).URL, from("127.0.0.0/8"))
	r.apply()
	for _, c := range []struct {
		sent   string
		reason termination.Reason
	}{{"PROXY TCP4 203.0.113.7 ", termination.ReasonTimeout}, {"", termination.ReasonSilent}} {
		conn, err := net.Dial("tcp", address(port))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, c.sent); err != nil {
			t.Fatal(err)
		}
		if rec := r.next(); rec.Verdict.Reason != c.reason || rec.Verdict.Outcome != termination.OutcomeBrokenOff {
			t.Errorf("after %q: %+v", c.sent, rec.Verdict)
		}
		_ = conn.Close()
	}
	r.wait("the places to be free", func() bool { s := r.gateway.Status(); return s.HalfOpen == 0 && s.Connections == 0 })
}

// TestPROXYInLimits: limits for one address count the client that the header names, not the balancer.
func TestPROXYInLimits(t *testing.T) {
	r, port := newRig(t), freePort(t)
	r.config.Limits.ConnectionsPerAddress = 2
	r.endpoint("a", port, tlstest.TCP(t).URL, from("127.0.0.0/8"))
	r.apply()
	config := r.clientConfig("a.localhost", tls.VersionTLS13, nil)
	for i := range 6 {
		client := netip.MustParseAddrPort(fmt.Sprintf("203.0.113.%d:1", i%3))
		if _, err := behindBalancer(t, port, proxyproto.V2(client, farServer), config); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		r.next()
	}
	if _, err := behindBalancer(t, port, proxyproto.V2(netip.MustParseAddrPort("203.0.113.1:9"), farServer), config); err == nil {
		t.Error("a third connection of one client came in")
	}
	rec := r.next()
	if rec.Verdict.Reason != termination.ReasonOverloaded || !strings.Contains(rec.Verdict.Explanation.Sentence, "203.0.113.1 ") {
		t.Errorf("%+v", rec.Verdict)
	}
}

// heard is what an upstream was told before the client's bytes.
type heard struct {
	header proxyproto.Header
	bytes  []byte // of the header
}

// listening is an echoing upstream that reads a PROXY header first.
func listening(t *testing.T) (*tlstest.Upstream, <-chan heard) {
	told := make(chan heard, 10)
	up := tlstest.ServeTCP(t, func(_ context.Context, conn net.Conn) {
		var seen bytes.Buffer
		h, err := proxyproto.Read(io.TeeReader(conn, &seen))
		if err != nil {
			t.Errorf("the upstream got no PROXY header: %v", err)
			return
		}
		told <- heard{h, seen.Bytes()}
		_, _ = io.Copy(conn, conn)
		_ = conn.(*net.TCPConn).CloseWrite()
	})
	return up, told
}

// fields are the fields of a header of version 2 for IPv4, by type.
func fields(b []byte, from int) map[byte][]byte {
	out := map[byte][]byte{}
	for i := from; i < len(b); {
		n := int(binary.BigEndian.Uint16(b[i+1:]))
		out[b[i]] = b[i+3 : i+3+n]
		i += 3 + n
	}
	return out
}

// TestPROXYOut: a tls endpoint tells its upstream whose connection it is, as the client's balancer said, and of TLS what
// it knows; a name and certificate only of a verified client.
func TestPROXYOut(t *testing.T) {
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	alice := devices.Client("alice")
	stranger := tlstest.NewCA().Client("mallory")
	for _, c := range []struct {
		name    string
		mode    termination.Mode
		version termination.ProxyProtocol
		cert    *tlstest.Cert
		report  bool // report_only
	}{
		{"v1", termination.ModeRequire, termination.ProxyProtocolV1, alice, false},
		{"v2 verified", termination.ModeRequire, termination.ProxyProtocolV2, alice, false},
		{"v2 without certificate", termination.ModeOptional, termination.ProxyProtocolV2, nil, false},
		{"v2 unverified", termination.ModeRequest, termination.ProxyProtocolV2, stranger, false},
		{"v2 only reported on", termination.ModeRequire, termination.ProxyProtocolV2, alice, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, port := newRig(t), freePort(t)
			r.trust("devices", devices)
			up, told := listening(t)
			r.endpoint("a", port, up.URL, func(e *termination.Endpoint) {
				from("127.0.0.0/8")(e)
				mode(c.mode, "devices")(e)
				e.ALPN, e.ClientAuth.ReportOnly = []string{"echo"}, c.report
				e.Upstream.Policy.ProxyProtocol = c.version
			})
			r.apply()
			config := r.clientConfig("a.localhost", tls.VersionTLS13, c.cert)
			config.NextProtos = []string{"echo"}
			if _, err := behindBalancer(t, port, proxyproto.V1(farClient, farServer), config); err != nil {
				t.Fatal(err)
			}
			got := <-told
			if want := netip.MustParseAddrPort(address(port)); got.header.Source != farClient || got.header.Destination != want {
				t.Errorf("told of %+v", got.header)
			}
			if c.version == termination.ProxyProtocolV1 {
				if want := fmt.Sprintf("PROXY TCP4 203.0.113.7 127.0.0.1 4711 %d\r\n", port); string(got.bytes) != want {
					t.Errorf("%q", got.bytes)
				}
				return
			}
			all := fields(got.bytes, 16+12)
			ssl := all[proxyproto.TypeSSL]
			if string(all[proxyproto.TypeALPN]) != "echo" || string(all[proxyproto.TypeAuthority]) != "a.localhost" || len(ssl) < 5 {
				t.Fatalf("fields %q", all)
			}
			inner := fields(ssl, 5)
			if string(inner[proxyproto.SubtypeVersion]) != "TLSv1.3" || !strings.HasPrefix(string(inner[proxyproto.SubtypeCipher]), "TLS_") {
				t.Errorf("of TLS: %q", inner)
			}
			if string(inner[proxyproto.SubtypeSigAlg]) != "ecdsa-with-SHA256" || string(inner[proxyproto.SubtypeKeyAlg]) != "EC256" || len(inner[proxyproto.SubtypeGroup]) == 0 {
				t.Errorf("of our certificate and the group: %q", inner)
			}
			client, unverified := ssl[0], binary.BigEndian.Uint32(ssl[1:5])
			if c.cert == alice && !c.report {
				if client != 7 || unverified != 0 || string(inner[proxyproto.SubtypeCN]) != "alice" || !bytes.Equal(inner[proxyproto.SubtypeCert], alice.X509.Raw) {
					t.Errorf("of alice: %#x, %d, %q", client, unverified, inner)
				}
				return
			}
			if client != proxyproto.ClientSSL || unverified == 0 || inner[proxyproto.SubtypeCN] != nil || inner[proxyproto.SubtypeCert] != nil {
				t.Errorf("of somebody unverified: %#x, %d, %q", client, unverified, inner)
			}
		})
	}
}

// TestPROXYOutPassthrough: a service that ends TLS itself learns the client's address and the name that it asked for.
func TestPROXYOutPassthrough(t *testing.T) {
	ca := tlstest.NewCA()
	r, port := newRig(t), freePort(t)
	told := make(chan heard, 1)
	up := tlstest.ServeTCP(t, func(ctx context.Context, conn net.Conn) {
		var seen bytes.Buffer
		h, err := proxyproto.Read(io.TeeReader(conn, &seen))
		if err != nil {
			t.Errorf("the upstream got no PROXY header: %v", err)
			return
		}
		told <- heard{h, seen.Bytes()}
		inside := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{ca.Server("a.localhost").TLS()}})
		if inside.HandshakeContext(ctx) == nil {
			_, _ = io.Copy(inside, inside)
		}
	})
	r.endpoint("a", port, up.URL, func(e *termination.Endpoint) {
		from()(e)
		e.TerminateAt = termination.AtUpstream
		e.Upstream.Policy.ProxyProtocol = termination.ProxyProtocolV2
	})
	r.apply()
	config := &tls.Config{ServerName: "a.localhost", RootCAs: ca.Pool()}
	conn, err := behindBalancer(t, port, nil, config)
	if err != nil {
		t.Fatal(err)
	}
	got := <-told
	if got.header.Source.String() != conn.LocalAddr().String() || got.header.Destination.String() != address(port) {
		t.Errorf("told of %+v", got.header)
	}
	all := fields(got.bytes, 16+12)
	if len(all) != 1 || string(all[proxyproto.TypeAuthority]) != "a.localhost" {
		t.Errorf("fields %q", all)
	}
}

// TestRawTargets: raw bytes of both kinds of tls endpoints go to the next target when one cannot be reached, and the
// status says which it is.
func TestRawTargets(t *testing.T) {
	for _, where := range []termination.TerminateAt{termination.AtEdge, termination.AtUpstream} {
		t.Run(string(where), func(t *testing.T) {
			r, port := newRig(t), freePort(t)
			dead := tlstest.Refusing(t)
			alive, ca := tlstest.TCP(t), r.serverCA
			if where == termination.AtUpstream {
				alive = tlstest.TLS(t, &tls.Config{Certificates: []tls.Certificate{ca.Server("a.localhost").TLS()}})
			}
			r.endpoint("a", port, dead.URL, func(e *termination.Endpoint) {
				from()(e)
				e.TerminateAt = where
				e.Upstream.More = []string{alive.Addr}
			})
			r.apply()
			for range 3 {
				if _, err := behindBalancer(t, port, nil, r.clientConfig("a.localhost", tls.VersionTLS13, nil)); err != nil {
					t.Fatal(err)
				}
			}
			status := r.gateway.Status().Endpoints[0].Upstreams
			if len(status) != 2 || status[0].Healthy || status[0].LastError == "" || status[0].InUse != 0 || !status[1].Healthy || status[1].InUse != 3 {
				t.Errorf("%+v", status)
			}
		})
	}
}
