package wire

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"countersign/termination/tlstest"

	"golang.org/x/crypto/cryptobyte"
)

// flight is what each side sent during one connection.
type flight struct{ client, server []byte }

// handshakes lets a crypto/tls client and server speak n times, and returns what
// passed by. The server's certificate is made here; either side may fail.
func handshakes(t testing.TB, server, client *tls.Config, n int) []flight {
	t.Helper()
	ca := tlstest.NewCA()
	server.Certificates = []tls.Certificate{ca.Server("api.example.com").TLS()}
	if client.RootCAs == nil {
		client.RootCAs = ca.Pool()
	}
	client.ServerName = "api.example.com"
	var flights []flight
	for range n {
		flights = append(flights, handshake(t, server, client))
	}
	return flights
}

func handshake(t testing.TB, server, client *tls.Config) flight {
	t.Helper()
	a, b := pair(t)
	deadline := time.Now().Add(20 * time.Second)
	a.SetDeadline(deadline)
	b.SetDeadline(deadline)
	toServer, toClient := &spy{Conn: a}, &spy{Conn: b}
	var both sync.WaitGroup
	both.Go(func() {
		defer toClient.Close()
		s := tls.Server(toClient, server)
		if s.Handshake() == nil {
			s.Write([]byte("hello"))
		}
	})
	both.Go(func() {
		defer toServer.Close()
		c := tls.Client(toServer, client)
		if c.Handshake() == nil {
			io.ReadAll(c) // takes in the tickets too
		}
	})
	both.Wait()
	return flight{client: toServer.sent.Bytes(), server: toClient.sent.Bytes()}
}

// pair returns both ends of a connection over loopback.
func pair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if client, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// spy keeps what is written.
type spy struct {
	net.Conn
	sent bytes.Buffer
}

func (s *spy) Write(p []byte) (int, error) {
	s.sent.Write(p)
	return s.Conn.Write(p)
}

// observe feeds a flight in pieces of this size, and checks that what is said to
// be of no interest is not.
func observe(t *testing.T, raw []byte, size int) *ServerObserver {
	t.Helper()
	o := new(ServerObserver)
	for p := range slices.Chunk(raw, size) {
		more := o.Feed(p)
		if again := o.Feed(nil); again != more {
			t.Fatal("Feed does not know what it wants")
		}
		if !more {
			break
		}
	}
	return o
}

func TestServerObserver(t *testing.T) {
	ca := tlstest.NewCA()
	for name, c := range map[string]struct {
		server, client *tls.Config
		version        uint16
		group          uint16
		suite          uint16 // 0: any
		alpn           string
		retry, asks    bool
		alert          uint8
		hello          bool
	}{
		"TLS 1.3": {
			server: &tls.Config{NextProtos: []string{"h2"}}, client: &tls.Config{NextProtos: []string{"h2"}},
			version: VersionTLS13, group: uint16(tls.X25519MLKEM768), hello: true,
		},
		"TLS 1.3 retry": {
			server:  &tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP384}},
			client:  &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP384}},
			version: VersionTLS13, group: uint16(tls.CurveP384), retry: true, hello: true,
		},
		"TLS 1.2": {
			server:  &tls.Config{MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2"}, CurvePreferences: []tls.CurveID{tls.CurveP521}},
			client:  &tls.Config{NextProtos: []string{"foo", "h2"}, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}},
			version: VersionTLS12, group: uint16(tls.CurveP521), suite: tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, alpn: "h2", hello: true,
		},
		"TLS 1.2 asks": {
			server: &tls.Config{MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()},
			client: &tls.Config{Certificates: []tls.Certificate{ca.Client("alice").TLS()}}, version: VersionTLS12, group: uint16(tls.X25519), asks: true, hello: true,
		},
		"TLS 1.2 refuses": {
			server: &tls.Config{MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()},
			client: &tls.Config{}, version: VersionTLS12, group: uint16(tls.X25519), asks: true, alert: 40, hello: true,
		},
		"TLS 1.0": {
			server: &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, client: &tls.Config{MinVersion: tls.VersionTLS10},
			version: VersionTLS10, group: uint16(tls.X25519), hello: true,
		},
		"no common version": {
			server: &tls.Config{MinVersion: tls.VersionTLS13}, client: &tls.Config{MaxVersion: tls.VersionTLS12}, alert: 70,
		},
		"no common protocol": {
			server: &tls.Config{NextProtos: []string{"a"}}, client: &tls.Config{NextProtos: []string{"b"}}, alert: 120,
		},
	} {
		t.Run(name, func(t *testing.T) {
			raw := handshakes(t, c.server, c.client, 1)[0].server
			for _, size := range []int{1, 2, 3, 5, 100, len(raw)} {
				o := observe(t, raw, size)
				h := o.Hello()
				if (h != nil) != c.hello {
					t.Fatalf("in pieces of %d: hello %+v", size, h)
				}
				if alert, seen := o.Alert(); seen != (c.alert != 0) || alert.Description != c.alert {
					t.Errorf("in pieces of %d: alert %v, %v", size, alert, seen)
				}
				if o.AsksForCertificate() != c.asks || o.Retried() != c.retry {
					t.Errorf("in pieces of %d: asks %v, retried %v", size, o.AsksForCertificate(), o.Retried())
				}
				if h == nil {
					continue
				}
				if h.Version != c.version || h.Group != c.group || h.ALPN != c.alpn || h.HelloRetryRequest != c.retry ||
					(c.suite != 0 && h.CipherSuite != c.suite) || h.PSK {
					t.Errorf("in pieces of %d: %+v", size, h)
				}
			}
		})
	}
}

