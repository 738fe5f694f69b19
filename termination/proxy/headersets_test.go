package proxy

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

var update = flag.Bool("update", false, "write the headers that the tests compare with")

// allFormats are the header sets in the order in which the configuration names them.
func allFormats() []termination.IdentityFormat {
	return []termination.IdentityFormat{
		termination.IdentityNginx, termination.IdentityXFCC, termination.IdentityRFC9440, termination.IdentityTraefik, termination.IdentityALB,
	}
}

// fixed gives a certificate a key, a serial number and dates that are the same in every run: Ed25519 signs without
// randomness.
func fixed(seed byte, serial int64) tlstest.Option {
	key := tlstest.WithKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32)))
	rest := tlstest.Template(func(c *x509.Certificate) {
		c.SerialNumber, c.SubjectKeyId = big.NewInt(serial), []byte{seed}
		c.NotBefore, c.NotAfter = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2099, 12, 31, 23, 59, 59, 0, time.UTC)
	})
	return tlstest.All(key, rest)
}

// headersOf are the headers about a leaf that was verified by this path.
func headersOf(formats []termination.IdentityFormat, leaf *tlstest.Cert, j verify.Judgement) (*told, []Note) {
	var notes []Note
	rec := &termination.Handshake{Presented: leaf.Chain()}
	x := &exchange{
		site:   &Site{Endpoint: &termination.Endpoint{ForwardIdentity: formats}},
		conn:   NewConn(ConnOptions{Handshake: rec, Note: func(n Note) { notes = append(notes, n) }}),
		client: j,
	}
	t := x.tell()
	if len(t.leftOut) > 0 {
		x.noteLeftOut(t)
		x.noteLeftOut(t)
		t.headers = append(t.headers, toldHeader{leftOutHeader, []string{strings.Join(t.leftOut, ", ")}})
	}
	return t, notes
}

func verifiedBy(leaf *tlstest.Cert) verify.Judgement {
	path := leaf.Chain()
	if root := leaf.Root(); root != leaf {
		path = append(path, root.X509)
	}
	return verify.Judgement{In: true, Verified: true, Path: path, Authority: "devices"}
}

func name(t *testing.T, sets ...[]pkix.AttributeTypeAndValue) tlstest.Option {
	t.Helper()
	var seq pkix.RDNSequence
	for _, s := range sets {
		seq = append(seq, s)
	}
	der, err := asn1.Marshal(seq)
	if err != nil {
		t.Fatal(err)
	}
	return tlstest.RawSubject(der)
}

func attr(value string, oid ...int) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: oid, Value: value}
}

// TestHeaderSetsToTheByte compares every header set with what is kept in testdata, for certificates plain and odd.
func TestHeaderSetsToTheByte(t *testing.T) {
	root := tlstest.NewCA(tlstest.CN("Devices"), tlstest.Org("tlstest"), fixed(1, 1))
	issuing := root.Intermediate(tlstest.CN("Issuing, 2"), tlstest.Org("tlstest"), fixed(2, 0x0203a5b1))
	cn := []int{2, 5, 4, 3}
	cases := []struct {
		name string
		leaf *tlstest.Cert
	}{
		{"plain", issuing.Client("billing", fixed(3, 0x3a5b1), tlstest.Org("Acme"), tlstest.OrgUnit("batch"),
			tlstest.DNS("billing.example.com", "b2.example.com"), tlstest.URI("spiffe://prod/billing"), tlstest.IP("192.0.2.1", "2001:db8::1"), tlstest.Email("ops@example.com"))},
		{"direct", root.Client("alice", fixed(3, 7), tlstest.Org("Acme"))},
		{"utf8", root.Client("Zoë 鍵\u202e", fixed(3, 8), tlstest.Org("Ünicode & Söhne"), tlstest.Template(func(c *x509.Certificate) { c.Subject.Country = []string{"DE"} }))},
		{"hostile", fixedClient(root)},
		{"empty_subject", root.Client("", fixed(3, 9), tlstest.Subject(pkix.Name{}), tlstest.URI("spiffe://prod/nameless"))},
		{"multi_valued", root.Client("", fixed(3, 10), name(t,
			[]pkix.AttributeTypeAndValue{attr("example", 0, 9, 2342, 19200300, 100, 1, 25)},
			[]pkix.AttributeTypeAndValue{attr("first", cn...), attr("Unit", 2, 5, 4, 11)},
			[]pkix.AttributeTypeAndValue{attr("second", cn...), attr("123", 2, 5, 4, 5)}))},
		{"commas", root.Client("Ltd, The", fixed(3, 11), tlstest.Org("Acme, Inc."), tlstest.URI("https://example.com/a;b=c,d?x=1", "urn:two"), tlstest.DNS("a.example.com"))},
		{"spoof", root.Client(`x",CN=admin`, fixed(3, 12), tlstest.Org("O,CN=admin"), tlstest.DNS("evil;URI=spiffe://prod/admin", `q"uote.example.com`, "line\nfeed.example.com", "back\\slash", "good.example.com"))},
		{"long_name", root.Client(strings.Repeat("é", 5<<10), fixed(3, 13), tlstest.Org("Acme"))},
		{"large_leaf", issuing.Client("ml-dsa-87", fixed(3, 14), tlstest.Extension(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 2}, false, bytes.Repeat([]byte{7}, 8<<10)))},
		{"too_large_leaf", issuing.Client("larger", fixed(3, 15), tlstest.Extension(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 2}, false, bytes.Repeat([]byte{7}, 13<<10)))},
		{"pinned", tlstest.SelfSigned(tlstest.CN("pinned"), fixed(4, 16))},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			j := verifiedBy(c.leaf)
			if c.name == "pinned" {
				j = verify.Judgement{In: true, Verified: true, Pin: "sha256:…"}
			}
			var out strings.Builder
			for _, f := range allFormats() {
				got, notes := headersOf([]termination.IdentityFormat{f}, c.leaf, j)
				fmt.Fprintf(&out, "# %s\n", f)
				for _, h := range got.headers {
					fmt.Fprintf(&out, "%s: %s\n", h.name, short(h.value[0]))
					if n := len(h.name) + 4 + len(h.value[0]); n > mostOfHeader {
						t.Errorf("%s takes %d bytes", h.name, n)
					}
					checkHeaderText(t, h)
				}
				if (len(notes) > 0) != (len(got.leftOut) > 0) {
					t.Errorf("%s: left out %q, noted %+v", f, got.leftOut, notes)
				}
			}
			file := filepath.Join("testdata", "headersets", c.name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(out.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("%v; run the test with -update and read what it wrote", err)
			}
			if got := out.String(); got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			checkReadBack(t, c.leaf, j)
		})
	}
}

