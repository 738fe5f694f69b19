package termination

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

func TestReadBER(t *testing.T) {
	nested := bytes.Repeat([]byte{0x30, 0x80}, 100)
	for name, c := range map[string]struct {
		in   []byte
		body string // hex; "-" for an error
		rest string
		size int
	}{
		"empty":                          {nil, "-", "", 0},
		"a tag alone":                    {[]byte{0x30}, "-", "", 0},
		"short length":                   {[]byte{0x04, 2, 1, 2, 9}, "0102", "09", 4},
		"long length":                    {append([]byte{0x04, 0x81, 0x80}, make([]byte, 128)...), strings.Repeat("00", 128), "", 131},
		"long length that is not needed": {[]byte{0x04, 0x82, 0, 1, 7}, "07", "", 5},
		"cut off":                        {[]byte{0x04, 5, 1}, "-", "", 7},
		"cut off in its length":          {[]byte{0x04, 0x82, 1}, "-", "", 0},
		"length of five bytes":           {[]byte{0x04, 0x85, 0, 0, 0, 0, 1, 1}, "-", "", 0},
		"length of 4 GB":                 {[]byte{0x04, 0x84, 0xff, 0xff, 0xff, 0xff}, "-", "", 0},
		"high tag":                       {[]byte{0x1f, 0x81, 1, 0}, "-", "", 0},
		"indefinite":                     {[]byte{0x30, 0x80, 4, 1, 7, 0, 0, 9}, "040107", "09", 7},
		"indefinite in indefinite":       {[]byte{0x30, 0x80, 0x30, 0x80, 0, 0, 0, 0}, "30800000", "", 8},
		"indefinite primitive":           {[]byte{0x04, 0x80, 0, 0}, "-", "", 0},
		"indefinite without end":         {[]byte{0x30, 0x80, 4, 1, 7}, "-", "", 0},
		"nested too deeply":              {nested, "-", "", 0},
		"the same, properly closed":      {append(bytes.Repeat([]byte{0x30, 0x80}, 40), make([]byte, 80)...), "-", "", 0},
	} {
		e, rest, err := readBER(c.in)
		if (err != nil) != (c.body == "-") {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if e.size != c.size && err == nil || c.size > 0 && e.size != c.size {
			t.Errorf("%s: size %d, want %d", name, e.size, c.size)
		}
		if err == nil && (hex.EncodeToString(e.body) != c.body || hex.EncodeToString(rest) != c.rest) {
			t.Errorf("%s: body %x, rest %x", name, e.body, rest)
		}
	}
}

// Decoded copies of a key are wiped too, however it was wrapped.
func TestCopiesAreWiped(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	zero := func(b []byte) bool { return bytes.Equal(b, make([]byte, len(b))) }
	for name, data := range map[string][]byte{
		"under a wrong label": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"bare base64":         []byte(base64.StdEncoding.EncodeToString(der)),
	} {
		r := &uploadReader{}
		r.read(data)
		if len(r.scratch) == 0 || bytes.Count(r.scratch[0], []byte{0}) > 40 {
			t.Fatalf("%s: there is no copy, so nothing is tested", name)
		}
		r.wipe(data)
		if !zero(data) {
			t.Errorf("%s: the buffer is left", name)
		}
		for _, s := range r.scratch {
			if !zero(s) {
				t.Errorf("%s: a copy is left", name)
			}
		}
	}
	_, keys, err := readParts([]byte(base64.StdEncoding.EncodeToString(der)))
	if err != nil || len(keys) != 1 || !bytes.Equal(keys[0].der, der) {
		t.Fatalf("a key that was asked for did not come: %v", err)
	}
	wipeKeys(keys)
	if !zero(keys[0].der) {
		t.Error("a key that was asked for is left")
	}
}

func TestIssuerChecksAreBounded(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	p := &planner{checks: 2}
	for n, want := range []bool{true, true, false, false} {
		if got := p.signed(c, c); got != want {
			t.Errorf("check %d: %v, want %v", n, got, want)
		}
	}
}

func TestPublicCATable(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(publicCAs), "\n")
	if len(lines) < 100 {
		t.Fatalf("only %d public CAs", len(lines))
	}
	seen := map[string]bool{}
	for _, line := range lines {
		key, rest, _ := strings.Cut(line, " ")
		subject, name, _ := strings.Cut(rest, " ")
		a, errA := hex.DecodeString(key)
		b, errB := hex.DecodeString(subject)
		if errA != nil || errB != nil || len(a) != 16 || len(b) != 16 || name == "" || seen[key] {
			t.Errorf("line %q is malformed or stands there twice", line)
		}
		seen[key] = true
	}
}

func FuzzPKCS7(f *testing.F) {
	f.Add([]byte{0x30, 0x0b, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2})
	f.Add([]byte("0\x80\x06\t*\x86H\x86\xf7\r\x01\x07\x02\xa0\x800\x80\x02\x01\x011\x000\x80\x00\x00\xa0\x80" + "0\x03\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add(bytes.Repeat([]byte{0x30, 0x80}, 40))
	f.Add([]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		e, rest, err := readBER(data)
		if err != nil {
			return
		}
		if len(e.raw)+len(rest) != len(data) || e.size != len(e.raw) || len(e.body) > len(e.raw) {
			t.Fatalf("%d bytes became %d and %d, size %d", len(data), len(e.raw), len(rest), e.size)
		}
		shapeOf(e)
		b, err := readPKCS7(e, 4)
		if err != nil {
			return
		}
		if len(b.certificates)+b.others > 5 {
			t.Fatalf("%d certificates, where one more than 4 is enough", len(b.certificates)+b.others)
		}
		for _, c := range b.certificates {
			if !bytes.Contains(data, c) || c[0] != tagSequence {
				t.Fatal("a certificate that is not in the data")
			}
		}
	})
}
