package verify_test

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

// authority makes an authority of one anchor and any helpers.
func authority(name string, anchor *tlstest.Cert, helpers ...*tlstest.Cert) termination.Authority {
	a := termination.Authority{Name: name, Certificates: []termination.CACertificate{
		{Certificate: anchor.X509, Role: termination.RoleAnchor},
	}}
	for _, h := range helpers {
		a.Certificates = append(a.Certificates, termination.CACertificate{Certificate: h.X509, Role: termination.RoleHelper})
	}
	return a
}

func config(authorities ...termination.Authority) *termination.Config {
	return &termination.Config{Authorities: authorities, Limits: termination.DefaultLimits()}
}

// trusting compiles a policy of this mode that trusts one CA.
func trusting(t testing.TB, mode termination.Mode, anchor *tlstest.Cert, helpers ...*tlstest.Cert) *verify.Policy {
	t.Helper()
	return compile(t, config(authority("devices", anchor, helpers...)), termination.ClientAuth{Mode: mode, Authorities: []string{"devices"}})
}

func pinning(t testing.TB, pins ...string) *verify.Policy {
	t.Helper()
	auth := termination.ClientAuth{Mode: termination.ModeRequire}
	for _, s := range pins {
		pin, err := termination.ParsePin(s)
		if err != nil {
			t.Fatalf("parse pin: %v", err)
		}
		auth.Pins = append(auth.Pins, pin)
	}
	return compile(t, config(), auth)
}

func compile(t testing.TB, cfg *termination.Config, auth termination.ClientAuth) *verify.Policy {
	t.Helper()
	p, err := verify.Compile(cfg, auth, verify.Scope{})
	if err != nil {
		t.Fatalf("compile: %v", err)
	}
	return p
}

func details(checks []termination.Check) string {
	var b strings.Builder
	for _, c := range checks {
		kind := "fail"
		if c.Note {
			kind = "note"
		}
		fmt.Fprintf(&b, "\n  %s %s [%d] %s", kind, c.Reason, c.Certificate, c.Detail)
	}
	return b.String()
}

func failed(checks []termination.Check, r termination.Reason) bool {
	for _, c := range checks {
		if c.Reason == r && !c.Note {
			return true
		}
	}
	return false
}

func noted(checks []termination.Check, r termination.Reason) bool {
	for _, c := range checks {
		if c.Reason == r && c.Note {
			return true
		}
	}
	return false
}

// TestModes is the table of the five modes: without a certificate, with one that passes, with one that fails.
func TestModes(t *testing.T) {
	ca, stranger := tlstest.NewCA(), tlstest.NewCA()
	good, bad := ca.Client("good").Chain(), stranger.Client("bad").Chain()
	now := time.Now()
	type want struct {
		in, verified bool
		reason       termination.Reason
	}
	for _, tt := range []struct {
		mode                   termination.Mode
		without, passing, fail want
	}{
		{termination.ModeOff, want{in: true}, want{in: true}, want{in: true}},
		{termination.ModeRequest, want{in: true}, want{in: true, verified: true}, want{in: true, reason: termination.ReasonCAUnknown}},
		{termination.ModeRequireAny, want{reason: termination.ReasonCertMissing}, want{in: true, verified: true}, want{in: true, reason: termination.ReasonCAUnknown}},
		{termination.ModeOptional, want{in: true}, want{in: true, verified: true}, want{reason: termination.ReasonCAUnknown}},
		{termination.ModeRequire, want{reason: termination.ReasonCertMissing}, want{in: true, verified: true}, want{reason: termination.ReasonCAUnknown}},
	} {
		p := trusting(t, tt.mode, ca)
		for _, c := range []struct {
			name      string
			presented []*x509.Certificate
			want      want
		}{{"without", nil, tt.without}, {"passing", good, tt.passing}, {"failing", bad, tt.fail}} {
			t.Run(string(tt.mode)+"/"+c.name, func(t *testing.T) {
				j := p.Judge(verify.Client{Presented: c.presented}, now)
				if got := (want{j.In, j.Verified, j.Reason}); got != c.want {
					t.Errorf("got %+v, want %+v%s", got, c.want, details(j.Checks))
				}
			})
		}
	}
}

