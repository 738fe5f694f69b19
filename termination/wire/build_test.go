package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// parts is a hello before it is put together, so that tests can get any part of
// it wrong.
type parts struct {
	version     uint16
	sessionID   []byte
	suites      []byte
	compression []byte
	extensions  []extension
	bare        bool // leave the list of extensions out
	after       []byte
}

type extension struct {
	id   uint16
	data []byte
}

func goodParts() parts {
	return parts{
		version:     VersionTLS12,
		suites:      []byte{0x13, 0x01, 0xc0, 0x2f},
		compression: []byte{0},
		extensions: []extension{
			{extServerName, sni("api.example.com")},
			{extSupportedGroups, list16(0x00, 0x1d)},
			{extSupportedVersions, []byte{2, 3, 4}},
			{extSignatureAlgorithms, list16(4, 3)},
		},
	}
}

func (p parts) message() []byte {
	var b cryptobyte.Builder
	b.AddUint8(typeClientHello)
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint16(p.version)
		b.AddBytes(bytes.Repeat([]byte{7}, 32))
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p.sessionID) })
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p.suites) })
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p.compression) })
		if p.bare {
			b.AddBytes(p.after)
			return
		}
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, e := range p.extensions {
				b.AddUint16(e.id)
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(e.data) })
			}
		})
		b.AddBytes(p.after)
	})
	return b.BytesOrPanic()
}

// with replaces or adds an extension.
func (p parts) with(id uint16, data ...byte) parts {
	p.extensions = append([]extension(nil), p.extensions...)
	for i := range p.extensions {
		if p.extensions[i].id == id {
			p.extensions[i].data = data
			return p
		}
	}
	p.extensions = append(p.extensions, extension{id, data})
	return p
}

func sni(names ...string) []byte {
	var b cryptobyte.Builder
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, n := range names {
			b.AddUint8(0)
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(n)) })
		}
	})
	return b.BytesOrPanic()
}

func list16(data ...byte) []byte {
	return append([]byte{byte(len(data) >> 8), byte(len(data))}, data...)
}

// records cuts a message into records of at most size bytes.
func records(message []byte, size int) []byte {
	var out []byte
	for len(message) > 0 {
		n := min(size, len(message))
		out = append(out, record(recordHandshake, message[:n])...)
		message = message[n:]
	}
	return out
}

func record(kind uint8, body []byte) []byte {
	return append([]byte{kind, 3, 1, byte(len(body) >> 8), byte(len(body))}, body...)
}

// recorded returns the recorded hellos of real clients by name.
func recorded(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/hello/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded hellos: %v", err)
	}
	hellos := make(map[string][]byte)
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		hellos[filepath.Base(f)] = data
	}
	return hellos
}

// firstFlight returns the hello that a crypto/tls client sends.
func firstFlight(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	conn := &scripted{}
	tls.Client(conn, config).Handshake()
	if conn.sent.Len() == 0 {
		t.Fatal("the client sent nothing")
	}
	return conn.sent.Bytes()
}

// goHellos are hellos of crypto/tls in many configurations.
func goHellos(t testing.TB) map[string][]byte {
	hellos := make(map[string][]byte)
	for name, config := range map[string]*tls.Config{
		"default":     {ServerName: "api.example.com"},
		"no name":     {InsecureSkipVerify: true},
		"IP":          {ServerName: "192.0.2.1"},
		"TLS 1.2":     {ServerName: "a.example", MaxVersion: tls.VersionTLS12},
		"TLS 1.0":     {ServerName: "a.example", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10},
		"TLS 1.3":     {ServerName: "a.example", MinVersion: tls.VersionTLS13},
		"ALPN":        {ServerName: "a.example", NextProtos: []string{"h2", "http/1.1", "<script>\x00"}},
		"one group":   {ServerName: "a.example", CurvePreferences: []tls.CurveID{tls.CurveP256}},
		"upper case":  {ServerName: "API.Example.COM"},
		"one suite":   {ServerName: "a.example", MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}},
		"no tickets":  {ServerName: "a.example", SessionTicketsDisabled: true},
		"punycode":    {ServerName: "xn--bcher-kva.example"},
		"underscored": {ServerName: "_x._tcp.a.example"},
	} {
		hellos["go "+name] = firstFlight(t, config)
	}
	return hellos
}

// askGo gives the bytes to crypto/tls and returns what it understood, or its error.
func askGo(raw []byte) (*tls.ClientHelloInfo, error) {
	var info *tls.ClientHelloInfo
	seen := errors.New("seen")
	err := tls.Server(&scripted{script: *bytes.NewReader(raw)}, &tls.Config{
		GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
			info = i
			return nil, seen
		},
	}).HandshakeContext(context.Background())
	if info != nil {
		return info, nil
	}
	return nil, err
}

// scripted is a connection whose peer says what is scripted, then hangs up.
type scripted struct {
	script bytes.Reader
	sent   bytes.Buffer
}

func (c *scripted) Read(p []byte) (int, error)       { return c.script.Read(p) }
func (c *scripted) Write(p []byte) (int, error)      { return c.sent.Write(p) }
func (c *scripted) Close() error                     { return nil }
func (c *scripted) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *scripted) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *scripted) SetDeadline(time.Time) error      { return nil }
func (c *scripted) SetReadDeadline(time.Time) error  { return nil }
func (c *scripted) SetWriteDeadline(time.Time) error { return nil }

// strict fails the test when more than the allowed bytes are read.
type strict struct {
	t       *testing.T
	r       io.Reader
	allowed int
}

func (s *strict) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if s.allowed -= n; s.allowed < 0 {
		s.t.Errorf("read %d bytes beyond the hello", -s.allowed)
	}
	return n, err
}
