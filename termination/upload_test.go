package termination_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// Everything a person may upload that holds the same two CA certificates, however it was mangled on its way.
// The last byte of a certificate is one of its signature, which may look like the end of a line.
func TestReadUploadOfDERThatEndsLikeText(t *testing.T) {
	root := tlstest.NewCA(tlstest.CN("Acme Root"))
	for _, end := range []byte("\n\r\x00 \t") {
		inter := root.Intermediate()
		for inter.DER[len(inter.DER)-1] != end {
			inter = root.Intermediate()
		}
		for name, data := range map[string][]byte{"alone": inter.DER, "after another": join(root.DER, inter.DER), "before a newline": join(inter.DER, []byte("\r\n"))} {
			u, err := termination.ReadUpload(bytes.Clone(data))
			if err != nil || !strings.HasSuffix(kinds(u), "intermediate") {
				t.Errorf("%s, ends with %#x: found %q, %v", name, end, kinds(u), err)
			}
		}
	}
}

func TestReadUploadTolerates(t *testing.T) {
	root := tlstest.NewCA(tlstest.CN("Acme Root"))
	inter := root.Intermediate(tlstest.CN("Acme Issuing"))
	both := tlstest.ChainPEM(root.X509, inter.X509)
	p7der := openssl(t, nil, "crl2pkcs7", "-nocrl", "-certfile", file(t, both), "-outform", "DER")
	p7pem := openssl(t, nil, "crl2pkcs7", "-nocrl", "-certfile", file(t, both))
	// OpenSSL streams CMS in BER with indefinite lengths, as Bouncy Castle writes its bundles.
	signer := root.Client("signer")
	streamed := openssl(t, []byte("hello"), "cms", "-sign", "-stream", "-nodetach", "-nosmimecap", "-outform", "DER",
		"-signer", file(t, signer.PEM()), "-inkey", file(t, signer.KeyPEM()), "-nocerts", "-certfile", file(t, both))
	if streamed[1] != 0x80 {
		t.Fatal("openssl cms -stream made no indefinite length: the test would prove nothing")
	}
	trusted := func(c *tlstest.Cert) []byte {
		return openssl(t, c.PEM(), "x509", "-trustout", "-addtrust", "clientAuth", "-setalias", "x")
	}

	for name, data := range map[string][]byte{
		"plain":                      both,
		"CRLF":                       swap(both, "\n", "\r\n"),
		"CR only":                    swap(both, "\n", "\r"),
		"no final newline":           bytes.TrimSpace(both),
		"no line breaks":             swap(both, "\n", ""),
		"spaces for line breaks":     swap(both, "\n", " "),
		"JSON escapes":               []byte(`{"ca":"` + string(swap(both, "\n", `\n`)) + `"}`),
		"quoted mail":                []byte("> " + string(swap(both, "\n", "\n> "))),
		"indented":                   swap(both, "\n", "\n      "),
		"text around":                join([]byte("Dear all - here it is:\nsubject=CN = Acme\n"), both, []byte("Kind regards --\nBob")),
		"text between":               join(root.PEM(), []byte("\n# the intermediate\nissuer: x\n"), inter.PEM()),
		"UTF-8 byte-order mark":      join([]byte("\ufeff"), both),
		"two files with marks":       join([]byte("\ufeff"), root.PEM(), []byte("\ufeff"), inter.PEM()),
		"UTF-16 little endian":       encodeUTF16(both, false),
		"UTF-16 big endian":          encodeUTF16(both, true),
		"no-break spaces":            swap(both, "\n", "\u00a0\n"),
		"headers":                    swap(both, "CERTIFICATE-----\nMI", "CERTIFICATE-----\nX-From: me\n\nMI"),
		"X509 CERTIFICATE":           swap(both, "CERTIFICATE", "X509 CERTIFICATE"),
		"four dashes":                swap(both, "-----", "----"),
		"TRUSTED CERTIFICATE":        join(trusted(root), trusted(inter)),
		"DER, one after the other":   join(root.DER, inter.DER),
		"DER with a newline at end":  join(root.DER, inter.DER, []byte("\r\n")),
		"PKCS#7 DER":                 p7der,
		"PKCS#7 PEM":                 p7pem,
		"PKCS#7 labelled CMS":        block("CMS", p7der),
		"PKCS#7 labelled CERT":       block("CERTIFICATE", p7der),
		"PKCS#7 streamed":            streamed,
		"PKCS#7 streamed, PEM":       block("PKCS7", streamed),
		"base64 of DER":              []byte(base64.StdEncoding.EncodeToString(join(root.DER, inter.DER))),
		"base64 of PEM":              []byte(base64.StdEncoding.EncodeToString(both)),
		"UTF-16 of base64 of PEM":    encodeUTF16([]byte(base64.StdEncoding.EncodeToString(both)), false),
		"missing END at the end":     bytes.TrimSuffix(both, []byte("-----END CERTIFICATE-----\n")),
		"missing END in the middle":  bytes.Replace(both, []byte("-----END CERTIFICATE-----\n"), nil, 1),
		"junk before the BEGIN line": join([]byte("BEGIN CERTIFICATE --- -- BEGIN X- "), both),
	} {
		u, err := termination.ReadUpload(bytes.Clone(data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if kinds(u) != "root intermediate" {
			t.Errorf("%s: found %q\n%+v", name, kinds(u), u.Items)
			continue
		}
		if !u.Items[0].Certificate.Equal(root.X509) || !u.Items[1].Certificate.Equal(inter.X509) {
			t.Errorf("%s: other certificates came out", name)
		}
		if u.Items[0].Title != "Acme Root" || u.Items[1].Title != "Acme Issuing" || u.Items[0].Fingerprint != termination.FingerprintOf(root.X509) {
			t.Errorf("%s: titles %q, %q", name, u.Items[0].Title, u.Items[1].Title)
		}
		if !bytes.Equal(u.PEM(), both) {
			t.Errorf("%s: PEM() gives something else", name)
		}
	}
}

// Each kind of thing that is no CA certificate gets a message of its own.
func TestReadUploadKinds(t *testing.T) {
	ca := tlstest.NewCA(tlstest.CN("Acme Root"))
	leaf := ca.Server("www.acme.example")
	key := leaf.KeyPEM()
	p12 := openssl(t, nil, "pkcs12", "-export", "-in", file(t, join(leaf.PEM(), key)), "-passout", "pass:x")
	encrypted := openssl(t, key, "pkcs8", "-topk8", "-passout", "pass:x")
	spki, err := x509.MarshalPKIXPublicKey(leaf.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	rsa := tlstest.SelfSigned(tlstest.RSA(2048))
	pkcs1 := openssl(t, rsa.KeyPEM(), "rsa", "-traditional", "-outform", "DER")
	whole := string(ca.PEM())
	damaged := []byte(strings.Replace(whole, "\nMI", "\nM!", 1))
	cut := []byte(whole[:len(whole)/2])
	wrong := bytes.Clone(ca.DER)
	wrong[len(wrong)/4] ^= 0xff

	for _, c := range []struct {
		name string
		data []byte
		kind termination.UploadKind
		says string // part of the message
	}{
		{"nothing", nil, termination.UploadEmpty, "nothing"},
		{"white space", []byte(" \r\n\t"), termination.UploadEmpty, "nothing"},
		{"only a mark", []byte("\ufeff\n"), termination.UploadEmpty, "nothing"},
		{"text", []byte("hello, world\n"), termination.UploadText, "BEGIN CERTIFICATE"},
		{"text with a zero first", []byte("0123456789 abc"), termination.UploadText, "BEGIN CERTIFICATE"},
		{"a web page", []byte("<!DOCTYPE html><title>Sign in</title>"), termination.UploadOther, "web page"},
		{"a zip archive", []byte("PK\x03\x04\x00\x00"), termination.UploadOther, "archive"},
		{"a picture", []byte("\x89PNG\r\n\x1a\n\x00"), termination.UploadOther, "picture"},
		{"a Java key store", []byte("\xfe\xed\xfe\xed\x00\x00\x00\x02"), termination.UploadOther, "keytool"},
		{"random bytes", []byte("\x00\x01\x02\x03\x80\x81"), termination.UploadUnreadable, "binary"},
		{"a leaf", leaf.PEM(), termination.UploadLeaf, "server certificate, not a CA"},
		{"a client", ca.Client("alice").PEM(), termination.UploadLeaf, "client certificate, not a CA"},
		{"version 1", ca.Client("alice", tlstest.V1()).PEM(), termination.UploadUnproven, "version 1"},
		{"no basicConstraints", tlstest.NewCA(tlstest.NoBasicConstraints()).PEM(), termination.UploadUnproven, "basicConstraints"},
		{"CA:FALSE", tlstest.NewCA(tlstest.CAFalse()).PEM(), termination.UploadLeaf, "not a CA"},
		{"key, PKCS#8", key, termination.UploadPrivateKey, "line 1"},
		{"key, SEC1", block("EC PRIVATE KEY", sec1(t, leaf)), termination.UploadPrivateKey, "An EC private key begins at line 1"},
		{"key, PKCS#1", block("RSA PRIVATE KEY", pkcs1), termination.UploadPrivateKey, "An RSA private key"},
		{"key, encrypted", encrypted, termination.UploadPrivateKey, "encrypted private key"},
		{"key, old encryption", []byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"), termination.UploadPrivateKey, "replace that key"},
		{"key, PKCS#8 DER", mustDecode(t, key), termination.UploadPrivateKey, "private key is in it"},
		{"key, SEC1 DER", sec1(t, leaf), termination.UploadPrivateKey, "An EC private key"},
		{"key, PKCS#1 DER", pkcs1, termination.UploadPrivateKey, "An RSA private key"},
		{"key, encrypted DER", mustDecode(t, encrypted), termination.UploadPrivateKey, "encrypted"},
		{"key under a wrong label", block("CERTIFICATE", mustDecode(t, key)), termination.UploadPrivateKey, "line 1"},
		{"key without END", []byte("-----BEGIN PRIVATE KEY-----\nMIIabc"), termination.UploadPrivateKey, "line 1"},
		{"key with damaged dashes", []byte("\nBEGIN PRIVATE KEY\nMIIabc"), termination.UploadPrivateKey, "not kept"},
		{"key in lower case", []byte("----begin rsa private key----\nMIIabc"), termination.UploadPrivateKey, "not kept"},
		{"key inside a damaged block", []byte("-----BEGIN CERTIFICATE-----\nMIIabc\n---begin private key---\nMIIabc"), termination.UploadPrivateKey, "line 3"},
		{"key in base64", []byte(base64.StdEncoding.EncodeToString(key)), termination.UploadPrivateKey, "not kept"},
		{"key in UTF-16", encodeUTF16(key, false), termination.UploadPrivateKey, "not kept"},
		{"key for SSH", []byte("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n"), termination.UploadPrivateKey, "SSH private key"},
		{"key of PuTTY", []byte("PuTTY-User-Key-File-3: ssh-ed25519\n"), termination.UploadPrivateKey, "not kept"},
		{"key as JWK", []byte(`{ "kty" : "EC", "crv":"P-256", "d" : "abc"}`), termination.UploadPrivateKey, "not kept"},
		{"public key as JWK", []byte(`{"kty":"EC","x":"d"}`), termination.UploadText, ""},
		{"a request", block("CERTIFICATE REQUEST", csr(t)), termination.UploadRequest, "request (CSR)"},
		{"a request, DER", csr(t), termination.UploadRequest, "request (CSR)"},
		{"a revocation list", block("X509 CRL", crl(t, ca)), termination.UploadCRL, "does not make anybody trusted"},
		{"a revocation list, DER", crl(t, ca), termination.UploadCRL, "does not make anybody trusted"},
		{"PKCS#12", p12, termination.UploadPKCS12, "openssl pkcs12"},
		{"a public key", block("PUBLIC KEY", spki), termination.UploadPublicKey, "public key alone"},
		{"an SSH key", []byte("ssh-ed25519 AAAAC3Nza rhea@host\n"), termination.UploadSSHKey, "SSH"},
		{"an SSH2 key", []byte("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----\n"), termination.UploadSSHKey, "SSH"},
		{"a PGP key", []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ=\n-----END PGP PUBLIC KEY BLOCK-----\n"), termination.UploadOther, "PGP"},
		{"parameters", []byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), termination.UploadOther, "parameters"},
		{"not base64", damaged, termination.UploadUnreadable, `found the character "!"`},
		{"cut off", cut, termination.UploadUnreadable, "cut off"},
		{"an empty block", []byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), termination.UploadUnreadable, "found nothing"},
		{"ends as something else", swap(ca.PEM(), "END CERTIFICATE", "END X509 CRL"), termination.UploadUnreadable, "ran into each other"},
		{"two in one block", block("CERTIFICATE", join(ca.DER, ca.DER)), termination.UploadUnreadable, "too many"},
		{"not DER", block("CERTIFICATE", []byte("hello")), termination.UploadUnreadable, "expected DER"},
		{"of an unknown kind", block("CERTIFICATE", []byte{0x30, 3, 2, 1, 1}), termination.UploadUnreadable, "nothing else that is known"},
		{"a damaged certificate", block("CERTIFICATE", wrong), termination.UploadUnreadable, ""},
		{"a bundle of nothing", block("PKCS7", []byte{0x30, 0x0b, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2}), termination.UploadUnreadable, "empty"},
		{"an encrypted message", block("PKCS7", []byte{0x30, 0x0b, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 3}), termination.UploadUnreadable, "another kind"},
	} {
		u, err := termination.ReadUpload(bytes.Clone(c.data))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if len(u.Items) != 1 || u.Items[0].Kind != c.kind || !strings.Contains(strings.ToLower(u.Items[0].Message), strings.ToLower(c.says)) {
			t.Errorf("%s: want one %s that says %q, got %+v", c.name, c.kind, c.says, u.Items)
		}
		for _, i := range u.Items {
			if i.Title == "" || i.Message == "" || !strings.HasSuffix(strings.TrimSpace(i.Message), ".") && !strings.Contains(i.Message, "openssl") && !strings.Contains(i.Message, "keytool") {
				t.Errorf("%s: title %q, message %q", c.name, i.Title, i.Message)
			}
			if (i.Certificate != nil) != i.Kind.IsCertificate() {
				t.Errorf("%s: a %s has certificate %v", c.name, i.Kind, i.Certificate != nil)
			}
		}
	}
}

func mustDecode(t testing.TB, data []byte) []byte {
	t.Helper()
	b, _ := pem.Decode(data)
	if b == nil {
		t.Fatal("no PEM")
	}
	return b.Bytes
}

// One broken block does not spoil the others, and each is named by its line.
func TestReadUploadMixed(t *testing.T) {
	root := tlstest.NewCA(tlstest.CN("Acme Root"))
	leaf := root.Server("www.acme.example")
	data := join(
		[]byte("# bundle\n"),
		root.PEM(),
		[]byte("-----BEGIN CERTIFICATE-----\nnot*base64\n-----END CERTIFICATE-----\n"),
		leaf.PEM(),
		block("EC PRIVATE KEY", sec1(t, leaf)),
	)
	rootLines := bytes.Count(root.PEM(), []byte("\n"))
	leafLines := bytes.Count(leaf.PEM(), []byte("\n"))
	u, err := termination.ReadUpload(data)
	if err != nil {
		t.Fatal(err)
	}
	if kinds(u) != "root unreadable leaf private_key" {
		t.Fatalf("found %q", kinds(u))
	}
	for n, want := range []int{2, 2 + rootLines, 5 + rootLines, 5 + rootLines + leafLines} {
		if u.Items[n].Line != want {
			t.Errorf("item %d is said to be at line %d, want %d", n, u.Items[n].Line, want)
		}
	}
	if m := u.Items[1].Message; !strings.Contains(m, "line "+itoa(3+rootLines)+":") {
		t.Errorf("the fault itself is not located: %s", m)
	}
	if len(u.Certificates()) != 2 {
		t.Errorf("%d certificates", len(u.Certificates()))
	}
}

func itoa(n int) string {
	s := ""
	for ; n > 0; n /= 10 {
		s = string(rune('0'+n%10)) + s
	}
	return s
}

// A private key in an upload is neither kept in what is returned nor left in the buffer.
func TestReadUploadWipesKeys(t *testing.T) {
	ca := tlstest.NewCA()
	leaf := ca.Server("www.acme.example")
	key := leaf.KeyPEM()
	for name, data := range map[string][]byte{
		"PEM":             join(ca.PEM(), key),
		"DER":             mustDecode(t, key),
		"no END line":     join(ca.PEM(), key[:len(key)-30]),
		"a broken marker": join(ca.PEM(), swap(key, "-----", "")),
		"base64":          []byte(base64.StdEncoding.EncodeToString(join(ca.PEM(), key))),
		"UTF-16":          encodeUTF16(join(ca.PEM(), key), true),
		"too many blocks": join(bytes.Repeat([]byte("-----BEGIN X-----\n-----END X-----\n"), 300), key),
	} {
		u, err := termination.ReadUpload(data)
		if name != "too many blocks" && (err != nil || !u.Has(termination.UploadPrivateKey)) {
			t.Errorf("%s: key not found (%v): %s", name, err, kinds(u))
		}
		if !bytes.Equal(data, make([]byte, len(data))) {
			t.Errorf("%s: the buffer still holds something", name)
		}
		for _, i := range u.Items {
			if i.Kind == termination.UploadRoot && !i.Certificate.Equal(ca.X509) {
				t.Errorf("%s: wiping damaged the certificate", name)
			}
			body := base64.StdEncoding.EncodeToString(mustDecode(t, key))
			if strings.Contains(i.Message+i.Title, body[:20]) {
				t.Errorf("%s: the key is in the message", name)
			}
		}
		if bytes.Contains(u.PEM(), []byte("PRIVATE")) {
			t.Errorf("%s: the key is in PEM()", name)
		}
	}
	// Without a key the buffer stays as it was.
	data := ca.PEM()
	if _, err := termination.ReadUpload(data); err != nil || !bytes.Equal(data, ca.PEM()) {
		t.Errorf("an upload without a key was changed (%v)", err)
	}
}

func TestReadUploadLimits(t *testing.T) {
	ca := tlstest.NewCA()
	many := func(n int) []byte { return bytes.Repeat(ca.PEM(), n) }
	p7 := openssl(t, nil, "crl2pkcs7", "-nocrl", "-certfile", file(t, many(termination.MaxUploadCertificates+1)), "-outform", "DER")
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"as many as allowed":         {many(termination.MaxUploadCertificates), nil},
		"one more":                   {many(termination.MaxUploadCertificates + 1), termination.ErrUploadTooManyCertificates},
		"one more, in a bundle":      {p7, termination.ErrUploadTooManyCertificates},
		"one more, as DER":           {bytes.Repeat(ca.DER, termination.MaxUploadCertificates+1), termination.ErrUploadTooManyCertificates},
		"as large as allowed":        {bytes.Repeat([]byte("x"), termination.MaxUpload), nil},
		"one byte more":              {bytes.Repeat([]byte("x"), termination.MaxUpload+1), termination.ErrUploadTooLarge},
		"10 MB":                      {make([]byte, 10<<20), termination.ErrUploadTooLarge},
		"thousands of empty blocks":  {bytes.Repeat([]byte("-----BEGIN X-----\n"), 5000), termination.ErrUploadTooManyBlocks},
		"thousands of key fragments": {bytes.Repeat([]byte("--BEGIN A--"), 20000), termination.ErrUploadTooManyBlocks},
	} {
		_, err := termination.ReadUpload(c.data)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	_, err := termination.ReadUpload(make([]byte, 10<<20))
	if err == nil || !strings.Contains(err.Error(), "10 MB") || !strings.Contains(err.Error(), "256 kB") {
		t.Errorf("the size is not said: %v", err)
	}
	big := make([]byte, 10<<20)
	if n := testing.AllocsPerRun(10, func() { termination.ReadUpload(big) }); n > 20 {
		t.Errorf("refusing 10 MB made %v allocations", n)
	}
}

// Names of certificates are hostile text.
func TestReadUploadHostileNames(t *testing.T) {
	ca := tlstest.NewCA(tlstest.CN("a\u202eb\x1b[31m\nc" + strings.Repeat("x", 500)))
	u, err := termination.ReadUpload(ca.PEM())
	if err != nil {
		t.Fatal(err)
	}
	title := u.Items[0].Title
	if strings.ContainsAny(title, "\u202e\x1b\n") || len([]rune(title)) > 65 {
		t.Errorf("title %q", title)
	}
}

func TestReadUploadStrength(t *testing.T) {
	root := tlstest.NewCA(tlstest.RSA(1024), tlstest.SHA1RSA())
	inter := root.Intermediate(tlstest.SHA1RSA())
	u, err := termination.ReadUpload(tlstest.ChainPEM(root.X509, inter.X509))
	if err != nil {
		t.Fatal(err)
	}
	if kinds(u) != "root intermediate" {
		t.Fatalf("found %q", kinds(u))
	}
	if got := codes(u.Items[0].Warnings); got != "weak_key" {
		t.Errorf("a root with a short key and SHA-1: %s (its own signature does not matter)", got)
	}
	if got := codes(u.Items[1].Warnings); got != "weak_signature" {
		t.Errorf("an intermediate signed with SHA-1: %s", got)
	}
}

func codes(w []termination.UploadWarning) string {
	var out []string
	for _, x := range w {
		out = append(out, string(x.Code))
	}
	return strings.Join(out, " ")
}

func FuzzReadUpload(f *testing.F) {
	ca := tlstest.NewCA()
	leaf := ca.Server("a.example.com")
	seeds := [][]byte{
		nil, ca.PEM(), ca.DER, leaf.PEM(), leaf.KeyPEM(), mustDecode(f, leaf.KeyPEM()),
		join(ca.PEM(), leaf.KeyPEM()), swap(ca.PEM(), "\n", "\r\n"), encodeUTF16(ca.PEM(), false), block("CERTIFICATE REQUEST", csr(f)), crl(f, ca),
		[]byte("-----BEGIN CERTIFICATE-----\nX: y\n z\n\nAAAA\n-----END X-----"), []byte("--BEGIN A--\\n"), []byte(`{"kty":"EC","d":1}`),
		openssl(f, nil, "crl2pkcs7", "-nocrl", "-certfile", file(f, ca.PEM()), "-outform", "DER"),
		[]byte("0\x80\x06\t*\x86H\x86\xf7\r\x01\x07\x02\xa0\x800\x80\x02\x01\x011\x000\x80\x00\x00\xa0\x80\x00\x00\x00\x00\x00\x00\x00\x00"),
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		u, err := termination.ReadUpload(data)
		if err != nil {
			return
		}
		if len(u.Items) == 0 {
			t.Fatal("nothing was said about it")
		}
		for _, i := range u.Items {
			if i.Title == "" || i.Message == "" || (i.Certificate != nil) != i.Kind.IsCertificate() || i.Line < 0 {
				t.Fatalf("item %+v", i)
			}
		}
		if u.Has(termination.UploadPrivateKey) && !bytes.Equal(data, make([]byte, len(data))) {
			t.Fatal("a private key was found, and the buffer not wiped")
		}
		// What comes out must read the same when it goes in again.
		again, err := termination.ReadUpload(u.PEM())
		if err != nil {
			t.Fatalf("PEM() is refused: %v", err)
		}
		if len(again.Certificates()) != len(u.Certificates()) {
			t.Fatalf("%d certificates became %d", len(u.Certificates()), len(again.Certificates()))
		}
		plan := termination.PlanAuthority(u, termination.PlanOptions{Now: time.Unix(1800000000, 0), Anchors: termination.AnchorsAll, Declared: len(data)%2 == 0})
		if plan.Err() == nil && len(plan.Certificates()) == 0 {
			t.Fatal("a plan without certificates and without an error")
		}
		for _, c := range plan.Certificates() {
			if !c.Certificate.IsCA || !c.Certificate.BasicConstraintsValid {
				t.Fatalf("%q is no CA", c.Certificate.Subject)
			}
		}
	})
}