func TestServerObserverSeesResumption(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		flights := handshakes(t, &tls.Config{MaxVersion: version}, &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(1)}, 2)
		for i, want := range []bool{false, true} {
			client, _, err := ReadClientHello(bytes.NewReader(flights[i].client), 0)
			if err != nil {
				t.Fatal(err)
			}
			server := observe(t, flights[i].server, 1000).Hello()
			if server == nil || server.Resumes(client) != want {
				t.Errorf("%s, connection %d: %+v", VersionName(version), i, server)
			}
		}
	}
}

// serverHello builds a ServerHello.
func serverHello(version uint16, extensions ...extension) []byte {
	var b cryptobyte.Builder
	b.AddUint8(typeServerHello)
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint16(version)
		b.AddBytes(make([]byte, 32))
		b.AddUint8LengthPrefixed(func(*cryptobyte.Builder) {})
		b.AddUint16(0xc02f)
		b.AddUint8(0)
		if extensions == nil {
			return
		}
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, e := range extensions {
				b.AddUint16(e.id)
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(e.data) })
			}
		})
	})
	return b.BytesOrPanic()
}

func TestServerObserverGivesUp(t *testing.T) {
	good := serverHello(VersionTLS12)
	retry := serverHello(VersionTLS12, extension{extSupportedVersions, []byte{3, 4}})
	sum := (&ServerHello{Random: [32]byte{}})
	if sum.isRetry() {
		t.Fatal("a random of zeros is no retry")
	}
	copy(retry[6:], []byte{
		0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
		0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
	})
	for name, c := range map[string]struct {
		raw   []byte
		hello bool
	}{
		"not TLS":                {[]byte("HTTP/1.1 400 Bad Request\r\n"), false},
		"application data":       {record(23, []byte("x")), false},
		"certificate first":      {record(22, []byte{11, 0, 0, 0}), false},
		"hello too large":        {record(22, []byte{2, 0xff, 0xff, 0xff}), false},
		"hello cut":              {record(22, []byte{2, 0, 0, 3, 3, 3, 0}), false},
		"hello with tail":        {record(22, append([]byte{2, 0, 0, byte(len(good) - 4 + 1)}, append(slices.Clone(good[4:]), 9)...)), false},
		"bad version":            {record(22, serverHello(VersionTLS12, extension{extSupportedVersions, []byte{3}})), false},
		"bad group":              {record(22, serverHello(VersionTLS12, extension{extKeyShare, []byte{0, 29, 0}})), false},
		"bad ALPN":               {record(22, serverHello(VersionTLS12, extension{extALPN, list16(2, 'h', '2', 1, 'x')})), false},
		"two retries":            {slices.Concat(record(22, retry), record(22, retry)), false},
		"cipher change after it": {slices.Concat(record(22, good), record(20, []byte{1}), record(22, []byte("encrypted"))), true},
		"garbage after it":       {slices.Concat(record(22, good), []byte("garbage")), true},
		"two hellos and the end": {slices.Concat(record(22, good), record(22, good), record(20, []byte{1})), true},
	} {
		for _, size := range []int{1, len(c.raw)} {
			o := new(ServerObserver)
			more := true
			for p := range slices.Chunk(c.raw, size) {
				more = o.Feed(p)
			}
			if more || (o.Hello() != nil) != c.hello {
				t.Errorf("%s: more %v, hello %v", name, more, o.Hello())
			}
			if o.Feed(record(22, good)) || (o.Hello() != nil) != c.hello {
				t.Errorf("%s: goes on after the end", name)
			}
		}
	}

	o := new(ServerObserver)
	if !o.Feed(slices.Concat(record(22, retry), record(20, []byte{1}))) || !o.Retried() || o.Hello() != nil {
		t.Error("a retry, and a change of cipher for the sake of middleboxes, are not the end")
	}
	o = new(ServerObserver)
	if !o.Feed(record(22, []byte{0, 0, 0, 0})) || !o.Feed(record(22, good)) || o.Hello() == nil {
		t.Error("a HelloRequest may come first (RFC 5246 section 7.4.1.1)")
	}
}