func TestJudgeNamesAuthorityAndPath(t *testing.T) {
	ca := tlstest.NewCA()
	inter := ca.Intermediate()
	alice := inter.Client("alice")
	j := trusting(t, termination.ModeRequire, ca).Judge(verify.Client{Presented: alice.Chain()}, time.Now())
	if !j.Verified || j.Authority != "devices" || j.Pin != "" {
		t.Fatalf("got %+v", j)
	}
	if len(j.Path) != 3 || !j.Path[0].Equal(alice.X509) || !j.Path[1].Equal(inter.X509) || !j.Path[2].Equal(ca.X509) {
		t.Errorf("path has %d certificates: %v", len(j.Path), j.Path)
	}
}

func TestChecks(t *testing.T) {
	ca := tlstest.NewCA()
	weakCA := tlstest.NewCA(tlstest.RSA(1024))
	rsaCA := tlstest.NewCA(tlstest.RSA(2048))
	sha1CA := tlstest.NewCA(tlstest.RSA(2048), tlstest.SHA1RSA())
	now := time.Now()
	old := tlstest.Valid(now.Add(-48*time.Hour), now.Add(-time.Hour))
	for _, tt := range []struct {
		name   string
		anchor *tlstest.Cert
		leaf   *tlstest.Cert
		want   termination.Reason // empty: verified
	}{
		{"plain", ca, ca.Client("a"), ""},
		{"anchor that signed itself by SHA-1", sha1CA, sha1CA.Client("a"), ""},
		{"RSA 2048", rsaCA, rsaCA.Client("a", tlstest.RSA(2048)), ""},
		{"Ed25519", ca, ca.Client("a", tlstest.Ed25519()), ""},
		{"any extended key usage", ca, ca.Client("a", tlstest.AnyEKU()), ""},
		{"intermediate with any usage", ca, ca.Intermediate(tlstest.AnyEKU()).Client("a"), ""},
		{"intermediate for clients", ca, ca.Intermediate(tlstest.EKU(x509.ExtKeyUsageClientAuth)).Client("a"), ""},
		{"no key usage", ca, ca.Client("a", tlstest.KeyUsage(0)), ""},
		{"deepest allowed", ca, ca.Intermediates(3).Client("a"), ""},
		{"path length kept", ca, ca.Intermediate(tlstest.MaxPathLen(0)).Client("a"), ""},
		{"permitted name", ca, ca.Intermediate(tlstest.PermitDNS("example.com")).Client("a", tlstest.DNS("a.example.com")), ""},
		{"expired", ca, ca.Client("a", tlstest.Expired()), termination.ReasonCertExpired},
		{"not yet valid", ca, ca.Client("a", tlstest.NotYetValid()), termination.ReasonCertEarly},
		{"intermediate expired", ca, ca.Intermediate(old).Client("a"), termination.ReasonCAExpired},
		{"intermediate not yet valid", ca, ca.Intermediate(tlstest.NotYetValid()).Client("a"), termination.ReasonCertEarly},
		{"server usage", ca, ca.Client("a", tlstest.EKU(x509.ExtKeyUsageServerAuth)), termination.ReasonCertUse},
		{"server usage on intermediate", ca, ca.Intermediate(tlstest.EKU(x509.ExtKeyUsageServerAuth)).Client("a"), termination.ReasonCertUse},
		{"key usage without digitalSignature", ca, ca.Client("a", tlstest.NoDigitalSignature()), termination.ReasonCertUse},
		{"a CA as client", ca, ca.Client("a", tlstest.CATrue()), termination.ReasonCertUse},
		{"the anchor itself as client", ca, ca, termination.ReasonCertUse},
		{"RSA 1024", ca, ca.Client("a", tlstest.RSA(1024)), termination.ReasonCertWeak},
		{"RSA 1024 intermediate", ca, ca.Intermediate(tlstest.RSA(1024)).Client("a"), termination.ReasonCertWeak},
		{"RSA 1024 anchor", weakCA, weakCA.Client("a"), termination.ReasonCertWeak},
		{"SHA-1 with RSA", rsaCA, rsaCA.Client("a", tlstest.SHA1RSA()), termination.ReasonCertWeak},
		{"SHA-1 with ECDSA", ca, ca.Client("a", tlstest.SHA1ECDSA()), termination.ReasonCertWeak},
		{"SHA-1 intermediate", rsaCA, rsaCA.Intermediate(tlstest.SHA1RSA()).Client("a"), termination.ReasonCertWeak},
		{"issuer says CA:FALSE", ca, ca.Intermediate(tlstest.CAFalse()).Client("a"), termination.ReasonIssuerNotCA},
		{"issuer without basic constraints", ca, ca.Intermediate(tlstest.NoBasicConstraints()).Client("a"), termination.ReasonIssuerNotCA},
		{"issuer without keyCertSign", ca, ca.Intermediate(tlstest.KeyUsage(x509.KeyUsageDigitalSignature)).Client("a"), termination.ReasonIssuerNotCA},
		{"v1 issuer", ca, ca.Intermediate(tlstest.V1()).Client("a"), termination.ReasonIssuerNotCA},
		{"a leaf issued a leaf", ca, ca.Client("parent").Client("child"), termination.ReasonIssuerNotCA},
		{"too deep", ca, ca.Intermediates(4).Client("a"), termination.ReasonChainTooDeep},
		{"path length", ca, ca.Intermediate(tlstest.MaxPathLen(0)).Intermediate().Client("a"), termination.ReasonChainTooDeep},
		{"name not permitted", ca, ca.Intermediate(tlstest.PermitDNS("example.com")).Client("a", tlstest.DNS("a.example.org")), termination.ReasonCertNameLimits},
		{"name excluded", ca, ca.Intermediate(tlstest.ExcludeDNS("example.com")).Client("a", tlstest.DNS("a.example.com")), termination.ReasonCertNameLimits},
		{"unknown critical extension", ca, ca.Client("a", tlstest.UnknownCritical()), termination.ReasonCertExtension},
		{"unknown critical extension on intermediate", ca, ca.Intermediate(tlstest.UnknownCritical()).Client("a"), termination.ReasonCertExtension},
		{"self-signed", ca, tlstest.SelfSigned(), termination.ReasonCertSelf},
		{"unknown CA", ca, tlstest.NewCA().Client("a"), termination.ReasonCAUnknown},
		{"impostor of the CA", ca, ca.Impostor().Client("a"), termination.ReasonCAUnknown},
		{"equal names are no self-signature", ca, tlstest.NewCA(tlstest.CN("same"), tlstest.Org()).Client("same", tlstest.Org()), termination.ReasonCAUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := trusting(t, termination.ModeRequire, tt.anchor).Judge(verify.Client{Presented: tt.leaf.Chain()}, now)
			if j.Verified != (tt.want == "") || j.In != j.Verified || j.Reason != tt.want {
				t.Fatalf("verified %v, in %v, reason %q, want %q%s", j.Verified, j.In, j.Reason, tt.want, details(j.Checks))
			}
			if tt.want != "" && !failed(j.Checks, tt.want) {
				t.Errorf("no failed check says %q%s", tt.want, details(j.Checks))
			}
		})
	}
}

