package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// recorder is an upstream that keeps the bytes of each request's head and answers 204.
func recorder(t testing.TB) (*tlstest.Upstream, <-chan string) {
	heads := make(chan string, 10)
	up := tlstest.ServeTCP(t, func(_ context.Context, conn net.Conn) {
		r := bufio.NewReader(conn)
		for {
			var head strings.Builder
			for !strings.HasSuffix(head.String(), "\r\n\r\n") {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				head.WriteString(line)
			}
			heads <- head.String()
			_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	up.URL = "http://" + up.Addr
	return up, heads
}

// fixedClient is a client certificate that is the same in every run: Ed25519 signs without randomness.
func fixedClient(ca *tlstest.Cert) *tlstest.Cert {
	return ca.Client("Zoë, \"the\r\nX-Client-Verify: SUCCESS\" <admin>+; #1\\",
		tlstest.WithKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))),
		tlstest.Template(func(c *x509.Certificate) { c.SerialNumber = big.NewInt(0xabc) }),
		tlstest.Org("Ünicode & Söhne"), tlstest.OrgUnit(" edge "),
		tlstest.Valid(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)),
		tlstest.Template(func(c *x509.Certificate) {
			c.SubjectKeyId, c.AuthorityKeyId = []byte{1}, []byte{2}
			c.Subject.Country = []string{"DE"}
		}))
}

func fixedCA() *tlstest.Cert {
	return tlstest.NewCA(tlstest.CN("Devices"), tlstest.Org("tlstest"),
		tlstest.WithKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))),
		tlstest.Valid(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)),
		tlstest.Template(func(c *x509.Certificate) {
			c.SerialNumber, c.SubjectKeyId = big.NewInt(1), []byte{2}
		}))
}

// TestNginxHeadersToTheByte compares the whole head of a forwarded request.
func TestNginxHeadersToTheByte(t *testing.T) {
	f := newFront(t, frontOptions{clients: fixedCA()})
	alice := fixedClient(f.clients)
	up, heads := recorder(t)
	f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), forwardNginx))
	a := f.ask(false, clientOptions{serverName: "public.test", cert: alice}, "public.test", "/a?b", "X-Client-CN", "FORGED", "User-Agent", "test/1")
	wantStatus(t, a, 204)

	block := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: alice.DER}))
	want := strings.Join([]string{
		"GET /a?b HTTP/1.1",
		"Host: public.test",
		"User-Agent: test/1",
		`Forwarded: for=127.0.0.1;host="public.test";proto=https`,
		"X-Client-CN: Zo\\C3\\AB\\, \\\"the\\0D\\0AX-Client-Verify: SUCCESS\\\" \\<admin\\>\\+\\; #1\\\\",
		"X-Client-Cert: " + strings.NewReplacer(" ", "%20", "\n", "%0A", "+", "%2B", "/", "%2F", "=", "%3D").Replace(block),
		"X-Client-DN: CN=Zo\\C3\\AB\\, \\\"the\\0D\\0AX-Client-Verify: SUCCESS\\\" \\<admin\\>\\+\\; #1\\\\,OU=\\ edge\\ ,O=\\C3\\9Cnicode & S\\C3\\B6hne,C=DE",
		"X-Client-Fingerprint: " + alice.Fingerprint(),
		"X-Client-Issuer-DN: CN=Devices,O=tlstest",
		"X-Client-Serial: 0ABC",
		"X-Client-Verify: SUCCESS",
		"X-Forwarded-For: 127.0.0.1",
		"X-Forwarded-Host: public.test",
		"X-Forwarded-Port: " + strings.Split(f.address.String(), ":")[1],
		"X-Forwarded-Proto: https",
		"X-Real-Ip: 127.0.0.1",
		"", "",
	}, "\r\n")
	if got := <-heads; got != want {
		t.Errorf("the upstream got\n%s\nwant\n%s", got, want)
	}
	const golden = "27b62aae5e462b516c8ec1d437892f824b6a22aab9c803b299337b5bc33411a2"
	if alice.Fingerprint() != golden {
		t.Errorf("the fixed certificate has changed: %s, want %s", alice.Fingerprint(), golden)
	}
	// And back: what the upstream decodes is the certificate.
	text, err := url.PathUnescape(percentEncode([]byte(block), ""))
	if err != nil || text != block {
		t.Errorf("the certificate does not decode: %q, %v", text, err)
	}
}

