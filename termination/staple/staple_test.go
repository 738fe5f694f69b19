package staple_test

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ocsp"

	"countersign/termination/servercert"
	"countersign/termination/staple"
	"countersign/termination/tlstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// responder answers for a CA, and as a test wants it.
type responder struct {
	*httptest.Server
	ca     *tlstest.Cert
	asked  atomic.Int64
	mu     sync.Mutex
	answer func(ca *tlstest.Cert, serial *big.Int) []byte
	handle http.HandlerFunc
}

func newResponder(t *testing.T) *responder {
	t.Helper()
	r := &responder{ca: tlstest.NewCA()}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.asked.Add(1)
		r.mu.Lock()
		answer, handle := r.answer, r.handle
		r.mu.Unlock()
		if handle != nil {
			handle(w, req)
			return
		}
		body, _ := io.ReadAll(req.Body)
		q, err := ocsp.ParseRequest(body)
		if err != nil {
			t.Errorf("the question cannot be read: %v", err)
			return
		}
		_, _ = w.Write(answer(r.ca, q.SerialNumber))
	}))
	t.Cleanup(r.Close)
	r.say(good(time.Now(), time.Hour))
	return r
}

func (r *responder) say(answer func(*tlstest.Cert, *big.Int) []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer, r.handle = answer, nil
}

func (r *responder) do(h http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handle = h
}

// signed makes an answer, good unless the template says otherwise.
func signed(ca *tlstest.Cert, by *tlstest.Cert, template ocsp.Response) []byte {
	der, err := ocsp.CreateResponse(ca.X509, by.X509, template, by.Key)
	if err != nil {
		panic(err)
	}
	return der
}

func good(from time.Time, life time.Duration) func(*tlstest.Cert, *big.Int) []byte {
	return func(ca *tlstest.Cert, serial *big.Int) []byte {
		return signed(ca, ca, ocsp.Response{Status: ocsp.Good, SerialNumber: serial, ThisUpdate: from.Add(-time.Minute), NextUpdate: from.Add(life)})
	}
}

func chainOf(leaf *tlstest.Cert) servercert.Chain {
	return servercert.Chain{Certificates: append([]*x509.Certificate{}, append(leaf.Chain(), leaf.Root().X509)...), Key: leaf.Key}
}

func TestStaple(t *testing.T) {
	r := newResponder(t)
	leaf := r.ca.Server("a.test", tlstest.URLs("", r.URL, ""))
	s := staple.New(staple.Options{})
	defer s.Close()
	s.Watch([]servercert.Chain{chainOf(leaf)}, nil)
	<-s.Changed()
	chain := chainOf(leaf)
	chain.Staple = s.Staple(leaf.X509)
	if st := s.Status(leaf.X509); chain.Staple == nil || st.Problem != "" || !st.Until.After(time.Now()) || st.Responder != r.URL || st.Must {
		t.Fatalf("%+v", st)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: servercert.NewChooser([]servercert.Chain{chain}, nil).GetCertificate})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			_ = conn.(*tls.Conn).Handshake() // the clients report
			_ = conn.Close()
		}
	}()
	defer func() { _ = l.Close(); <-done }()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{ServerName: "a.test", RootCAs: r.ca.Pool(), MaxVersion: version})
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.ConnectionState().OCSPResponse; string(got) != string(chain.Staple) {
			t.Errorf("%x: %d bytes are stapled", version, len(got))
		}
		_ = conn.Close()
	}
	out, _ := exec.CommandContext(t.Context(), "openssl", "s_client", "-connect", l.Addr().String(), "-servername", "a.test", "-status").CombinedOutput()
	if !strings.Contains(string(out), "Cert Status: good") {
		t.Errorf("openssl sees no answer:\n%s", out)
	}
	s.Watch(nil, nil)
	if s.Staple(leaf.X509) != nil || s.Status(leaf.X509).Responder != "" {
		t.Error("a certificate that is not presented any more is still watched")
	}
}