// Signatures that cannot be checked are refused, and what they claim is not taken for a chain.
func TestSignaturesThatCannotBeChecked(t *testing.T) {
	ca := tlstest.NewCA(tlstest.RSA(2048))
	for _, a := range []x509.SignatureAlgorithm{x509.MD5WithRSA, x509.UnknownSignatureAlgorithm} {
		leaf := *ca.Client("a").X509
		leaf.SignatureAlgorithm = a
		j := trusting(t, termination.ModeRequire, ca).Judge(verify.Client{Presented: []*x509.Certificate{&leaf}}, time.Now())
		if j.In || j.Reason != termination.ReasonCertWeak || len(j.Path) != 0 {
			t.Errorf("%v: in %v, reason %q, a path of %d%s", a, j.In, j.Reason, len(j.Path), details(j.Checks))
		}
	}
	leaf := *ca.Client("a").X509
	leaf.PublicKey, leaf.PublicKeyAlgorithm = nil, x509.UnknownPublicKeyAlgorithm
	if j := trusting(t, termination.ModeRequire, ca).Judge(verify.Client{Presented: []*x509.Certificate{&leaf}}, time.Now()); j.In || j.Reason != termination.ReasonCertWeak {
		t.Errorf("unknown key: in %v, reason %q%s", j.In, j.Reason, details(j.Checks))
	}
}

