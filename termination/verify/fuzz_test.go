package verify_test

import (
	"crypto/x509"
	"encoding/binary"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

// join puts certificates into one fuzz input, each behind its length.
func join(certs ...*x509.Certificate) []byte {
	var b []byte
	for _, c := range certs {
		b = binary.BigEndian.AppendUint32(b, uint32(len(c.Raw)))
		b = append(b, c.Raw...)
	}
	return b
}

// split parses what still is a certificate.
func split(b []byte) []*x509.Certificate {
	var certs []*x509.Certificate
	for len(b) >= 4 && len(certs) < 20 {
		n := min(int(binary.BigEndian.Uint32(b)), len(b)-4)
		if c, err := x509.ParseCertificate(b[4 : 4+n]); err == nil {
			certs = append(certs, c)
		}
		b = b[4+n:]
	}
	return certs
}

// FuzzJudge presents whatever parses as certificates. Nobody may come in but by a chain or a pin, nothing may panic, and
// the explanation keeps its form.
func FuzzJudge(f *testing.F) {
	w := newWorld(f)
	var seeds []*x509.Certificate
	for _, c := range []*tlstest.Cert{
		client(w.issuing), client(w.stranger), client(w.impostor), client(w.issuing, tlstest.V1()), w.pinned, w.badge, w.root,
		client(w.issuing, tlstest.RSA(1024)), client(tlstest.NewCA(), tlstest.SHA1ECDSA()), client(w.issuing, tlstest.Ed25519()),
		client(w.issuing, tlstest.UnknownCritical()), client(w.issuing, tlstest.DNS("", "*", "a..b"), tlstest.CN("")),
		client(intermediate(w.root, "Limited", "Acme", tlstest.PermitDNS("example.com"), tlstest.MaxPathLen(0)), tlstest.DNS("x.example.org")),
	} {
		f.Add(join(c.Chain()...), int64(0))
		seeds = append(seeds, c.X509)
	}
	f.Add(join(client(ca("", "", tlstest.RawSubject(spelled(12, "ACME", "Acme  Root R1")), tlstest.WithKey(w.root.Key))).Chain()...), int64(0))
	f.Add(join(client(intermediate(w.root, "Limited", "Acme", directorySubtree(0, true, "Acme"))).Chain()...), int64(0))
	f.Add(join(seeds...), int64(-1<<40))
	f.Add([]byte{0, 0, 0, 1, 0x30}, int64(1<<40))
	policies := map[string]*verify.Policy{}
	for _, e := range w.cfg.Endpoints {
		policies[e.Name] = compile(f, w.cfg, e.ClientAuth)
	}
	roots := w.root.Pool()
	f.Fuzz(func(t *testing.T, data []byte, seconds int64) {
		presented := split(data)
		now := noon.Add(time.Duration(seconds%(1<<32)) * time.Second)
		for _, name := range []string{"payments", "kiosks", "badges", "shop"} {
			p := policies[name]
			j := p.Judge(verify.Client{Presented: presented}, now)
			if again := p.Judge(verify.Client{Presented: presented}, now); again.In != j.In || again.Verified != j.Verified || again.Reason != j.Reason {
				t.Fatalf("%s: judged twice: %+v and %+v", name, j, again)
			}
			if j.Verified && (j.Reason != "" || len(presented) == 0) {
				t.Fatalf("%s: %+v", name, j)
			}
			if !j.In && j.Reason == "" {
				t.Fatalf("%s: refused without a reason", name)
			}
			if j.Verified && j.Pin == "" {
				between := x509.NewCertPool()
				for _, c := range presented[1:] {
					between.AddCert(c)
				}
				if _, err := presented[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil && !beyondCryptoX509(j.Path) {
					t.Fatalf("%s let in what crypto/x509 refuses: %v", name, err)
				}
			}
			h := w.handshake(name, termination.OutcomeRefused, j.Reason)
			h.Presented, h.Path, h.Verdict.Checks = presented, j.Path, j.Checks
			w.search.Explain(h, now)
			w.seen.Note(h)
			if verify.SeenCount(w.seen) > 256 {
				t.Fatal("what is remembered has no bound")
			}
			if j.Reason != "" && (h.Verdict.Explanation.Sentence == "" || len(h.Verdict.Explanation.Fixes) == 0) {
				t.Fatalf("%s: no explanation for %q", name, j.Reason)
			}
		}
	})
}

// FuzzExplain gives the explanations hostile text in the places where a peer can put it.
func FuzzExplain(f *testing.F) {
	w := newWorld(f)
	f.Add("cert_missing", "payments", "payments.example.com", "h2", "tls: bad record MAC", uint16(0x0303), uint8(42), false)
	f.Add("name_unknown", "", "\x00\u202e..", "\xff", "x", uint16(0x0a0a), uint8(255), true)
	f.Add("no_such_reason", "shop", "*.example.com", "", "", uint16(0), uint8(0), true)
	f.Fuzz(func(t *testing.T, reason, endpoint, serverName, alpn, problem string, number uint16, alert uint8, sent bool) {
		h := w.handshake(endpoint, termination.OutcomeRefused, termination.Reason(reason))
		h.Endpoint = endpoint
		h.Error = problem
		h.Client.Name = alpn
		h.Alert = &termination.Alert{Number: alert, Name: problem, Sent: sent, Plaintext: !sent}
		h.Upstream = &termination.UpstreamResult{Address: problem, Error: serverName}
		h.Hello = &termination.ClientHello{
			ServerName: serverName, ALPN: []string{alpn, problem}, Versions: []uint16{number}, CipherSuites: []uint16{number}, Groups: []uint16{number},
		}
		w.search.Explain(h, noon)
		ex := h.Verdict.Explanation
		if reason != "" && ex.Sentence == "" {
			t.Fatal("no sentence")
		}
		for _, s := range append([]string{ex.Sentence, ex.Right, ex.ClientTo}, texts(ex.Fixes)...) {
			for _, r := range s {
				if r < ' ' || r == 0x7f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
					t.Fatalf("raw control characters in %q", s)
				}
			}
		}
		for _, fix := range ex.Fixes {
			for _, r := range fix.Command {
				if r != '\n' && (r < ' ' || r > '~') {
					t.Fatalf("command %q", fix.Command)
				}
			}
		}
	})
}

func texts(fixes []termination.Fix) []string {
	var out []string
	for _, f := range fixes {
		out = append(out, f.Text, f.Action)
	}
	return out
}

// beyondCryptoX509 reports whether our own search may let a chain pass that crypto/x509 refuses: a name is spelled in
// two ways, or directory names are limited.
func beyondCryptoX509(path []*x509.Certificate) bool {
	for i, c := range path {
		for _, id := range c.UnhandledCriticalExtensions {
			if id.String() == "2.5.29.30" {
				return true
			}
		}
		if i > 0 && string(path[i-1].RawIssuer) != string(c.RawSubject) {
			return true
		}
	}
	return false
}