func TestAnswersThatAreNotStapled(t *testing.T) {
	r := newResponder(t)
	other := newResponder(t)
	now := time.Now()
	stranger, delegate, anyLeaf := tlstest.NewCA(), r.ca.Leaf(tlstest.EKU(x509.ExtKeyUsageOCSPSigning)), r.ca.Server("other.test")
	ended := r.ca.Leaf(tlstest.EKU(x509.ExtKeyUsageOCSPSigning), tlstest.Expired())
	by := func(c *tlstest.Cert) func(*tlstest.Cert, *big.Int) []byte {
		return func(ca *tlstest.Cert, serial *big.Int) []byte {
			return signed(ca, c, ocsp.Response{Status: ocsp.Good, SerialNumber: serial, ThisUpdate: now, NextUpdate: now.Add(time.Hour), Certificate: c.X509, IssuerHash: crypto.SHA1})
		}
	}
	status := func(status int) func(*tlstest.Cert, *big.Int) []byte {
		return func(ca *tlstest.Cert, serial *big.Int) []byte {
			return signed(ca, ca, ocsp.Response{Status: status, SerialNumber: serial, ThisUpdate: now, NextUpdate: now.Add(time.Hour), RevokedAt: now})
		}
	}
	for _, test := range []struct {
		what   string
		answer func(*tlstest.Cert, *big.Int) []byte
		handle http.HandlerFunc
		url    string
		says   string // empty: it is stapled
	}{
		{what: "one by a delegate of the CA", answer: by(delegate)},
		{what: "one by another certificate of the CA", answer: by(anyLeaf), says: "signed by one who may not"},
		{what: "one by a delegate that has ended", answer: by(ended), says: "signed by one who may not"},
		{what: "one by a stranger", answer: by(stranger), says: "read the responder's answer"},
		{what: "one for another certificate", answer: func(ca *tlstest.Cert, _ *big.Int) []byte { return good(now, time.Hour)(ca, big.NewInt(7)) }, says: "read the responder's answer"},
		{what: "one that has ended", answer: good(now.Add(-2*time.Hour), time.Hour), says: "ended at"},
		{what: "one of the future", answer: good(now.Add(time.Hour), time.Hour), says: "compare the clocks"},
		{what: "revoked", answer: status(ocsp.Revoked), says: "is revoked; replace it"},
		{what: "unknown", answer: status(ocsp.Unknown), says: "does not know the certificate"},
		{what: "garbage", answer: func(*tlstest.Cert, *big.Int) []byte { return []byte("<html>") }, says: "read the responder's answer"},
		{what: "more than can be", answer: func(*tlstest.Cert, *big.Int) []byte { return make([]byte, 80<<10) }, says: "has more than"},
		{what: "an error", handle: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }, says: "teapot"},
		{what: "a way to elsewhere", handle: func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, other.URL, http.StatusTemporaryRedirect)
		}, says: "another place"},
		{what: "a way round and round", handle: func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, "/again", http.StatusTemporaryRedirect)
		}, says: "another place"},
		{what: "an address that keeps secrets", url: "http://169.254.169.254/latest", says: "nothing is asked of link-local"},
		{what: "the same in IPv6", url: "http://[::ffff:169.254.169.254]/latest", says: "nothing is asked of link-local"},
		{what: "no http", url: "file:///etc/passwd", says: "no http address"},
		{what: "no address", url: "http://", says: "no http address"},
	} {
		t.Run(test.what, func(t *testing.T) {
			at := test.url
			if at == "" {
				at = r.URL
			}
			r.say(test.answer)
			if test.handle != nil {
				r.do(test.handle)
			}
			leaf := r.ca.Server("a.test", tlstest.URLs("", at, ""))
			s := staple.New(staple.Options{})
			defer s.Close()
			s.Watch([]servercert.Chain{chainOf(leaf)}, nil)
			tlstest.Eventually(t, "an end", func() bool { return s.Staple(leaf.X509) != nil || s.Status(leaf.X509).Problem != "" })
			got := s.Status(leaf.X509)
			if (s.Staple(leaf.X509) != nil) != (test.says == "") || !strings.Contains(got.Problem, test.says) || got.Revoked != (test.what == "revoked") {
				t.Errorf("stapled %t, %+v", s.Staple(leaf.X509) != nil, got)
			}
		})
	}
	if n := other.asked.Load(); n > 0 {
		t.Errorf("a redirect was followed %d times", n)
	}
}