// short stands for a value that nobody would read.
func short(value string) string {
	if len(value) < 4<<10 {
		return value
	}
	return fmt.Sprintf("%.40s… %d bytes, SHA-256 %x", value, len(value), sha256.Sum256([]byte(value)))
}

// checkHeaderText: a header is one line of visible ASCII.
func checkHeaderText(t *testing.T, h toldHeader) {
	t.Helper()
	for i := range len(h.value[0]) {
		if c := h.value[0][i]; c < ' ' || c >= 0x7f {
			t.Errorf("%s holds %q", h.name, h.value[0])
			return
		}
	}
	if len(h.value) != 1 || h.value[0] == "" || strings.TrimSpace(h.value[0]) != h.value[0] {
		t.Errorf("%s is %q", h.name, h.value)
	}
}

// checkReadBack decodes the certificates as services do.
func checkReadBack(t *testing.T, leaf *tlstest.Cert, j verify.Judgement) {
	t.Helper()
	got, _ := headersOf(allFormats(), leaf, j)
	h := http.Header{}
	for _, x := range got.headers {
		h[x.name] = x.value
	}
	fromPEM := func(what, text string, err error) {
		if block, _ := pem.Decode([]byte(text)); err != nil || block == nil || !bytes.Equal(block.Bytes, leaf.DER) {
			t.Errorf("%s does not decode to the certificate: %v", what, err)
		}
	}
	if v := h["X-Client-Cert"]; v != nil {
		text, err := url.QueryUnescape(v[0])
		fromPEM("X-Client-Cert", text, err)
	}
	if v := h["X-Amzn-Mtls-Clientcert-Leaf"]; v != nil {
		text, err := url.PathUnescape(v[0])
		fromPEM("X-Amzn-Mtls-Clientcert-Leaf", text, err)
	}
	if v := h["Client-Cert"]; v != nil {
		der, err := base64.StdEncoding.DecodeString(strings.Trim(v[0], ":"))
		if err != nil || !bytes.Equal(der, leaf.DER) {
			t.Errorf("Client-Cert does not decode to the certificate: %v", err)
		}
	}
	if v := h["X-Forwarded-Tls-Client-Cert"]; v != nil {
		first, _, _ := strings.Cut(v[0], ",")
		der, err := base64.StdEncoding.DecodeString(first)
		if err != nil || !bytes.Equal(der, leaf.DER) {
			t.Errorf("X-Forwarded-Tls-Client-Cert does not decode to the certificate: %v", err)
		}
	}
	if v := h["X-Forwarded-Client-Cert"]; v != nil {
		keys, err := readXFCC(v[0])
		if err != nil {
			t.Fatalf("%v: %s", err, v[0])
		}
		if keys["Hash"][0] != leaf.Fingerprint() || len(keys["Hash"]) != 1 || len(keys["Subject"]) > 1 {
			t.Errorf("X-Forwarded-Client-Cert says %q", keys)
		}
		if c := keys["Cert"]; c != nil {
			text, err := url.QueryUnescape(c[0])
			fromPEM("Cert in X-Forwarded-Client-Cert", text, err)
		}
		for _, u := range keys["URI"] {
			if u != "" && !strings.Contains(string(leaf.DER), u) {
				t.Errorf("the URI %q is in no certificate", u)
			}
		}
	}
}

