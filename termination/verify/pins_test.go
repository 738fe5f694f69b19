package verify_test

import (
	"crypto/x509"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

func TestPins(t *testing.T) {
	own := tlstest.SelfSigned()
	ca := tlstest.NewCA()
	issued := ca.Client("issued")
	now := time.Now()
	for _, tt := range []struct {
		name string
		pin  string
		leaf *tlstest.Cert
		want termination.Reason
	}{
		{"self-signed certificate", own.Fingerprint(), own, ""},
		{"key", "spki:" + own.SPKI(), own, ""},
		{"issued by nobody we know", issued.Fingerprint(), issued, ""},
		{"new certificate for a pinned key", "spki:" + issued.SPKI(), ca.Client("renewed", tlstest.WithKey(issued.Key)), ""},
		{"new certificate for the key of a pinned certificate", issued.Fingerprint(), ca.Client("renewed", tlstest.WithKey(issued.Key)), termination.ReasonNotListed},
		{"another certificate", own.Fingerprint(), issued, termination.ReasonNotListed},
		{"the key's hash as a certificate's", own.SPKI(), own, termination.ReasonNotListed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := pinning(t, tt.pin).Judge(verify.Client{Presented: tt.leaf.Chain()}, now)
			if j.Reason != tt.want || j.In != (tt.want == "") || j.Verified != j.In {
				t.Fatalf("in %v, reason %q, want %q%s", j.In, j.Reason, tt.want, details(j.Checks))
			}
			if j.In && (j.Pin != tt.pin || len(j.Path) != 0 || j.Authority != "") {
				t.Errorf("pin %q, path of %d, authority %q", j.Pin, len(j.Path), j.Authority)
			}
		})
	}
}

// A pin stands for the issuer, not for what the certificate says about itself.
func TestPinnedCertificateMustHoldByItself(t *testing.T) {
	for _, tt := range []struct {
		name string
		leaf *tlstest.Cert
		want termination.Reason
	}{
		{"CA:TRUE is no hindrance", tlstest.SelfSigned(tlstest.CATrue()), ""},
		{"expired", tlstest.SelfSigned(tlstest.Expired()), termination.ReasonCertExpired},
		{"not yet valid", tlstest.SelfSigned(tlstest.NotYetValid()), termination.ReasonCertEarly},
		{"for servers", tlstest.SelfSigned(tlstest.EKU(x509.ExtKeyUsageServerAuth)), termination.ReasonCertUse},
		{"short key", tlstest.SelfSigned(tlstest.RSA(1024)), termination.ReasonCertWeak},
		{"unknown critical extension", tlstest.SelfSigned(tlstest.UnknownCritical()), termination.ReasonCertExtension},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, pin := range []string{tt.leaf.Fingerprint(), "spki:" + tt.leaf.SPKI()} {
				if j := pinning(t, pin).Judge(verify.Client{Presented: tt.leaf.Chain()}, time.Now()); j.Reason != tt.want || j.In != (tt.want == "") {
					t.Errorf("in %v, reason %q, want %q%s", j.In, j.Reason, tt.want, details(j.Checks))
				}
			}
		})
	}
}

// The rest of the presented list is unproven: anybody can append a victim's public certificate.
func TestAppendedVictimDoesNotMatchPin(t *testing.T) {
	victim := tlstest.SelfSigned(tlstest.CN("victim"))
	attacker := tlstest.SelfSigned(tlstest.CN("attacker"))
	for _, mode := range []termination.Mode{termination.ModeRequest, termination.ModeRequireAny, termination.ModeOptional, termination.ModeRequire} {
		for _, s := range []string{victim.Fingerprint(), "spki:" + victim.SPKI()} {
			pin, err := termination.ParsePin(s)
			if err != nil {
				t.Fatal(err)
			}
			p := compile(t, config(), termination.ClientAuth{Mode: mode, Pins: []termination.Pin{pin}})
			j := p.Judge(verify.Client{Presented: []*x509.Certificate{attacker.X509, victim.X509}}, time.Now())
			if j.Verified || j.In == mode.Verifies() || j.Pin != "" || j.Reason != termination.ReasonNotListed {
				t.Errorf("%s: %+v", mode, j)
			}
		}
	}
}

// A self-signed client certificate as openssl makes it says CA:TRUE. Pinned, it must not let in what its key signs.
func TestPinnedCAMintsNoChild(t *testing.T) {
	pinned := tlstest.SelfSigned(tlstest.CATrue())
	child := pinned.Client("child")
	ca := tlstest.NewCA()
	auth := termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}}
	for _, s := range []string{pinned.Fingerprint(), "spki:" + pinned.SPKI()} {
		pin, err := termination.ParsePin(s)
		if err != nil {
			t.Fatal(err)
		}
		auth.Pins = append(auth.Pins, pin)
	}
	p := compile(t, config(authority("devices", ca)), auth)
	if j := p.Judge(verify.Client{Presented: pinned.Chain()}, time.Now()); !j.Verified {
		t.Fatalf("the pinned certificate itself is out%s", details(j.Checks))
	}
	for _, presented := range [][]*x509.Certificate{{child.X509}, {child.X509, pinned.X509}} {
		if j := p.Judge(verify.Client{Presented: presented}, time.Now()); j.In || j.Verified {
			t.Errorf("a child of a pinned certificate was let in%s", details(j.Checks))
		}
	}
	for _, pool := range []*x509.CertPool{p.Pool(), p.Announced()} {
		with := pool.Clone()
		with.AddCert(pinned.X509)
		if pool.Equal(with) {
			t.Errorf("the pinned certificate is in a pool of issuers")
		}
	}
}