// The group of TLS 1.2 is looked for only where the key exchange begins with it.
func TestServerObserverGroup(t *testing.T) {
	for suite, want := range map[uint16]uint16{0xc02f: 23, 0xc02b: 23, 0x009e: 0, 0xc035: 0} {
		hello := serverHello(VersionTLS12)
		hello[4+2+32+1], hello[4+2+32+2] = byte(suite>>8), byte(suite)
		o := new(ServerObserver)
		o.Feed(record(22, slices.Concat(hello, []byte{12, 0, 0, 4, 3, 0, 23, 9})))
		if o.Hello() == nil || o.Hello().Group != want {
			t.Errorf("%s: %+v", CipherSuiteName(suite), o.Hello())
		}
	}
}

func TestServerObserverWithOpenSSL(t *testing.T) {
	ca := tlstest.NewCA()
	up := tlstest.TLS(t, &tls.Config{
		Certificates: []tls.Certificate{ca.Server("api.example.com").TLS()},
		ClientAuth:   tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12,
	})
	var client, server bytes.Buffer
	via := relay(t, up.Addr, &client, &server)
	out := tlstest.OpenSSL(t, "s_client", "-connect", via.addr, "-servername", "api.example.com", "-alpn", "h2")
	if !out.Has("handshake failure") {
		t.Fatalf("openssl says otherwise: %s", out.Output())
	}
	via.wait()
	hello, _, err := ReadClientHello(&client, 0)
	if err != nil || hello.ServerName != "api.example.com" {
		t.Errorf("%+v, %v", hello, err)
	}
	o := observe(t, server.Bytes(), 100)
	if alert, seen := o.Alert(); !seen || alert.Description != AlertHandshakeFailure || !o.AsksForCertificate() {
		t.Errorf("alert %v (%v), asks %v", alert, seen, o.AsksForCertificate())
	}
}

type relaying struct {
	addr string
	done chan struct{}
}

func (r relaying) wait() { <-r.done }

// relay carries one connection to addr and keeps what each side said.
func relay(t *testing.T, addr string, client, server *bytes.Buffer) relaying {
	t.Helper()
	r := relaying{done: make(chan struct{})}
	up := tlstest.ServeOnce(t, func(conn net.Conn) {
		defer close(r.done)
		out, err := net.Dial("tcp", addr)
		if err != nil {
			t.Error(err)
			return
		}
		defer out.Close()
		var both sync.WaitGroup
		both.Go(func() {
			io.Copy(io.MultiWriter(out, client), conn)
			out.(*net.TCPConn).CloseWrite()
		})
		both.Go(func() {
			io.Copy(io.MultiWriter(conn, server), out)
			conn.(*net.TCPConn).CloseWrite()
		})
		both.Wait()
	})
	r.addr = up
	return r
}

func FuzzServerObserver(f *testing.F) {
	for _, c := range []*tls.Config{
		{},
		{MaxVersion: tls.VersionTLS12},
		{MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert},
		{CurvePreferences: []tls.CurveID{tls.CurveP384}},
	} {
		for _, flight := range handshakes(f, c, &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP384}}, 1) {
			f.Add(flight.server, 1)
			f.Add(flight.server, 100)
		}
	}
	f.Add(record(22, serverHello(VersionTLS12, extension{extALPN, list16(2, 'h', '2')})), 3)
	f.Fuzz(func(t *testing.T, raw []byte, size int) {
		if size < 1 || size > 1<<16 {
			return
		}
		var whole, pieces ServerObserver
		more := whole.Feed(raw)
		piecesMore := true
		for p := range slices.Chunk(raw, size) {
			piecesMore = pieces.Feed(p)
		}
		if len(raw) > 0 && more != piecesMore {
			t.Errorf("more: %v whole, %v in pieces", more, piecesMore)
		}
		a, b := whole.Hello(), pieces.Hello()
		if (a == nil) != (b == nil) || a != nil && (a.Version != b.Version || a.Group != b.Group || a.CipherSuite != b.CipherSuite || a.ALPN != b.ALPN) {
			t.Errorf("hello: %+v whole, %+v in pieces", a, b)
		}
		if x, y := whole.tap, pieces.tap; x.alert != y.alert || x.seen != y.seen || whole.asks != pieces.asks || whole.retries != pieces.retries {
			t.Errorf("%+v whole, %+v in pieces", whole, pieces)
		}
		if cap(whole.messages.body) > 2*maxCertificates {
			t.Errorf("%d bytes kept", cap(whole.messages.body))
		}
	})
}
