package gateway_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// replace puts another certificate in the place of the one of that name.
func (r *rig) replace(name string, cert *tlstest.Cert) {
	r.t.Helper()
	next := *r.config
	next.Certificates = append([]termination.Certificate(nil), next.Certificates...)
	for i := range next.Certificates {
		if c := &next.Certificates[i]; c.Name == name {
			c.Chain, c.Key = []*x509.Certificate{cert.X509}, cert.Key
		}
	}
	r.config = &next
	r.apply()
}

// keepAlive is a client of one connection.
func keepAlive(config *tls.Config, port uint16, h2 bool, protocols ...string) *http.Client {
	config.NextProtos = protocols
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: config, ForceAttemptHTTP2: h2, MaxConnsPerHost: 1,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address(port))
		},
	}}
}

// Replacing a certificate ends no connection and no ticket: what was agreed upon with a client was not about the certificate.
// The next full handshake meets the new one.
func TestReplacingACertificate(t *testing.T) {
	r := newRig(t)
	port, raw := freePort(t), freePort(t)
	r.endpoint("web", port, "whoami", nil)
	r.endpoint("bytes", raw, tlstest.TCP(t).URL, func(e *termination.Endpoint) { e.Scheme = termination.SchemeTLS })
	r.apply()

	h1 := keepAlive(r.clientConfig("web.localhost", 0, nil), port, false, "http/1.1")
	h2 := keepAlive(r.clientConfig("web.localhost", 0, nil), port, true, "h2")
	serial := func(what string, c *http.Client, major int) *big.Int {
		t.Helper()
		resp, err := c.Get("https://web.localhost/")
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.ProtoMajor != major {
			t.Fatalf("%s speaks %s", what, resp.Proto)
		}
		return resp.TLS.PeerCertificates[0].SerialNumber
	}
	first1, first2 := serial("h1", h1, 1), serial("h2", h2, 2)
	stream := r.dial(raw, "bytes.localhost", tls.VersionTLS13, nil)
	defer stream.Close()
	echo := func() {
		t.Helper()
		if _, err := stream.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(stream, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
	}
	echo()
	resuming := r.clientConfig("web.localhost", tls.VersionTLS12, nil)
	resuming.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	if _, _, err := get(resuming, port, "web.localhost"); err != nil {
		t.Fatal(err)
	}

	next := r.serverCA.Server("web.localhost", tlstest.FreshKey())
	r.replace("web", next)
	r.replace("bytes", r.serverCA.Server("bytes.localhost", tlstest.FreshKey()))
	if serial("h1", h1, 1).Cmp(first1) != 0 || serial("h2", h2, 2).Cmp(first2) != 0 {
		t.Error("a connection was not kept")
	}
	echo()
	conn := r.dial(port, "web.localhost", tls.VersionTLS13, nil)
	if got := conn.ConnectionState().PeerCertificates[0]; !got.Equal(next.X509) {
		t.Errorf("the next handshake gets %s", got.SerialNumber)
	}
	_ = conn.Close()
	again, err := tls.Dial("tcp", address(port), resuming)
	if err != nil || !again.ConnectionState().DidResume {
		t.Errorf("the ticket of before: %v", err)
	} else {
		_ = again.Close()
	}
	h1.CloseIdleConnections()
	h2.CloseIdleConnections()
}

// The answer of a certificate's responder goes out with it, as soon as it is there.
func TestStapling(t *testing.T) {
	r := newRig(t)
	responder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		q, err := ocsp.ParseRequest(body)
		if err != nil {
			t.Error(err)
			return
		}
		now := time.Now()
		der, err := ocsp.CreateResponse(r.serverCA.X509, r.serverCA.X509, ocsp.Response{Status: ocsp.Good, SerialNumber: q.SerialNumber, ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour)}, r.serverCA.Key)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = w.Write(der)
	}))
	defer responder.Close()
	port := freePort(t)
	r.endpoint("web", port, "whoami", nil)
	r.trust("servers", r.serverCA) // whose certificate is not sent
	r.apply()
	r.replace("web", r.serverCA.Server("web.localhost", tlstest.URLs("", responder.URL, "")))
	r.wait("the answer", func() bool {
		conn := r.dial(port, "web.localhost", tls.VersionTLS13, nil)
		defer conn.Close()
		return len(conn.ConnectionState().OCSPResponse) > 0
	})
	if s := r.gateway.Status().Endpoints[0].Staples[0]; s.Responder != responder.URL || s.Problem != "" || s.Until.IsZero() {
		t.Errorf("%+v", s)
	}
}
