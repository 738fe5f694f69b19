package verify_test

import (
	"crypto/x509"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

// hygieneCase is a client that fails one check of hygiene and no other.
type hygieneCase struct {
	name   string
	check  string
	reason termination.Reason
	anchor *tlstest.Cert
	client *tlstest.Cert
	whole  bool // crypto/x509 has no opinion on it
	chain  bool // only a chain can fail it, no pin
}

func hygieneCases() []hygieneCase {
	named := tlstest.DNS("a.example.com")
	ca, rsaCA, weak := tlstest.NewCA(), tlstest.NewCA(tlstest.RSA(2048)), tlstest.NewCA(tlstest.RSA(1024))
	use, limit := termination.ReasonCertUse, termination.ReasonCertNameLimits
	server := tlstest.EKU(x509.ExtKeyUsageServerAuth)
	permitted := tlstest.PermitDNS("example.org")
	return []hygieneCase{
		{"a short key", "weak_key", termination.ReasonCertWeak, ca, ca.Client("a", named, tlstest.RSA(1024)), true, false},
		{"a short key of the CA", "weak_key", termination.ReasonCertWeak, weak, weak.Client("a", named), true, true},
		{"SHA-1 on the leaf", "weak_signature", termination.ReasonCertWeak, rsaCA, rsaCA.Client("a", named, tlstest.SHA1RSA()), false, true},
		{"SHA-1 with ECDSA", "weak_signature", termination.ReasonCertWeak, ca, ca.Client("a", named, tlstest.SHA1ECDSA()), false, true},
		{"SHA-1 on a CA", "weak_signature", termination.ReasonCertWeak, rsaCA, rsaCA.Intermediate(tlstest.SHA1RSA()).Client("a", named), false, true},
		{"for servers", "usage", use, ca, ca.Client("a", named, server), false, false},
		{"below a CA for servers", "usage", use, ca, ca.Intermediate(server).Client("a", named), false, true},
		{"no digitalSignature", "key_usage", use, ca, ca.Client("a", named, tlstest.NoDigitalSignature()), true, false},
		{"a CA", "ca_leaf", use, ca, ca.Client("a", named, tlstest.CATrue()), true, true},
		{"a name that is not permitted", "name_constraints", limit, ca, ca.Intermediate(permitted).Client("a", named), false, true},
		{"no extended key usage", "missing_usage", use, ca, ca.Client("a", named, tlstest.NoEKU()), true, false},
		{"no alternative name", "missing_san", limit, ca, ca.Client("a"), true, false},
	}
}

func levelled(check string, level termination.Level) termination.Hygiene {
	var h termination.Hygiene
	for _, c := range h.Checks() {
		if c.Key == check {
			*c.Level = level
		}
	}
	return h
}

// judgeLevel judges a case under one level, by chain or as a pin.
func judgeLevel(t *testing.T, c hygieneCase, h termination.Hygiene, pin bool) verify.Judgement {
	t.Helper()
	cfg := config(authority("devices", c.anchor))
	auth := termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}, Hygiene: h}
	if pin {
		auth.Authorities, auth.Pins = nil, []termination.Pin{{Fingerprint: termination.FingerprintOf(c.client.X509)}}
	}
	p := compile(t, cfg, auth)
	first := p.Judge(verify.Showing(c.client.Chain()...), time.Now())
	again := p.Judge(verify.Showing(c.client.Chain()...), time.Now())
	if first.Verified != again.Verified || len(first.Checks) != len(again.Checks) {
		t.Errorf("from the cache %v with %d checks, before %v with %d", again.Verified, len(again.Checks), first.Verified, len(first.Checks))
	}
	return first
}

func TestHygieneLevels(t *testing.T) {
	for _, c := range hygieneCases() {
		for _, pin := range []bool{false, true} {
			if pin && c.chain {
				continue
			}
			for _, level := range []termination.Level{"", termination.LevelRefuse, termination.LevelWarn, termination.LevelOff, "nonsense"} {
				h := levelled(c.check, level)
				effective := level
				for _, check := range new(termination.Hygiene).Checks() {
					if check.Key == c.check && (level == "" || level == "nonsense") {
						effective = check.Default
					}
				}
				j := judgeLevel(t, c, h, pin)
				failed, noted := 0, 0
				for _, check := range j.Checks {
					switch {
					case check.Note:
						noted++
					default:
						failed++
					}
				}
				want := map[termination.Level][3]bool{ // let in, something failed, something is noted
					termination.LevelRefuse: {false, true, false}, termination.LevelWarn: {true, false, true}, termination.LevelOff: {true, false, false},
				}[effective]
				if got := [3]bool{j.Verified, failed > 0, noted > 0}; got != want || !j.Verified && j.Reason != c.reason || j.In != j.Verified {
					t.Errorf("%s, pin %v, %s: %q: verified %v for %q, %d failed, %d noted%s", c.name, pin, c.check, level, j.Verified, j.Reason, failed, noted, details(j.Checks))
				}
			}
		}
	}
}

