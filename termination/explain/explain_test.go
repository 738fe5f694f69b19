package explain_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign/termination/explain"
	"countersign/termination/tlstest"
)

func read(t *testing.T, data []byte, password string) *explain.Explained {
	t.Helper()
	e, err := explain.Read(bytes.Clone(data), password, time.Now())
	if err != nil {
		t.Fatalf("%v: %.200q", err, data)
	}
	return e
}

// Every way in which people have a certificate leads to the same certificate.
func TestEncodings(t *testing.T) {
	c := tlstest.NewCA(tlstest.CN("Test CA")).Client("billing-batch")
	p := string(c.PEM())
	dir := t.TempDir()
	f := c.WriteFiles(t, dir)
	openssl := func(out string, args ...string) []byte {
		t.Helper()
		if text, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v: %s", args, err, text)
		}
		data, err := os.ReadFile(filepath.Join(dir, out))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, data := range map[string][]byte{
		"PEM":         []byte(p),
		"DER":         c.DER,
		"PKCS7":       openssl("c.p7b", "crl2pkcs7", "-nocrl", "-certfile", f.Cert, "-out", at("c.p7b")),
		"PKCS12":      openssl("c.p12", "pkcs12", "-export", "-in", f.Cert, "-inkey", f.Key, "-passout", "pass:secret", "-out", at("c.p12")),
		"text":        openssl("c.txt", "x509", "-in", f.Cert, "-text", "-out", at("c.txt")),
		"XFCC":        []byte(`x-forwarded-client-cert: By=spiffe://a/b;Hash=00;Subject="CN=billing-batch,O=\"x\"";URI=;Cert="` + url.PathEscape(p) + `"`),
		"Client-Cert": []byte("Client-Cert: :" + base64.StdEncoding.EncodeToString(c.DER) + ":"),
		"nginx":       []byte(url.PathEscape(p)),
		"base64":      []byte(base64.StdEncoding.EncodeToString(c.DER)),
		"JWK":         []byte(`{"kty":"EC","crv":"P-256","x5c":["` + base64.StdEncoding.EncodeToString(c.DER) + `"]}`),
	} {
		e := read(t, data, "secret")
		chain := e.Chain()
		if len(chain) != 1 || !bytes.Equal(chain[0].Raw, c.DER) {
			t.Errorf("%s: %+v", name, e.Findings)
			continue
		}
		for _, finding := range e.Findings {
			if finding.Certificate != nil && !strings.HasPrefix(finding.Title, "A client certificate for billing-batch, good for ") {
				t.Errorf("%s: in words: %q", name, finding.Title)
			}
		}
	}
	locked := read(t, openssl("c.p12", "pkcs12", "-export", "-in", f.Cert, "-inkey", f.Key, "-passout", "pass:secret", "-out", at("c.p12")), "wrong")
	if !locked.Has(explain.KindLocked) || strings.Contains(locked.Findings[0].Text, "wrong\"") {
		t.Errorf("with a wrong password: %+v", locked.Findings)
	}
	request := openssl("c.csr", "req", "-new", "-key", f.Key, "-subj", "/CN=billing-batch", "-addext", "subjectAltName=DNS:a.example", "-out", at("c.csr"))
	if e := read(t, request, ""); !e.Has(explain.KindRequest) || len(e.Findings[0].Groups) == 0 {
		t.Errorf("a request: %+v", e.Findings)
	}
}

// A private key is recognised in every form, is not in the answer, and is wiped.
func TestKeys(t *testing.T) {
	c := tlstest.NewCA().Client("a")
	for _, data := range [][]byte{c.KeyPEM(), append(c.PEM(), c.KeyPEM()...), []byte(`{"kty":"EC","d":"c2VjcmV0LXNlY3JldA","x":"a"}`)} {
		secret := string(data)
		e, err := explain.Read(data, "", time.Now())
		if err != nil || !e.Has(explain.KindKey) {
			t.Fatalf("not recognised: %v %+v", err, e)
		}
		if strings.Contains(secret, "PRIVATE KEY") && bytes.Contains(data, c.KeyPEM()[40:80]) || bytes.Contains(data, []byte("c2VjcmV0")) {
			t.Error("the key is still there")
		}
	}
}