// The clock of the judgement decides, not that of the machine.
func TestAnotherClock(t *testing.T) {
	then := time.Date(2063, 4, 5, 12, 0, 0, 0, time.UTC)
	around := tlstest.Valid(then.Add(-time.Hour), then.Add(time.Hour))
	ca := tlstest.NewCA(around)
	p := trusting(t, termination.ModeRequire, ca)
	leaf := ca.Client("a", around).Chain()
	if j := p.Judge(verify.Client{Presented: leaf}, then); !j.In {
		t.Errorf("out at its time%s", details(j.Checks))
	}
	if j := p.Judge(verify.Client{Presented: leaf}, time.Now()); j.In {
		t.Error("in today")
	}
}

// A leaf with the name and the key of its CA makes a chain by signatures, which crypto/x509 does not follow.
func TestLeafWithTheKeyOfItsCA(t *testing.T) {
	ca := tlstest.NewCA()
	leaf := ca.Leaf(tlstest.RawSubject(ca.X509.RawSubject), tlstest.WithKey(ca.Key))
	j := trusting(t, termination.ModeRequire, ca).Judge(verify.Client{Presented: leaf.Chain()}, time.Now())
	if j.In || j.Reason != termination.ReasonCertSelf || !failed(j.Checks, j.Reason) {
		t.Errorf("in %v, reason %q%s", j.In, j.Reason, details(j.Checks))
	}
}

func TestAllProblemsAreRecorded(t *testing.T) {
	ca := tlstest.NewCA(tlstest.RSA(2048))
	now := time.Now()
	inter := ca.Intermediate(
		tlstest.RSA(1024), tlstest.PermitDNS("example.com"), tlstest.MaxPathLen(0),
		tlstest.EKU(x509.ExtKeyUsageServerAuth), tlstest.Valid(now.Add(-48*time.Hour), now.Add(-time.Hour)),
	)
	lower := inter.Intermediate(tlstest.CAFalse(), tlstest.UnknownCritical())
	leaf := lower.Client("a", tlstest.Expired(), tlstest.EKU(x509.ExtKeyUsageServerAuth), tlstest.DNS("a.example.org"))
	j := trusting(t, termination.ModeRequire, ca).Judge(verify.Client{Presented: leaf.Chain()}, now)
	if j.Verified || j.Reason != termination.ReasonCertExpired {
		t.Errorf("verified %v, reason %q", j.Verified, j.Reason)
	}
	for _, r := range []termination.Reason{
		termination.ReasonCertExpired, termination.ReasonCAExpired, termination.ReasonCertUse, termination.ReasonCertWeak,
		termination.ReasonIssuerNotCA, termination.ReasonCertExtension, termination.ReasonChainTooDeep, termination.ReasonCertNameLimits,
	} {
		if !failed(j.Checks, r) {
			t.Errorf("%q is missing from%s", r, details(j.Checks))
		}
	}
	for _, c := range j.Checks {
		if c.Reason == termination.ReasonCertUse && c.Certificate == 2 && strings.Contains(c.Detail, "serverAuth") {
			return
		}
	}
	t.Errorf("the intermediate whose usage blocks is not named in%s", details(j.Checks))
}

func TestNotes(t *testing.T) {
	ca := tlstest.NewCA()
	inter := ca.Intermediate()
	for _, tt := range []struct {
		name string
		leaf []*x509.Certificate
		want termination.Reason
	}{
		{"no extended key usage", ca.Client("a", tlstest.NoEKU()).Chain(), termination.ReasonCertUse},
		{"version 1", ca.Client("a", tlstest.V1()).Chain(), termination.ReasonCertUse},
		{"no subject alternative name", ca.Client("a").Chain(), termination.ReasonCertNameLimits},
		{"completed from our own", inter.Client("a").Chain()[:1], termination.ReasonChainGap},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := trusting(t, termination.ModeRequire, ca, inter)
			for _, state := range []string{"cold", "cached"} {
				j := p.Judge(verify.Client{Presented: tt.leaf}, time.Now())
				if !j.In || !j.Verified || j.Reason != "" || !noted(j.Checks, tt.want) {
					t.Errorf("%s: in %v, reason %q, want a note %q%s", state, j.In, j.Reason, tt.want, details(j.Checks))
				}
			}
		})
	}
}