// What one level lets pass, no other does, and nothing that is no hygiene is ever let pass.
func TestLoweredHygieneLowersNothingElse(t *testing.T) {
	var off termination.Hygiene
	for _, c := range off.Checks() {
		*c.Level = termination.LevelOff
	}
	for _, c := range hygieneCases() {
		if c.check == "missing_usage" || c.check == "missing_san" {
			continue // noted by default
		}
		others := off
		for _, check := range others.Checks() {
			if check.Key == c.check {
				*check.Level = termination.LevelRefuse
			}
		}
		if j := judgeLevel(t, c, others, false); j.In {
			t.Errorf("%s: let in although %s says refuse", c.name, c.check)
		}
	}
	rsaCA := tlstest.NewCA(tlstest.RSA(2048))
	sha1 := tlstest.SHA1RSA()
	for _, tt := range []struct {
		name   string
		client *tlstest.Cert
		want   termination.Reason
	}{
		{"expired", rsaCA.Client("a", sha1, tlstest.Expired()), termination.ReasonCertExpired},
		{"early", rsaCA.Client("a", sha1, tlstest.NotYetValid()), termination.ReasonCertEarly},
		{"CA expired", rsaCA.Intermediate(sha1, tlstest.Expired()).Client("a"), termination.ReasonCAExpired},
		{"another CA", tlstest.NewCA(tlstest.RSA(2048)).Client("a", sha1), termination.ReasonCAUnknown},
		{"an impostor", rsaCA.Impostor().Client("a"), termination.ReasonCAUnknown},
		{"self-signed", tlstest.SelfSigned(), termination.ReasonCertSelf},
		{"no CA", rsaCA.Client("parent", sha1).Client("a"), termination.ReasonIssuerNotCA},
		{"CA:FALSE", rsaCA.Intermediate(sha1, tlstest.CAFalse()).Client("a"), termination.ReasonIssuerNotCA},
		{"no keyCertSign", rsaCA.Intermediate(sha1, tlstest.KeyUsage(x509.KeyUsageDigitalSignature)).Client("a"), termination.ReasonIssuerNotCA},
		{"too deep", rsaCA.Intermediate(sha1).Intermediates(3).Client("a"), termination.ReasonChainTooDeep},
		{"path length", rsaCA.Intermediate(sha1, tlstest.MaxPathLen(0)).Intermediate().Client("a"), termination.ReasonChainTooDeep},
		{"critical extension", rsaCA.Client("a", sha1, tlstest.UnknownCritical()), termination.ReasonCertExtension},
	} {
		c := hygieneCase{anchor: rsaCA, client: tt.client}
		if j := judgeLevel(t, c, off, false); j.In || j.Reason != tt.want {
			t.Errorf("%s: in %v for %q, want %q%s", tt.name, j.In, j.Reason, tt.want, details(j.Checks))
		}
	}
}

// MD5 proves nothing at all, so that no level lets it pass.
func TestForgedByMD5(t *testing.T) {
	ca := tlstest.NewCA(tlstest.RSA(2048))
	var off termination.Hygiene
	for _, c := range off.Checks() {
		*c.Level = termination.LevelOff
	}
	forged := *ca.Client("a").X509
	forged.SignatureAlgorithm = x509.MD5WithRSA
	j := compile(t, config(authority("devices", ca)), termination.ClientAuth{
		Mode: termination.ModeRequire, Authorities: []string{"devices"}, Hygiene: off,
	}).Judge(verify.Showing(&forged), time.Now())
	if j.In || j.Reason != termination.ReasonCertWeak {
		t.Errorf("in %v for %q%s", j.In, j.Reason, details(j.Checks))
	}
}