// A request is signed by its own key, which its sender chose: a huge one would keep a core busy for a minute.
func TestHugeRequest(t *testing.T) {
	name, algorithm := asn1.RawValue{FullBytes: []byte{0x30, 0}}, asn1.RawValue{FullBytes: []byte{0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0}}
	modulus := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 900_000), big.NewInt(1))
	public, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: modulus, E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	type info struct {
		Version                     int
		Subject, Public, Attributes asn1.RawValue
	}
	der, err := asn1.Marshal(struct {
		Info      info
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}{
		info{0, name, asn1.RawValue{FullBytes: public}, asn1.RawValue{FullBytes: []byte{0xa0, 0}}},
		algorithm,
		asn1.BitString{Bytes: make([]byte, 112_500), BitLength: 900_000},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := read(t, der, "")
	if f := e.Findings[0]; f.Kind != explain.KindRequest || len(f.Faults) != 1 || !strings.Contains(f.Faults[0], "900000 bits") {
		t.Errorf("%+v", f)
	}
}

func TestWords(t *testing.T) {
	c := tlstest.NewCA().Client("a")
	for text, want := range map[string]struct {
		kind   explain.Kind
		filter string
	}{
		"42":                                   {explain.KindAlert, ""},
		"alert 116":                            {explain.KindAlert, "reason:cert_missing"},
		"TLS alert number 48":                  {explain.KindAlert, ""},
		"certificate_required":                 {explain.KindAlert, "reason:cert_missing"},
		c.Fingerprint():                        {explain.KindFingerprint, "fp:" + c.Fingerprint()},
		strings.Repeat("AB:", 19) + "AB":       {explain.KindFingerprint, ""},
		"t13d1516h2_8daaf6152771_02713d6af862": {explain.KindJA4, "ja4:t13d1516h2_8daaf6152771_02713d6af862"},
		"remote error: tls: certificate required":            {explain.KindError, "reason:cert_missing"},
		"curl –-cert client.crt https://localhost:8443/":     {explain.KindError, "reason:cert_missing,client_refused_us_ca"},
		"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtoZWxsbyBh a": {explain.KindPublicKey, ""},
	} {
		e := read(t, []byte(text), "")
		if got := e.Findings[0]; got.Kind != want.kind || want.filter != "" && got.Filter != want.filter || got.Title == "" {
			t.Errorf("%q: %+v", text, got)
		}
	}
	for text, want := range map[string]error{"": explain.ErrNothing, " \n": explain.ErrNothing, "hello there": explain.ErrUnknown, strings.Repeat("x", 300<<10): explain.ErrTooLarge} {
		if _, err := explain.Read([]byte(text), "", time.Now()); !errors.Is(err, want) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

// The whole output of a real openssl s_client: the server's certificate, and what was wrong.
func TestTranscript(t *testing.T) {
	server := tlstest.NewCA().Server("localhost")
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{server.TLS()}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			_ = conn.(*tls.Conn).Handshake() //nolint:forcetypeassert // of a listener of TLS
			_ = conn.Close()
		}
	}()
	cmd := exec.CommandContext(t.Context(), "openssl", "s_client", "-connect", l.Addr().String(), "-servername", "localhost")
	out, _ := cmd.CombinedOutput() // it exits as the server does
	e := read(t, out, "")
	if !e.Has(explain.KindCertificate) || !e.Has(explain.KindError) {
		t.Errorf("%+v\n%s", e.Findings, out)
	}
	if len(e.Chain()) != 1 || len(e.ClientChain()) != 0 {
		t.Errorf("the server's certificate is judged as a client's: %+v", e.Findings[0])
	}
	if f := e.Findings[len(e.Findings)-1]; !strings.Contains(f.Filter, "client_refused_us_ca") {
		t.Errorf("%+v", f)
	}
}

func TestCompare(t *testing.T) {
	ca := tlstest.NewCA()
	one := ca.Client("a")
	renewed := ca.Reissue(one)
	e := read(t, append(one.PEM(), renewed.PEM()...), "")
	if len(e.Compared) == 0 || e.Compared[0].Name != "Key" || !e.Compared[0].Same || e.Compared[1].Same {
		t.Errorf("%+v", e.Compared)
	}
	if e := read(t, append(one.PEM(), ca.PEM()...), ""); len(e.Compared) != 0 || len(e.Chain()) != 2 {
		t.Errorf("a leaf and its CA are no two to compare: %+v", e.Compared)
	}
}

// hello is a ClientHello of Go, as it goes over the wire.
func hello(t testing.TB, name string, groups ...tls.CurveID) []byte {
	client, server := net.Pipe()
	go func() {
		_ = tls.Client(client, &tls.Config{ServerName: name, CurvePreferences: groups}).Handshake()
		_ = client.Close()
	}()
	defer server.Close()
	data := make([]byte, 8192)
	n, err := server.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	return data[:n]
}

// recording is a pcap of Ethernet, IPv4 or IPv6 and TCP, in which data comes in several segments.
func recording(data []byte, six bool) []byte {
	out := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	out = append(out, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0)
	out = binary.LittleEndian.AppendUint32(out, 1)
	packet := func(seq uint32, flags byte, payload []byte) {
		tcp := binary.BigEndian.AppendUint32([]byte{0x80, 1, 1, 0xbb}, seq)
		tcp = append(append(tcp, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0), payload...)
		frame := append([]byte(nil), "twelve bytes"...)
		if six {
			frame = append(frame, 0x86, 0xdd, 0x60, 0, 0, 0, byte(len(tcp)>>8), byte(len(tcp)), 6, 64)
			frame = append(frame, make([]byte, 32)...)
		} else {
			frame = append(frame, 8, 0, 0x45, 0, byte((len(tcp)+20)>>8), byte(len(tcp)+20), 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
		}
		frame = append(frame, tcp...)
		out = append(out, make([]byte, 8)...)
		out = binary.LittleEndian.AppendUint32(out, uint32(len(frame)))
		out = binary.LittleEndian.AppendUint32(out, uint32(len(frame)))
		out = append(out, frame...)
	}
	packet(99, 2, nil)
	for i := 0; i < len(data); i += 500 {
		packet(100+uint32(i), 0x10, data[i:min(i+500, len(data))])
	}
	return out
}

// section puts the packets of a pcap into a pcapng.
func section(pcap []byte) []byte {
	block := func(kind uint32, body []byte) []byte {
		for len(body)%4 != 0 {
			body = append(body, 0)
		}
		out := binary.LittleEndian.AppendUint32(nil, kind)
		out = binary.LittleEndian.AppendUint32(out, uint32(len(body)+12))
		out = append(out, body...)
		return binary.LittleEndian.AppendUint32(out, uint32(len(body)+12))
	}
	out := block(0x0a0d0d0a, []byte{0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255})
	out = append(out, block(1, []byte{1, 0, 0, 0, 0, 0, 4, 0})...)
	for at := 24; at < len(pcap); {
		size := int(binary.LittleEndian.Uint32(pcap[at+8:]))
		body := []byte(strings.Repeat("\x00", 12))
		body = binary.LittleEndian.AppendUint32(body, uint32(size))
		body = binary.LittleEndian.AppendUint32(body, uint32(size))
		out = append(out, block(6, append(body, pcap[at+16:at+16+size]...))...)
		at += 16 + size
	}
	return out
}

func TestRecordings(t *testing.T) {
	raw := hello(t, "payments.localhost")
	for name, data := range map[string][]byte{"bare": raw, "IPv4": recording(raw, false), "IPv6": recording(raw, true), "pcapng": section(recording(raw, false))} {
		e := read(t, data, "")
		if f := e.Findings[0]; f.Kind != explain.KindHello || f.Title != "A ClientHello for payments.localhost" || !strings.HasPrefix(f.Filter, "ja4:t13d") {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if e := read(t, recording([]byte("GET / HTTP/1.1\r\n\r\n"), false), ""); e.Has(explain.KindHello) {
		t.Errorf("plain HTTP: %+v", e.Findings)
	}
}

// costly is a PKCS#12 file whose MAC is derived with so many iterations.
func costly(t testing.TB, iterations int) []byte {
	type content struct {
		Type asn1.ObjectIdentifier
		Data []byte `asn1:"tag:0,explicit"`
	}
	type digest struct {
		Algorithm pkix.AlgorithmIdentifier
		Value     []byte
	}
	type macData struct {
		Digest     digest
		Salt       []byte
		Iterations int
	}
	der, err := asn1.Marshal(struct {
		Version int
		Content content
		MAC     macData
	}{
		3,
		content{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}, []byte{0x30, 0}},
		macData{digest{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}}, make([]byte, 32)}, make([]byte, 8), iterations},
	})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// What a PKCS#12 file demands is known before anything of it is done.
func TestCostlyFile(t *testing.T) {
	for _, iterations := range []int{2_000_001, 1 << 40, -1, 0} {
		if f := read(t, costly(t, iterations), "secret").Findings[0]; f.Kind != explain.KindLocked || !strings.Contains(f.Text, "more work") {
			t.Errorf("%d iterations: %+v", iterations, f)
		}
	}
	if f := read(t, costly(t, 600_000), "secret").Findings[0]; f.Kind != explain.KindLocked || strings.Contains(f.Text, "more work") {
		t.Errorf("an honest file: %+v", f)
	}
}

// Nothing of the largest size that is read makes a reader work for long: it would wait for nothing that can be told.
func TestLargeInputs(t *testing.T) {
	ca := tlstest.NewCA()
	leaf := ca.Client("a")
	raw := hello(t, "a.example")
	fill := func(unit []byte) []byte { return bytes.Repeat(unit, (250<<10)/len(unit)) }
	// A stream of segments that never becomes a hello.
	segments := recording(append([]byte{22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc}, make([]byte, 120<<10)...), false)
	for name, data := range map[string][]byte{
		"begins":       fill([]byte("-----BEGIN CERTIFICATE-----\n")),
		"keys' words":  fill([]byte("BEGIN PRIVATE KE")),
		"lines":        fill([]byte("alert\n")),
		"quotes":       append([]byte("By="), fill([]byte(`",;=\"`))...),
		"base64":       fill([]byte("TUlJ")),
		"nested":       bytes.Repeat([]byte{0x30, 0x80}, 125<<10),
		"certificates": bytes.Repeat(leaf.PEM(), 64),
		"same issuer":  bytes.Repeat(ca.PEM(), 64),
		"segments":     segments,
		"hellos":       fill(raw),
		"packets":      fill(recording(raw, false)),
		"braces":       append([]byte("{"), fill([]byte(`"x5c":["`))...),
		"headers":      append([]byte("Client-Cert: "), fill([]byte(":=:,"))...),
	} {
		start := time.Now()
		_, _ = explain.Read(data, "", time.Now())
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%s: %s", name, took)
		} else {
			t.Logf("%s: %s", name, took)
		}
	}
}

func FuzzRead(f *testing.F) {
	c := tlstest.NewCA().Client("a")
	raw := hello(f, "a.example", tls.X25519) // a short one: the fuzzer shortens what it finds, byte by byte
	for _, seed := range [][]byte{
		c.PEM(), c.DER, raw, recording(raw, false), recording(raw, true), section(recording(raw, false)), []byte("alert 42"), []byte("Client-Cert: :AAAA:, :=:"),
		[]byte(`By=a;Hash=b;Cert="%2D%2D";Chain="`), []byte(`{"kty":"EC","x5c":["MII"]}`), []byte("-----BEGIN%20CERTIFICATE"), []byte("MIIB"), []byte("remote error: tls: bad certificate"),
		{0x0a, 0x0d, 0x0d, 0x0a, 255, 255, 255, 255},
		costly(f, 1), costly(f, 1<<40),
		append([]byte{0xd4, 0xc3, 0xb2, 0xa1}, make([]byte, 40)...),
	} {
		f.Add(seed, "x")
	}
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, data []byte, password string) {
		e, err := explain.Read(data, password, now)
		if err != nil {
			return
		}
		if len(e.Findings) == 0 {
			t.Fatal("nothing, and no error")
		}
		e.Chain()
		for _, finding := range e.Findings {
			if finding.Title == "" || finding.Kind == "" {
				t.Fatalf("%+v", finding)
			}
		}
	})
}