func TestMissingIntermediateFails(t *testing.T) {
	ca := tlstest.NewCA()
	j := trusting(t, termination.ModeRequire, ca).Judge(verify.Client{Presented: ca.Intermediate().Client("a").Chain()[:1]}, time.Now())
	if j.In || j.Reason != termination.ReasonCAUnknown {
		t.Errorf("in %v, reason %q%s", j.In, j.Reason, details(j.Checks))
	}
}

// A helper completes chains; a chain must not end there.
func TestHelperIsNoAnchor(t *testing.T) {
	ca, foreign := tlstest.NewCA(), tlstest.NewCA()
	helper := foreign.Intermediate()
	p := trusting(t, termination.ModeRequire, ca, helper)
	if j := p.Judge(verify.Client{Presented: helper.Client("a").Chain()}, time.Now()); j.In {
		t.Errorf("a chain that ends at a helper was let in%s", details(j.Checks))
	}
}

func TestIntermediateAsAnchor(t *testing.T) {
	inter := tlstest.NewCA().Intermediate()
	j := trusting(t, termination.ModeRequire, inter).Judge(verify.Client{Presented: inter.Client("a").Chain()}, time.Now())
	if !j.Verified || len(j.Path) != 2 {
		t.Errorf("verified %v with a path of %d%s", j.Verified, len(j.Path), details(j.Checks))
	}
}

// Validity includes both its ends, to the second.
func TestDatesToTheSecond(t *testing.T) {
	ca := tlstest.NewCA()
	from := time.Now().Truncate(time.Second).Add(-time.Hour)
	until := from.Add(2 * time.Hour)
	leaf := ca.Client("a", tlstest.Valid(from, until)).Chain()
	for _, tt := range []struct {
		name string
		now  time.Time
		want termination.Reason
	}{
		{"one second early", from.Add(-time.Second), termination.ReasonCertEarly},
		{"one nanosecond early", from.Add(-1), termination.ReasonCertEarly},
		{"first instant", from, ""},
		{"last second", until.Add(-time.Second), ""},
		{"last instant", until, ""},
		{"one nanosecond late", until.Add(1), termination.ReasonCertExpired},
		{"one second late", until.Add(time.Second), termination.ReasonCertExpired},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := trusting(t, termination.ModeRequire, ca).Judge(verify.Client{Presented: leaf}, tt.now)
			if j.Reason != tt.want || j.In != (tt.want == "") {
				t.Errorf("in %v, reason %q, want %q", j.In, j.Reason, tt.want)
			}
			if tt.want == termination.ReasonCertExpired && !strings.Contains(details(j.Checks), until.UTC().Format("15:04:05")) {
				t.Errorf("the exact second is missing from%s", details(j.Checks))
			}
		})
	}
}

// A remembered chain must not outlive the date of any of its certificates, nor come to life before one.
func TestCacheKeepsDates(t *testing.T) {
	start := time.Now().Truncate(time.Second)
	ca := tlstest.NewCA(tlstest.Valid(start.Add(-time.Hour), start.Add(3*time.Hour)))
	inter := ca.Intermediate(tlstest.Valid(start.Add(-time.Minute), start.Add(time.Hour)))
	leaf := inter.Client("a", tlstest.Valid(start.Add(-time.Hour), start.Add(2*time.Hour))).Chain()
	p := trusting(t, termination.ModeRequire, ca)
	for _, tt := range []struct {
		after time.Duration
		want  termination.Reason
	}{
		{0, ""},
		{time.Hour, ""},
		{time.Hour + 1, termination.ReasonCAExpired},
		{2*time.Hour + 1, termination.ReasonCertExpired},
		{-time.Minute, ""},
		{-time.Minute - 1, termination.ReasonCertEarly},
		{30 * time.Minute, ""},
	} {
		if j := p.Judge(verify.Client{Presented: leaf}, start.Add(tt.after)); j.Reason != tt.want || j.In != (tt.want == "") {
			t.Errorf("after %v: in %v, reason %q, want %q", tt.after, j.In, j.Reason, tt.want)
		}
	}
}

