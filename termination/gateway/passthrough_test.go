package gateway_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// sealed makes an endpoint whose TLS ends in the upstream.
func sealed(e *termination.Endpoint) {
	e.Scheme, e.TerminateAt = termination.SchemeTLS, termination.AtUpstream
}

// Passthrough to an openssl server delivers that server's own certificate, and the record shows what can be seen.
func TestPassthroughToOpenSSL(t *testing.T) {
	program := tlstest.Program(t, "openssl")
	own := tlstest.NewCA(tlstest.CN("Service CA"))
	files := own.Server("sealed.localhost").WriteFiles(t, t.TempDir())
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			port := strconv.Itoa(int(freePort(t)))
			server := exec.Command(program, "s_server", "-accept", "127.0.0.1:"+port, "-cert", files.Cert, "-key", files.Key, "-alpn", "h2,http/1.1", "-www", "-quiet")
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
			await(t, "127.0.0.1:"+port)

			r := newRig(t)
			front := freePort(t)
			r.endpoint("sealed", front, "tcp://127.0.0.1:"+port, sealed)
			r.apply()
			config := &tls.Config{ServerName: "sealed.localhost", RootCAs: own.Pool(), NextProtos: []string{"h2", "http/1.1"}, MinVersion: version, MaxVersion: version}
			conn, err := tls.Dial("tcp", address(front), config)
			if err != nil {
				t.Fatal(err)
			}
			state := conn.ConnectionState()
			conn.Close()
			if got := state.PeerCertificates[0].Issuer.CommonName; got != "Service CA" {
				t.Errorf("the certificate was issued by %q", got)
			}
			rec := r.next()
			if rec.Verdict.Outcome != termination.OutcomePassed || rec.Hello.ServerName != "sealed.localhost" || strings.Join(rec.Hello.ALPN, " ") != "h2 http/1.1" {
				t.Errorf("recorded %s, %+v", rec.Verdict.Outcome, rec.Hello)
			}
			if rec.Chosen == nil || rec.Chosen.Version != version || rec.Chosen.CipherSuite != state.CipherSuite {
				t.Errorf("chosen %+v, want %#x %#x", rec.Chosen, version, state.CipherSuite)
			}
			if len(rec.Presented) != 0 {
				t.Error("a sealed handshake shows client certificates")
			}
			for _, e := range r.gateway.Status().Endpoints {
				if len(e.Leaves) != 0 {
					t.Error("the gateway holds a certificate for the name")
				}
			}
		})
	}
}

// await waits until a foreign program listens; it says so in no other way.
func await(t *testing.T, address string) {
	t.Helper()
	tlstest.Eventually(t, "somebody to listen on "+address, func() bool {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

// A gibibyte each way passes unharmed, and half-close is carried through: the echo's end comes after ours.
func TestPassthroughVolume(t *testing.T) {
	const volume = 1 << 30
	echo := tlstest.TCP(t)
	r := newRig(t)
	port := freePort(t)
	r.endpoint("sealed", port, "tcp://"+echo.Addr, sealed)
	r.apply()
	conn, err := net.Dial("tcp", address(port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hello := helloFor(t, "sealed.localhost")
	if _, err := conn.Write(hello); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, io.LimitReader(&pattern{}, volume))
		sent <- errors.Join(err, conn.(*net.TCPConn).CloseWrite())
	}()
	if _, err := io.CopyN(io.Discard, conn, int64(len(hello))); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(&pattern{t: t}, conn)
	if err != nil || n != volume {
		t.Errorf("%d bytes came back, %v", n, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	rec := r.next()
	end := r.end(rec.ID)
	if want := int64(volume + len(hello)); end.BytesIn != want || end.BytesOut != want {
		t.Errorf("counted %d in and %d out, want %d", end.BytesIn, end.BytesOut, want)
	}
}

// helloFor returns a ClientHello as crypto/tls sends it.
func helloFor(t *testing.T, name string) []byte {
	t.Helper()
	var taken taking
	_ = tls.Client(&taken, &tls.Config{ServerName: name}).Handshake() // it ends when nothing can be read
	if len(taken.bytes) == 0 {
		t.Fatal("no ClientHello")
	}
	return taken.bytes
}

// taking is a connection that keeps what is written and has nothing to read.
type taking struct {
	net.Conn
	bytes []byte
}

func (c *taking) Write(p []byte) (int, error)      { c.bytes = append(c.bytes, p...); return len(p), nil }
func (c *taking) Read([]byte) (int, error)         { return 0, io.EOF }
func (c *taking) Close() error                     { return nil }
func (c *taking) SetWriteDeadline(time.Time) error { return nil }

// pattern is an endless stream of bytes whose period fits no buffer. As a reader it makes them, as a writer it checks
// them.
type pattern struct {
	t      *testing.T
	offset int
	block  []byte
	failed bool
}

const patternPeriod = 65521 // a prime

func (p *pattern) next(n int) []byte {
	if p.block == nil {
		p.block = make([]byte, patternPeriod)
		for i := range p.block {
			p.block[i] = byte(i*i>>3 + i)
		}
	}
	out := p.block[p.offset:min(p.offset+n, patternPeriod)]
	p.offset = (p.offset + len(out)) % patternPeriod
	return out
}

func (p *pattern) Read(b []byte) (int, error) { return copy(b, p.next(len(b))), nil }

func (p *pattern) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		want := p.next(len(rest))
		if !bytes.Equal(rest[:len(want)], want) && !p.failed {
			p.failed = true
			p.t.Error("the bytes that came back are not those that were sent")
		}
		rest = rest[len(want):]
	}
	return len(b), nil
}
