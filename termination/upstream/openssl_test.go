package upstream

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// TestOpenSSL: a service of OpenSSL that demands a certificate of us gets it and answers, and one that gets none does not.
func TestOpenSSL(t *testing.T) {
	ca, clients := tlstest.NewCA(), tlstest.NewCA()
	server := ca.Server("service.internal").WriteFiles(t, t.TempDir())
	trusted := clients.WriteFiles(t, t.TempDir())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	program := exec.Command(tlstest.Program(t, "openssl"), "s_server", "-accept", address, "-cert", server.Cert, "-key", server.Key,
		"-Verify", "1", "-verify_return_error", "-CAfile", trusted.Cert, "-www", "-quiet")
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Process.Kill(); _ = program.Wait() })

	u := at(termination.UpstreamHTTPS, termination.UpstreamPolicy{}, address)
	u.TLS.Roots, u.TLS.ServerName = append(u.TLS.Roots, ca.X509), "service.internal"
	silent := u
	own := clients.Client("gateway")
	u.TLS.Client = &termination.KeyPair{Key: own.Key}
	u.TLS.Client.Chain = append(u.TLS.Client.Chain, own.X509)
	get := func(u termination.Upstream) (string, error) {
		target := newSet(t).one(u).targets[0]
		transport := target.NewTransport(func(ctx context.Context) (net.Conn, error) {
			conn, _, err := target.Dial(ctx, nil)
			return conn, err
		})
		defer transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(t.Context(), patient)
		defer cancel()
		request := (&http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: target.URLScheme(), Host: "service.internal", Path: "/"}, Header: http.Header{}}).WithContext(ctx)
		response, err := transport.RoundTrip(request)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return string(body), err
	}
	tlstest.Eventually(t, "openssl to listen", func() bool {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	body, err := get(u)
	if err != nil || !strings.Contains(body, "CN=gateway") && !strings.Contains(body, "CN = gateway") {
		t.Errorf("%v: %.2000s", err, body)
	}
	if body, err := get(silent); err == nil {
		t.Errorf("without a certificate it answered %.200s", body)
	}
}
