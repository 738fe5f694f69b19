package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"countersign/termination/tlstest"
)

// clientOptions say how a client connects.
type clientOptions struct {
	h2         bool
	serverName string // "127.0.0.1" means none in the ClientHello
	cert       *tlstest.Cert
	more       *tlstest.Cert // appended to the certificates that are presented
	maxVersion uint16
}

func (f *front) tlsConfig(o clientOptions) *tls.Config {
	c := &tls.Config{ServerName: o.serverName, RootCAs: f.ca.Pool(), MaxVersion: o.maxVersion, NextProtos: []string{"http/1.1"}}
	if o.h2 {
		c.NextProtos = []string{"h2"}
	}
	if o.cert != nil {
		cert := o.cert.TLS()
		if o.more != nil {
			cert = o.cert.TLSWith(o.more)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return c
}

// client makes an HTTP client whose connections all go to the front, with the server name of the options, whatever the
// URL says.
func (f *front) client(o clientOptions) *http.Client {
	tr := &http.Transport{
		TLSClientConfig: f.tlsConfig(o), DisableCompression: true, Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, f.address.String())
		},
	}
	tr.Protocols.SetHTTP1(!o.h2)
	tr.Protocols.SetHTTP2(o.h2)
	f.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{
		Transport: tr, Timeout: patient,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// answer is an HTTP response that was read to its end.
type answer struct {
	*http.Response
	body string
}

func (a answer) String() string { return fmt.Sprintf("%s %s: %.300s", a.Proto, a.Status, a.body) }

// get asks for host and target over a connection of client.
func (f *front) get(client *http.Client, host, target string, change ...func(*http.Request)) answer {
	f.t.Helper()
	a, err := f.try(client, host, target, change...)
	if err != nil {
		f.t.Fatalf("GET %s of %s: %v", target, host, err)
	}
	return a
}

func (f *front) try(client *http.Client, host, target string, change ...func(*http.Request)) (answer, error) {
	f.t.Helper()
	r, err := http.NewRequest(http.MethodGet, "https://"+f.address.String()+target, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	r.Host = host
	for _, c := range change {
		c(r)
	}
	res, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res, string(body)}, err
}

// dial opens a TLS connection to the front.
func (f *front) dial(o clientOptions) *tls.Conn {
	f.t.Helper()
	conn, err := tls.Dial("tcp", f.address.String(), f.tlsConfig(o))
	if err != nil {
		f.t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patient))
	f.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// raw writes these bytes over HTTP/1.1 and reads one answer.
func (f *front) raw(o clientOptions, request string) answer {
	f.t.Helper()
	conn := f.dial(o)
	if _, err := io.WriteString(conn, request); err != nil {
		f.t.Fatal(err)
	}
	return f.readAnswer(bufio.NewReader(conn))
}

func (f *front) readAnswer(r *bufio.Reader) answer {
	f.t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		f.t.Fatalf("read the answer: %v", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		f.t.Fatalf("read the answer's body: %v", err)
	}
	return answer{res, string(body)}
}

// both runs a test over HTTP/1.1 and HTTP/2.
func both(t *testing.T, test func(t *testing.T, h2 bool)) {
	t.Run("h1", func(t *testing.T) { test(t, false) })
	t.Run("h2", func(t *testing.T) { test(t, true) })
}

// wantStatus fails the test unless the answer has that status.
func wantStatus(t testing.TB, a answer, status int) {
	t.Helper()
	if a.StatusCode != status {
		t.Errorf("answered %v, want %d", a, status)
	}
}

// wantRefused fails the test unless the answer is a problem document with that status and code.
func wantRefused(t testing.TB, a answer, status int, code string) {
	t.Helper()
	wantStatus(t, a, status)
	if got := a.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type %q of %v", got, a)
	}
	if code != "" && !strings.Contains(a.body, `"code":"`+code+`"`) {
		t.Errorf("answered %v, want the code %q", a, code)
	}
	if !strings.Contains(a.body, `"handshake":"hs_`) {
		t.Errorf("no handshake ID in %v", a)
	}
}

// echo reads the answer of an echoing upstream.
func echo(t testing.TB, a answer) tlstest.Echo {
	t.Helper()
	var e tlstest.Echo
	if err := json.Unmarshal([]byte(a.body), &e); err != nil {
		t.Fatalf("%v is not the upstream's answer: %v", a, err)
	}
	return e
}