// An answer is renewed when half of its life is over; when that fails it is sent until its end, and no longer.
func TestRefresh(t *testing.T) {
	r := newResponder(t)
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	s := staple.New(staple.Options{Now: now, Look: time.Millisecond})
	defer s.Close()
	leaf := r.ca.Server("a.test", tlstest.URLs("", r.URL, ""))
	s.Watch([]servercert.Chain{chainOf(leaf)}, nil)
	<-s.Changed()
	first := string(s.Staple(leaf.X509))

	ahead.Store(int64(40 * time.Minute))
	r.say(good(now(), time.Hour))
	<-s.Changed()
	second := string(s.Staple(leaf.X509))
	if second == first || second == "" {
		t.Error("half way there is no new answer")
	}
	r.do(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	ahead.Store(int64(80 * time.Minute))
	tlstest.Eventually(t, "the responder's failure", func() bool { return strings.Contains(s.Status(leaf.X509).Problem, "Service Unavailable") })
	if string(s.Staple(leaf.X509)) != second {
		t.Error("while the responder is away the answer that is still good is not sent")
	}
	ahead.Store(int64(101 * time.Minute))
	<-s.Changed()
	if s.Staple(leaf.X509) != nil {
		t.Error("an answer that has ended is sent")
	}
}

// A responder that hangs holds up nobody, and ends with Close.
func TestHang(t *testing.T) {
	r := newResponder(t)
	asked := make(chan struct{}, 1)
	r.do(func(_ http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body) // only then the server notices that the other side went away
		asked <- struct{}{}
		<-q.Context().Done()
	})
	leaf := r.ca.Server("a.test", tlstest.URLs("", r.URL, ""))
	s := staple.New(staple.Options{})
	s.Watch([]servercert.Chain{chainOf(leaf)}, nil)
	<-asked
	if s.Staple(leaf.X509) != nil {
		t.Error("an answer out of nothing")
	}
	s.Close()
	s.Watch([]servercert.Chain{chainOf(leaf)}, nil)
}

func TestMust(t *testing.T) {
	ca := tlstest.NewCA()
	feature := func(value any) tlstest.Option {
		der, err := asn1.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return tlstest.Extension(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, false, der)
	}
	for what, test := range map[string]struct {
		option tlstest.Option
		want   bool
	}{
		"status_request":  {feature([]int{5}), true},
		"several":         {feature([]int{17, 5}), true},
		"another feature": {feature([]int{17}), false},
		"garbage":         {feature("x"), false},
		"none":            {tlstest.Subject(pkix.Name{CommonName: "a.test"}), false},
	} {
		if got := staple.Must(ca.Server("a.test", test.option).X509); got != test.want {
			t.Errorf("%s: %t", what, got)
		}
	}
	s := staple.New(staple.Options{})
	defer s.Close()
	alone := ca.Server("a.test", tlstest.URLs("", "http://127.0.0.1:1", ""))
	s.Watch([]servercert.Chain{{Certificates: []*x509.Certificate{alone.X509}, Key: alone.Key}}, nil)
	if st := s.Status(alone.X509); !strings.Contains(st.Problem, "upload the certificate with its intermediate") {
		t.Errorf("without its issuer: %+v", st)
	}
	s.Watch([]servercert.Chain{{Certificates: []*x509.Certificate{alone.X509}, Key: alone.Key}}, []*x509.Certificate{tlstest.NewCA().X509, ca.X509})
	tlstest.Eventually(t, "the responder to be asked", func() bool { return strings.Contains(s.Status(alone.X509).Problem, "refused") })
}