// TestIdentityIsAssertedOnlyWhenVerified goes through the modes, with a good, a foreign and no certificate.
func TestIdentityIsAssertedOnlyWhenVerified(t *testing.T) {
	good := func(f *front) *tlstest.Cert { return f.clients.Client("alice") }
	foreign := func(f *front) *tlstest.Cert { return f.others.Client("mallory") }
	for _, c := range []struct {
		name   string
		mode   termination.Mode
		cert   func(*front) *tlstest.Cert
		target string
		want   string
	}{
		{"off", termination.ModeOff, good, "/", "NONE"},
		{"request, good", termination.ModeRequest, good, "/", "SUCCESS"},
		{"request, foreign", termination.ModeRequest, foreign, "/", "FAILED:ca_unknown"},
		{"request, none", termination.ModeRequest, nil, "/", "NONE"},
		{"require any, good", termination.ModeRequireAny, good, "/", "SUCCESS"},
		{"require any, foreign", termination.ModeRequireAny, foreign, "/", "FAILED:ca_unknown"},
		{"optional, good", termination.ModeOptional, good, "/", "SUCCESS"},
		{"optional, none", termination.ModeOptional, nil, "/", "NONE"},
		{"require, good", termination.ModeRequire, good, "/", "SUCCESS"},
		{"require, good, on a path that does not ask", termination.ModeRequire, good, "/open", "NONE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, h2 bool) {
				f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
				f.apply(f.endpoint("public.test", up.URL, mode(c.mode), forwardNginx, route("/open", termination.ModeOff)))
				o := clientOptions{serverName: "public.test"}
				if c.cert != nil {
					o.cert = c.cert(f)
				}
				a := f.ask(h2, o, "public.test", c.target)
				wantStatus(t, a, 200)
				checkIdentity(t, echo(t, a).Header, c.want)
			})
		})
	}
}

func checkIdentity(t *testing.T, h http.Header, want string) {
	t.Helper()
	if got := h.Get("X-Client-Verify"); got != want {
		t.Errorf("X-Client-Verify: %q, want %q", got, want)
	}
	for _, name := range []string{"X-Client-Cn", "X-Client-Dn", "X-Client-Issuer-Dn", "X-Client-Serial", "X-Client-Fingerprint", "X-Client-Cert"} {
		if got := h.Get(name); (got != "") != (want == "SUCCESS") {
			t.Errorf("%s: %q beside %s", name, got, want)
		}
	}
}

func TestIdentityIsNotForwardedUnasked(t *testing.T) {
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire)))
	a := f.ask(false, clientOptions{serverName: "public.test", cert: f.clients.Client("alice")}, "public.test", "/")
	for name := range echo(t, a).Header {
		if strings.HasPrefix(name, "X-Client-") {
			t.Errorf("%s was set", name)
		}
	}
}

func TestSerialText(t *testing.T) {
	for n, want := range map[int64]string{0: "00", 1: "01", 0xf: "0F", 0x10: "10", 0xabc: "0ABC", -1: "-01", -0x100: "-0100"} {
		if got := serialText(big.NewInt(n)); got != want {
			t.Errorf("%d prints as %s, want %s", n, got, want)
		}
	}
	if got := serialText(nil); got != "" {
		t.Errorf("no serial prints as %q", got)
	}
}