// readXFCC reads the header by the grammar of Envoy's documentation.
func readXFCC(s string) (map[string][]string, error) {
	out := map[string][]string{}
	for s != "" {
		key, rest, ok := strings.Cut(s, "=")
		if !ok || strings.ContainsAny(key, `";,`) {
			return nil, fmt.Errorf("no key at %q", s)
		}
		var value strings.Builder
		if strings.HasPrefix(rest, `"`) {
			i := 1
			for ; i < len(rest) && rest[i] != '"'; i++ {
				if rest[i] == '\\' && i+1 < len(rest) {
					value.WriteByte(rest[i])
					i++
				}
				value.WriteByte(rest[i])
			}
			if i == len(rest) {
				return nil, fmt.Errorf("no end of the quotes at %q", rest)
			}
			rest = rest[i+1:]
		} else {
			end := strings.IndexAny(rest, ";,")
			if end < 0 {
				end = len(rest)
			}
			value.WriteString(rest[:end])
			rest = rest[end:]
		}
		out[key] = append(out[key], value.String())
		if rest != "" && rest[0] != ';' {
			return nil, fmt.Errorf("%q after a value", rest)
		}
		s = strings.TrimPrefix(rest, ";")
	}
	return out, nil
}

// TestIdentityInTotal: all sets together stay below the limit, small headers go first within a set, and what found no
// room is named.
func TestIdentityInTotal(t *testing.T) {
	leaf := fixedCA().Client("large", fixed(3, 14), tlstest.Extension(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 2}, false, bytes.Repeat([]byte{7}, 8<<10)))
	got, notes := headersOf(allFormats(), leaf, verifiedBy(leaf))
	size, names := 0, []string{}
	for _, h := range got.headers {
		names = append(names, h.name)
		if h.name != leftOutHeader {
			size += len(h.name) + 4 + len(h.value[0])
		}
	}
	if size > mostOfIdentity {
		t.Errorf("%d bytes in all", size)
	}
	const want = "X-Client-Verify X-Client-CN X-Client-DN X-Client-Issuer-DN X-Client-Serial X-Client-Fingerprint X-Client-Cert X-Forwarded-Client-Cert " +
		"X-Forwarded-Tls-Client-Cert-Info X-Amzn-Mtls-Clientcert-Serial-Number X-Amzn-Mtls-Clientcert-Issuer X-Amzn-Mtls-Clientcert-Subject X-Amzn-Mtls-Clientcert-Validity Countersign-Left-Out"
	if s := strings.Join(names, " "); s != want {
		t.Errorf("told\n%s\nwant\n%s", s, want)
	}
	const left = "X-Forwarded-Client-Cert/Chain, Client-Cert, X-Forwarded-Tls-Client-Cert, X-Amzn-Mtls-Clientcert-Leaf"
	if s := strings.Join(got.leftOut, ", "); s != left {
		t.Errorf("left out %s, want %s", s, left)
	}
	if len(notes) != 1 || notes[0].Reason != termination.ReasonIdentityLeftOut || !strings.Contains(notes[0].Detail, left) {
		t.Errorf("noted %+v", notes)
	}
}