// What is remembered for a list must not answer for another that begins alike.
func TestCacheTellsListsApart(t *testing.T) {
	ca := tlstest.NewCA()
	inter := ca.Intermediate()
	alice := inter.Client("alice")
	p := trusting(t, termination.ModeRequire, ca)
	if j := p.Judge(verify.Client{Presented: alice.Chain()}, time.Now()); !j.In {
		t.Fatalf("alice is out%s", details(j.Checks))
	}
	if j := p.Judge(verify.Client{Presented: alice.Chain()[:1]}, time.Now()); j.In {
		t.Errorf("alice is in without her intermediate, which is known to nobody")
	}
	mallory := tlstest.NewCA().Client("mallory")
	if j := p.Judge(verify.Client{Presented: append(mallory.Chain(), alice.Chain()...)}, time.Now()); j.In {
		t.Errorf("mallory is in behind alice's certificates")
	}
}

// One policy serves all connections of its endpoint at once.
func TestJudgeConcurrently(t *testing.T) {
	ca := tlstest.NewCA()
	p := trusting(t, termination.ModeRequire, ca)
	now := time.Now()
	var wg sync.WaitGroup
	for range 8 {
		good, bad := ca.Client("good").Chain(), tlstest.NewCA().Client("bad").Chain()
		wg.Go(func() {
			for range 50 {
				if j := p.Judge(verify.Client{Presented: good}, now); !j.In || j.Path[0] != good[0] {
					t.Errorf("good: %+v", j)
				}
				if j := p.Judge(verify.Client{Presented: bad}, now); j.In {
					t.Errorf("bad: %+v", j)
				}
			}
		})
	}
	wg.Wait()
}

// With a nil pool crypto/x509 asks the system. So the test makes our root the system's, and expects that it helps nobody.
func TestSystemRootsAreNeverAsked(t *testing.T) {
	system := tlstest.NewCA()
	file := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(file, system.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", file)
	t.Setenv("SSL_CERT_DIR", t.TempDir())
	leaf := system.Client("a")
	if _, err := leaf.X509.Verify(x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Fatalf("the trap does not work, a nil pool refuses too: %v", err)
	}
	other := tlstest.NewCA()
	for _, p := range []*verify.Policy{
		trusting(t, termination.ModeRequire, other),
		pinning(t, other.Fingerprint()),
		compile(t, config(), termination.ClientAuth{Mode: termination.ModeRequest, Announce: true}),
		compile(t, config(), termination.ClientAuth{Mode: termination.ModeRequireAny, Announce: true}),
		compile(t, config(), termination.ClientAuth{Mode: termination.ModeOff}),
	} {
		if p.Pool() == nil || p.Announced() == nil {
			t.Errorf("%s: a pool is nil", p.Mode())
		}
		if j := p.Judge(verify.Client{Presented: leaf.Chain()}, time.Now()); j.Verified {
			t.Errorf("%s: verified by the system's roots", p.Mode())
		}
	}
}

func TestPolicyThatIsNotThereLetsNobodyIn(t *testing.T) {
	ca := tlstest.NewCA()
	var none *verify.Policy
	for _, p := range []*verify.Policy{none, {}} {
		for _, presented := range [][]*x509.Certificate{nil, ca.Client("a").Chain()} {
			if j := p.Judge(verify.Client{Presented: presented}, time.Now()); j.In || j.Verified || j.Reason == "" {
				t.Errorf("%+v", j)
			}
		}
	}
}

func TestAnchorOfCrossSignedIntermediates(t *testing.T) {
	oldRoot, newRoot := tlstest.NewCA(tlstest.Expired()), tlstest.NewCA()
	inter := oldRoot.Intermediate()
	cross := newRoot.Reissue(inter)
	leaf := inter.Client("a")
	j := trusting(t, termination.ModeRequire, newRoot).Judge(verify.Client{Presented: []*x509.Certificate{leaf.X509, inter.X509, cross.X509}}, time.Now())
	if !j.Verified || !j.Path[1].Equal(cross.X509) {
		t.Errorf("verified %v%s", j.Verified, details(j.Checks))
	}
}
