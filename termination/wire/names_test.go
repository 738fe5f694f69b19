package wire

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	for want, got := range map[string]string{
		"TLS 1.3":                           VersionName(0x0304),
		"TLS 1.0":                           VersionName(0x0301),
		"SSL 3.0":                           VersionName(0x0300),
		"SSL 2.0":                           VersionName(0x0002),
		"0x0305":                            VersionName(0x0305),
		"GREASE (0x7a7a)":                   VersionName(0x7a7a),
		"TLS_AES_128_GCM_SHA256":            CipherSuiteName(0x1301),
		"TLS_EMPTY_RENEGOTIATION_INFO_SCSV": CipherSuiteName(0x00ff),
		"TLS_FALLBACK_SCSV":                 CipherSuiteName(0x5600),
		"TLS_DHE_RSA_WITH_AES_256_CCM_8":    CipherSuiteName(0xc0a3),
		"GREASE (0x0a0a)":                   CipherSuiteName(0x0a0a),
		"0xfeff":                            CipherSuiteName(0xfeff),
		"X25519MLKEM768":                    GroupName(4588),
		"x25519":                            GroupName(29),
		"secp256r1":                         GroupName(23),
		"sect163k1":                         GroupName(1),
		"secp256k1":                         GroupName(22),
		"ffdhe2048":                         GroupName(256),
		"0x0000":                            GroupName(0),
		"rsa_pss_rsae_sha256":               SignatureSchemeName(0x0804),
		"ecdsa_secp256r1_sha256":            SignatureSchemeName(0x0403),
		"dsa_sha256":                        SignatureSchemeName(0x0402),
		"ecdsa_sha224":                      SignatureSchemeName(0x0303),
		"rsa_pkcs1_md5":                     SignatureSchemeName(0x0101),
		"0x0700":                            SignatureSchemeName(0x0700),
		"0x0100":                            SignatureSchemeName(0x0100),
		"server_name":                       ExtensionName(0),
		"encrypted_client_hello":            ExtensionName(0xfe0d),
		"application_settings":              ExtensionName(17613),
		"0x1234":                            ExtensionName(0x1234),
		"unknown_ca":                        AlertName(48),
		"certificate_required":              AlertName(116),
		"unrecognized_name":                 Alert{2, 112}.String(),
		"alert 250":                         AlertName(250),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// The names agree with crypto/tls for all that it knows.
func TestNamesAgreeWithGo(t *testing.T) {
	for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if got := CipherSuiteName(s.ID); got != s.Name {
			t.Errorf("%#04x: got %s, want %s", s.ID, got, s.Name)
		}
	}
	for _, v := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
		if got := VersionName(v); got != tls.VersionName(v) {
			t.Errorf("got %s, want %s", got, tls.VersionName(v))
		}
	}
	for c, name := range map[tls.CurveID]string{
		tls.CurveP256: "secp256r1", tls.CurveP384: "secp384r1", tls.CurveP521: "secp521r1",
		tls.X25519: "x25519", tls.X25519MLKEM768: "X25519MLKEM768", tls.SecP256r1MLKEM768: "SecP256r1MLKEM768", tls.SecP384r1MLKEM1024: "SecP384r1MLKEM1024",
	} {
		if got := GroupName(uint16(c)); got != name {
			t.Errorf("got %s, want %s", got, name)
		}
		if hybrid := strings.Contains(name, "MLKEM"); IsPostQuantum(uint16(c)) != hybrid {
			t.Errorf("%s: post-quantum %v", name, !hybrid)
		}
	}
}

func TestCipherSuitesAreSorted(t *testing.T) {
	if !slices.IsSortedFunc(cipherSuites[:], func(a, b cipherSuite) int { return int(a.id) - int(b.id) }) {
		t.Error("the table is searched by halves, so it must be sorted")
	}
	names := make(map[string]uint16)
	for _, s := range cipherSuites {
		if other, twice := names[s.name]; twice {
			t.Errorf("%s stands for %#04x and %#04x", s.name, other, s.id)
		}
		names[s.name] = s.id
	}
}

func TestGREASE(t *testing.T) {
	var all []uint16
	for v := range 1 << 16 {
		if IsGREASE(uint16(v)) {
			all = append(all, uint16(v))
		}
	}
	// RFC 8701 section 2.
	want := []uint16{
		0x0a0a, 0x1a1a, 0x2a2a, 0x3a3a, 0x4a4a, 0x5a5a, 0x6a6a, 0x7a7a,
		0x8a8a, 0x9a9a, 0xaaaa, 0xbaba, 0xcaca, 0xdada, 0xeaea, 0xfafa,
	}
	if !slices.Equal(all, want) {
		t.Errorf("%x", all)
	}
}

// Every alert that crypto/tls sends has a name here.
func TestAlertNames(t *testing.T) {
	named := 0
	for d := range 256 {
		goName := tls.AlertError(d).Error()
		if strings.Contains(goName, "alert(") {
			continue
		}
		named++
		if name := AlertName(uint8(d)); strings.HasPrefix(name, "alert ") {
			t.Errorf("%d (%s) has no name", d, goName)
		}
	}
	if named < 25 {
		t.Errorf("crypto/tls names only %d alerts: this test has lost its way of asking", named)
	}
}

func TestAlertRecord(t *testing.T) {
	if got := AlertRecord(AlertUnrecognizedName); got != [7]byte{21, 3, 3, 0, 2, 2, 112} {
		t.Errorf("%x", got)
	}
	// A client understands it.
	conn := &scripted{}
	r := AlertRecord(AlertUnrecognizedName)
	conn.script.Reset(r[:])
	if err := tls.Client(conn, &tls.Config{ServerName: "a.example"}).Handshake(); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("crypto/tls: %v", err)
	}
}