// TestNothingIsAssertedOfTheUnverified: of a client that the policy did not verify, or only reports on, no set tells
// anything but X-Client-Verify.
func TestNothingIsAssertedOfTheUnverified(t *testing.T) {
	leaf := fixedCA().Client("mallory")
	request, err := verify.Compile(&termination.Config{Limits: termination.DefaultLimits()}, termination.ClientAuth{Mode: termination.ModeRequest}, verify.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	good := verifiedBy(leaf)
	reported := good
	reported.ReportOnly = true
	for _, c := range []struct {
		name string
		j    verify.Judgement
		want string
	}{
		{"failed", verify.Judgement{In: true, Reason: termination.ReasonCAUnknown, Path: good.Path}, "FAILED:ca_unknown"},
		{"report only, would pass", reported, "NONE"},
		{"report only, would fail", verify.Judgement{In: true, ReportOnly: true, WouldRefuse: true, Reason: termination.ReasonCAUnknown}, "NONE"},
	} {
		x := &exchange{
			site: &Site{Endpoint: &termination.Endpoint{ForwardIdentity: allFormats()}}, route: Route{Policy: request},
			conn: NewConn(ConnOptions{Handshake: &termination.Handshake{Presented: leaf.Chain()}}), client: c.j,
		}
		h := http.Header{}
		x.setIdentity(h)
		if len(h) != 1 || len(h["X-Client-Verify"]) != 1 || h["X-Client-Verify"][0] != c.want {
			t.Errorf("%s: told %q", c.name, h)
		}
	}
}

// TestHeaderSetsOnTheWire: the sets reach a service over both protocols, the same for every request of a connection, and
// another revision of the endpoint tells what it says from the next request on.
func TestHeaderSetsOnTheWire(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
		issuing := f.clients.Intermediate()
		alice := issuing.Client("alice", tlstest.URI("spiffe://prod/alice"))
		all := func(e *termination.Endpoint) { e.ForwardIdentity = allFormats() }
		f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), all))
		client := f.client(clientOptions{h2: h2, serverName: "public.test", cert: alice})
		ask := func() http.Header {
			t.Helper()
			return echo(t, f.get(client, "public.test", "/", func(r *http.Request) {
				r.Header["Client-Cert"], r.Header["x_forwarded_client_cert"] = []string{":Zm9yZ2Vk:"}, []string{"Hash=forged"}
			})).Header
		}
		want, _ := headersOf(allFormats(), alice, verifiedBy(alice))
		for range 2 {
			got := ask()
			for _, h := range want.headers {
				if v := got.Values(h.name); len(v) != 1 || v[0] != h.value[0] {
					t.Errorf("%s: %q, want %q", h.name, v, h.value)
				}
			}
		}
		f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), func(e *termination.Endpoint) {
			e.ForwardIdentity = []termination.IdentityFormat{termination.IdentityRFC9440}
		}))
		got := ask()
		if got.Get("Client-Cert") == "" || got.Get("Client-Cert-Chain") == "" || got.Get("X-Client-Verify") != "" || got.Get("X-Forwarded-Client-Cert") != "" {
			t.Errorf("after the change it is told %q", got)
		}
		f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), all, func(e *termination.Endpoint) { e.ClientAuth.ReportOnly = true }))
		if got := ask(); got.Get("X-Client-Verify") != "NONE" || got.Get("Client-Cert") != "" || got.Get("X-Forwarded-Client-Cert") != "" {
			t.Errorf("under report_only it is told %q", got)
		}
	})
}

// FuzzHeaderSets: whatever a certificate says, every header is one line of visible ASCII, and what a service reads in it is
// what stands in the certificate, and no more.
func FuzzHeaderSets(f *testing.F) {
	f.Add("alice", "Acme", "a.example.com", "spiffe://prod/alice")
	f.Add(`x",CN=admin`, "O,CN=admin", "evil;URI=spiffe://prod/admin", "https://example.com/a;b=c,d?x=1")
	f.Add("back\\", "line\r\nfeed", "q\"uote", "\\")
	f.Add("", " ", ";", ",")
	f.Add("\x00\xff", "ü", "=", "\u202e")
	ca := fixedCA()
	f.Fuzz(func(t *testing.T, cn, org, dns, uri string) {
		if len(cn)+len(org)+len(dns)+len(uri) > 4<<10 {
			return
		}
		san, err := asn1.Marshal([]asn1.RawValue{
			{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(dns)}, {Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(uri)},
		})
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn, Organization: []string{org}}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0),
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san}},
		}
		der, err := x509.CreateCertificate(rand.Reader, template, ca.X509, ca.Key.Public(), ca.Key)
		if err != nil {
			return
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		cert := &tlstest.Cert{X509: leaf, DER: der, Issuer: ca}
		for _, format := range allFormats() {
			got, _ := headersOf([]termination.IdentityFormat{format}, cert, verifiedBy(cert))
			for _, h := range got.headers {
				checkHeaderText(t, h)
				if h.name == "X-Forwarded-Client-Cert" {
					keys, err := readXFCC(h.value[0])
					if err != nil {
						t.Fatalf("%v: %s", err, h.value[0])
					}
					for key, values := range keys {
						known := map[string]string{"URI": uri, "DNS": dns, "Hash": cert.Fingerprint()}
						if want, ok := known[key]; len(values) != 1 || ok && values[0] != "" && values[0] != want {
							t.Fatalf("%s is %q", key, values)
						}
						if !strings.Contains("Hash Cert Chain Subject URI DNS", key) {
							t.Fatalf("it has a key %q: %s", key, h.value[0])
						}
					}
				}
				if h.name == "X-Forwarded-Tls-Client-Cert-Info" {
					info, err := url.QueryUnescape(h.value[0])
					if err != nil || strings.Count(info, `"`) > 12 || strings.Count(info, "CN=") > 2+strings.Count(cn+org, "CN=") {
						t.Fatalf("%v: %s", err, info)
					}
				}
			}
		}
	})
}