// TestNamesAreThoseOfOpenSSL prints odd subjects by both.
func TestNamesAreThoseOfOpenSSL(t *testing.T) {
	oid := func(n ...int) asn1.ObjectIdentifier { return n }
	attribute := func(id asn1.ObjectIdentifier, tag int, value string) []byte {
		set, err := asn1.Marshal(struct {
			Type  asn1.ObjectIdentifier
			Value asn1.RawValue
		}{id, asn1.RawValue{Class: asn1.ClassUniversal, Tag: tag, Bytes: []byte(value)}})
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	wrap := func(tag int, parts ...[]byte) []byte {
		der, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassUniversal, Tag: tag, IsCompound: true, Bytes: bytes.Join(parts, nil)})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	cn := oid(2, 5, 4, 3)
	var rdns [][]byte
	for _, a := range [][]byte{
		attribute(oid(2, 5, 4, 6), asn1.TagPrintableString, "DE"),
		attribute(oid(0, 9, 2342, 19200300, 100, 1, 25), asn1.TagIA5String, "example"),
		attribute(oid(0, 9, 2342, 19200300, 100, 1, 1), asn1.TagUTF8String, "u1"),
		attribute(oid(2, 5, 4, 4), asn1.TagUTF8String, "sur"),
		attribute(oid(2, 5, 4, 5), asn1.TagPrintableString, "123"),
		attribute(oid(2, 5, 4, 7), asn1.TagUTF8String, "Köln"),
		attribute(oid(2, 5, 4, 8), asn1.TagUTF8String, "NRW"),
		attribute(oid(2, 5, 4, 9), asn1.TagUTF8String, "Straße 1, links"),
		attribute(oid(2, 5, 4, 12), asn1.TagUTF8String, "Dr."),
		attribute(oid(2, 5, 4, 13), asn1.TagUTF8String, "d"),
		attribute(oid(2, 5, 4, 15), asn1.TagUTF8String, "b"),
		attribute(oid(2, 5, 4, 17), asn1.TagUTF8String, "50667"),
		attribute(oid(2, 5, 4, 41), asn1.TagUTF8String, "n"),
		attribute(oid(2, 5, 4, 42), asn1.TagUTF8String, "g"),
		attribute(oid(2, 5, 4, 43), asn1.TagUTF8String, "i"),
		attribute(oid(2, 5, 4, 44), asn1.TagUTF8String, "III"),
		attribute(oid(2, 5, 4, 46), asn1.TagPrintableString, "q"),
		attribute(oid(2, 5, 4, 65), asn1.TagUTF8String, "p"),
		attribute(oid(2, 5, 4, 97), asn1.TagUTF8String, "VATDE-1"),
		attribute(oid(1, 2, 840, 113549, 1, 9, 1), asn1.TagIA5String, "a@example.com"),
		attribute(oid(1, 3, 6, 1, 4, 1, 55555, 1), asn1.TagUTF8String, "unknown"),
		attribute(cn, 20, "Andr\xe9"),
		attribute(cn, asn1.TagBMPString, "\x00B\x20\xac"),
		attribute(cn, asn1.TagUTF8String, ""),
		attribute(cn, asn1.TagUTF8String, " # a,b+c\"d\\e<f>g;h=i "),
		attribute(cn, asn1.TagUTF8String, "#x"),
		attribute(cn, asn1.TagUTF8String, "\x01\r\n\x00\x7f\u202e\u2028"),
	} {
		rdns = append(rdns, wrap(asn1.TagSet, a))
	}
	rdns = append(rdns, wrap(asn1.TagSet, attribute(cn, asn1.TagUTF8String, "one"), attribute(oid(2, 5, 4, 11), asn1.TagUTF8String, "two")))
	all := append([][]byte{wrap(asn1.TagSequence, rdns...), wrap(asn1.TagSequence)}, rdns...)
	for i, name := range all {
		if i > 1 {
			name = wrap(asn1.TagSequence, name)
		}
		cert := tlstest.SelfSigned(tlstest.RawSubject(name))
		result := tlstest.OpenSSLInput(t, string(cert.PEM()), "x509", "-noout", "-subject", "-nameopt", "RFC2253")
		want := strings.TrimSuffix(strings.TrimPrefix(result.Stdout, "subject="), "\n")
		if got := termination.ParseDistinguishedName(name).String(); got != want {
			t.Errorf("%x prints as\n%s\nopenssl prints\n%s", name, got, want)
		}
	}
}

func TestCommonName(t *testing.T) {
	der, err := asn1.Marshal(pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
		{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "outer"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "inner"},
	}}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	if got := termination.ParseDistinguishedName(der).CommonName(); got != "inner" {
		t.Errorf("the common name is %q", got)
	}
	if got := termination.ParseDistinguishedName(nil).CommonName(); got != "" {
		t.Errorf("no name has the common name %q", got)
	}
}

// FuzzName: whatever a certificate's name holds prints as visible ASCII on one line.
func FuzzName(f *testing.F) {
	f.Add(fixedClient(fixedCA()).X509.RawSubject)
	f.Add([]byte{0x30, 0x00})
	f.Fuzz(func(t *testing.T, der []byte) {
		name := termination.ParseDistinguishedName(der)
		for _, s := range []string{name.String(), name.CommonName()} {
			for i := range len(s) {
				if s[i] < 0x20 || s[i] >= 0x7f {
					t.Fatalf("%x prints as %q", der, s)
				}
			}
		}
	})
}
