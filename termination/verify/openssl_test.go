package verify_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

const (
	comparedChains = 600
	comparedSeed   = 20261127
)

// compared is one generated chain: what is trusted, what the client sends, and what was done to it.
type compared struct {
	number  int
	did     []string // the names of the changes
	anchors []*tlstest.Cert
	sent    []*x509.Certificate
}

func (c *compared) has(names ...string) bool {
	return slices.ContainsFunc(c.did, func(d string) bool { return slices.Contains(names, d) })
}

// TestAgreesWithOpenSSL compares our decisions about generated chains with those of openssl verify. Whatever differs
// must be one of the differences that are named here.
func TestAgreesWithOpenSSL(t *testing.T) {
	program := tlstest.Program(t, "openssl")
	g := newGenerator(t)
	dir := t.TempDir()
	var cases []*compared
	for n := range comparedChains {
		cases = append(cases, g.chain(n))
	}
	said := make([]string, len(cases))
	var wait sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i, c := range cases {
		wait.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; wait.Done() }()
			said[i] = askOpenSSL(t, program, dir, c)
		}()
	}
	wait.Wait()
	counts := map[string]int{}
	both, neither := 0, 0
	for i, c := range cases {
		j := g.judge(t, c)
		theirs := strings.HasSuffix(said[i], ": OK")
		switch {
		case j.Verified && theirs:
			both++
			continue
		case !j.Verified && !theirs:
			neither++
			continue
		}
		name := ""
		for _, d := range knownDifferences() {
			if d.ours == j.Verified && c.has(d.after...) && strings.Contains(said[i], d.says) && (d.ours || slices.ContainsFunc(j.Checks, func(k termination.Check) bool { return !k.Note && k.Reason == d.reason })) {
				name = d.name
				break
			}
		}
		if name == "" {
			t.Errorf("chain %d %v: ours %v %q, openssl: %s%s", c.number, c.did, j.Verified, j.Reason, said[i], details(j.Checks))
		}
		counts[name]++
	}
	if both < 100 || neither < 100 {
		t.Errorf("%d chains pass with both and %d with neither: that is too few to compare", both, neither)
	}
	for _, d := range knownDifferences() {
		if counts[d.name] == 0 {
			t.Errorf("no chain shows the difference %q any more", d.name)
		}
	}
	t.Logf("%d chains: %d pass with both, %d with neither; differences: %v", len(cases), both, neither, counts)
}

// difference is one in which we and openssl decide otherwise, and why that is meant.
type difference struct {
	name   string
	ours   bool               // we accept, openssl does not
	after  []string           // the changes that lead to it
	says   string             // what openssl says then
	reason termination.Reason // what we say then
}

func knownDifferences() []difference {
	return []difference{
		// RFC 5280, section 4.2.1.12: a certificate that may be used for anything may be used by clients. openssl wants
		// clientAuth by name.
		{name: "any usage", ours: true, after: []string{"leaf for any use", "CA for any use"}, says: "purpose"},
		// Which key signed is what counts; the key identifiers are hints for the search (RFC 5280, section 4.2.1.1). openssl
		// takes a CA whose identifier is another for another CA.
		{name: "key identifiers", ours: true, after: []string{"key identifier mismatch"}, says: "issuer certificate"},
		// openssl follows one way, of the first fitting name, and gives up where it ends; we try the others as well.
		{name: "one way only", ours: true, after: []string{"namesake anchor", "namesake sent", "renewed CA sent", "cross-signed"}, says: "error"},
		// With the name of its issuer, and without a key identifier, openssl takes a certificate for its own issuer, whatever
		// key signed it. That is what default answers to openssl req lead to; see TestRecipes.
		{name: "the name of its issuer", ours: true, after: []string{"v1 leaf with the name of its CA", "leaf with the name of its CA"}, says: "self-signed certificate"},
		// Both ends of a validity belong to it (RFC 5280, section 4.1.2.5). To openssl it is over in its last second.
		{name: "the last second", ours: true, after: []string{"leaf at its only second", "CA at its only second"}, says: "certificate has expired"},
		// A trusted CA certificate that comes as a client: CA:TRUE is no client for us.
		{name: "CA as client", after: []string{"leaf is CA", "the anchor as client"}, reason: termination.ReasonCertUse},
		// RFC 5280, section 4.2.1.3: keyAgreement is for static Diffie-Hellman, which TLS 1.2 clients no longer do; a client
		// signs.
		{name: "key agreement", after: []string{"leaf for key agreement"}, reason: termination.ReasonCertUse},
		// RFC 5280, section 4.2.1.9, does not count CAs that issued themselves; crypto/x509 does, and so do we: a limit is
		// easier to raise than to find out that it was none.
		{name: "self-issued CA counts", after: []string{"self-issued below a path length"}, reason: termination.ReasonChainTooDeep},
		// RFC 5280, section 4.2.1.10, holds limits for DNS names against alternative names; openssl against a common name
		// that looks like one as well.
		{name: "common name as DNS name", ours: true, after: []string{"common name outside of limits"}, says: "subtree"},
	}
}

// askOpenSSL returns what openssl verify says, as one line.
func askOpenSSL(t *testing.T, program, dir string, c *compared) string {
	file := func(what string, certs ...*x509.Certificate) string {
		var b bytes.Buffer
		for _, cert := range certs {
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
		}
		name := filepath.Join(dir, fmt.Sprintf("%d-%s.pem", c.number, what))
		if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
			t.Error(err)
		}
		return name
	}
	var anchors []*x509.Certificate
	for _, a := range c.anchors {
		anchors = append(anchors, a.X509)
	}
	// Level 2 is what Hygiene asks for: RSA of 2048 bits, no SHA-1. A depth of 3 is ours of 4. An anchor may be an
	// intermediate. -no-CApath and its siblings: never the system's.
	args := []string{
		"verify", "-purpose", "sslclient", "-auth_level", "2", "-verify_depth", "3", "-partial_chain",
		"-no-CApath", "-no-CAstore", "-attime", strconv.FormatInt(noon.Unix(), 10), "-CAfile", file("anchors", anchors...),
	}
	if len(c.sent) > 1 {
		args = append(args, "-untrusted", file("sent", c.sent[1:]...))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, _ := exec.CommandContext(ctx, program, append(args, file("leaf", c.sent[0]))...).CombinedOutput()
	return strings.Join(strings.Fields(string(out)), " ")
}

type generator struct {
	random *mathrand.Rand
	keys   []crypto.Signer // of P-256, used again and again
	rsa    [2]crypto.Signer
}

func newGenerator(t *testing.T) *generator {
	g := &generator{random: mathrand.New(mathrand.NewPCG(comparedSeed, 0))}
	for range 12 {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		g.keys = append(g.keys, key)
	}
	for i, bits := range []int{1024, 2048} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		g.rsa[i] = key
	}
	return g
}

func (g *generator) judge(t *testing.T, c *compared) verify.Judgement {
	cfg := config(authority("devices", c.anchors[0]))
	for _, a := range c.anchors[1:] {
		cfg.Authorities[0].Certificates = append(cfg.Authorities[0].Certificates, termination.CACertificate{Certificate: a.X509, Role: termination.RoleAnchor})
	}
	p := compile(t, cfg, termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}})
	return p.Judge(verify.Showing(c.sent...), noon)
}

// draft is a chain before it is made: level 0 is the root, the last one the client.
type draft struct {
	g       *generator
	options [][]tlstest.Option
	after   []func(*compared, []*tlstest.Cert) // done to the finished chain
}

func (d *draft) leaf() int { return len(d.options) - 1 }

func (d *draft) set(level int, opts ...tlstest.Option) {
	d.options[level] = append(d.options[level], opts...)
}

// ca picks any CA; below picks one that is not the root, if there is one.
func (d *draft) ca() int    { return d.g.random.IntN(d.leaf()) }
func (d *draft) below() int { return min(1+d.g.random.IntN(max(1, d.leaf()-1)), d.leaf()) }

func (g *generator) chain(number int) *compared {
	d := &draft{g: g}
	for level := range 2 + g.random.IntN(4) {
		name := fmt.Sprintf("Level %d", level)
		d.options = append(d.options, []tlstest.Option{tlstest.CN(name), tlstest.Org("Acme"), years, tlstest.WithKey(g.keys[level])})
	}
	d.set(d.leaf(), tlstest.CN("client"), tlstest.DNS("a.example.com"), tlstest.URI("spiffe://prod.example.com/a"), tlstest.Email("a@example.com"), tlstest.IP("10.1.2.3"))
	c := &compared{number: number}
	changes := changesToChains()
	for range []int{0, 1, 1, 1, 1, 2, 2}[g.random.IntN(7)] {
		change := changes[g.random.IntN(len(changes))]
		if !c.has(change.name) {
			c.did = append(c.did, change.name)
			change.make(d)
		}
	}
	var certs []*tlstest.Cert
	certs = append(certs, tlstest.NewCA(d.options[0]...))
	for level := 1; level < d.leaf(); level++ {
		certs = append(certs, certs[level-1].Intermediate(d.options[level]...))
	}
	certs = append(certs, certs[len(certs)-1].Client("client", d.options[d.leaf()]...))
	c.anchors, c.sent = certs[:1:1], certs[d.leaf()].Chain()
	for _, do := range d.after {
		do(c, certs)
	}
	return c
}

type change struct {
	name string
	make func(*draft)
}

func changesToChains() []change {
	at := func(level func(*draft) int, opts ...tlstest.Option) func(*draft) {
		return func(d *draft) { d.set(level(d), opts...) }
	}
	leaf, ca, below := (*draft).leaf, (*draft).ca, (*draft).below
	finished := func(do func(d *draft, c *compared, certs []*tlstest.Cert)) func(*draft) {
		return func(d *draft) {
			d.after = append(d.after, func(c *compared, certs []*tlstest.Cert) { do(d, c, certs) })
		}
	}
	past, future := tlstest.Valid(noon.Add(-20*day), noon.Add(-time.Second)), tlstest.Valid(noon.Add(time.Second), noon.Add(20*day))
	edge := tlstest.Valid(noon, noon)
	server, code := tlstest.EKU(x509.ExtKeyUsageServerAuth), tlstest.EKU(x509.ExtKeyUsageCodeSigning)
	limit := func(change func(*x509.Certificate)) func(*draft) {
		return at(ca, tlstest.Template(func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical = true
			change(c)
		}))
	}
	list := []change{
		{"leaf ended", at(leaf, past)},
		{"leaf early", at(leaf, future)},
		{"leaf at its only second", at(leaf, edge)},
		{"CA ended", at(ca, past)},
		{"CA early", at(ca, future)},
		{"CA at its only second", at(ca, edge)},
		{"leaf for servers", at(leaf, server)},
		{"leaf for clients and servers", at(leaf, tlstest.EKU(x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth))},
		{"leaf without usage", at(leaf, tlstest.NoEKU())},
		{"leaf for any use", at(leaf, tlstest.AnyEKU())},
		{"CA for servers", at(ca, server)},
		{"CA for code", at(ca, code)},
		{"CA for clients", at(ca, tlstest.EKU(x509.ExtKeyUsageClientAuth))},
		{"CA for any use", at(ca, tlstest.AnyEKU())},
		{"leaf without digitalSignature", at(leaf, tlstest.NoDigitalSignature())},
		{"leaf without key usage", at(leaf, tlstest.KeyUsage(0))},
		{"leaf for key agreement", at(leaf, tlstest.KeyUsage(x509.KeyUsageKeyAgreement))},
		{"CA without keyCertSign", at(below, tlstest.KeyUsage(x509.KeyUsageDigitalSignature))},
		{"CA without key usage", at(ca, tlstest.KeyUsage(0))},
		{"CA says CA:FALSE", func(d *draft) {
			if d.leaf() > 1 {
				d.set(1, tlstest.CAFalse())
			}
		}},
		{"CA without basic constraints", func(d *draft) {
			if d.leaf() > 1 {
				d.set(1, tlstest.NoBasicConstraints())
			}
		}},
		{"leaf is CA", at(leaf, tlstest.CATrue())},
		{"leaf without basic constraints", at(leaf, tlstest.NoBasicConstraints())},
		{"path length 0", at(ca, tlstest.MaxPathLen(0))},
		{"path length 1", at(ca, tlstest.MaxPathLen(1))},
		{"path length 2", at(ca, tlstest.MaxPathLen(2))},
		{"v1 leaf", at(leaf, tlstest.V1())},
		{"v1 CA", func(d *draft) {
			if d.leaf() > 1 {
				d.set(1, tlstest.V1())
			}
		}},
		{"SHA-1 leaf", at(leaf, tlstest.SHA1ECDSA())},
		{"SHA-1 root", at(func(*draft) int { return 0 }, tlstest.SHA1ECDSA())},
		{"SHA-1 CA", at(below, tlstest.SHA1ECDSA())},
		{"RSA-1024 leaf", func(d *draft) { d.set(d.leaf(), tlstest.WithKey(d.g.rsa[0])) }},
		{"RSA-1024 CA", func(d *draft) { d.set(d.ca(), tlstest.WithKey(d.g.rsa[0])) }},
		{"RSA-2048 CA", func(d *draft) { d.set(d.ca(), tlstest.WithKey(d.g.rsa[1])) }},
		{"unknown critical extension", at(leaf, tlstest.UnknownCritical())},
		{"unknown critical extension of a CA", at(ca, tlstest.UnknownCritical())},
		{"unknown extension", at(ca, tlstest.Extension(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 2}, false, []byte{5, 0}))},
		{"DNS permitted", limit(func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.com"} })},
		{"DNS not permitted", limit(func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.org", "b.example.com"} })},
		{"DNS excluded", limit(func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"EXAMPLE.com"} })},
		{"DNS not excluded", limit(func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"b.example.com", "xample.com"} })},
		{"e-mail permitted by host", limit(func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"Example.com"} })},
		{"e-mail permitted by address", limit(func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"a@example.com"} })},
		{"e-mail not permitted", limit(func(c *x509.Certificate) {
			c.PermittedEmailAddresses = []string{"b@example.com", ".example.com", "example.org"}
		})},
		{"e-mail of a host above", limit(func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"com"} })},
		{"e-mail excluded", limit(func(c *x509.Certificate) { c.ExcludedEmailAddresses = []string{"a@example.com"} })},
		{"URI permitted", limit(func(c *x509.Certificate) { c.PermittedURIDomains = []string{"prod.example.com"} })},
		{"URI permitted below", limit(func(c *x509.Certificate) { c.PermittedURIDomains = []string{".example.com"} })},
		{"URI of a host above", limit(func(c *x509.Certificate) { c.PermittedURIDomains = []string{"example.com"} })},
		{"URI not permitted", limit(func(c *x509.Certificate) { c.PermittedURIDomains = []string{"test.example.com"} })},
		{"URI excluded", limit(func(c *x509.Certificate) { c.ExcludedURIDomains = []string{".example.com"} })},
		{"IP permitted", limit(func(c *x509.Certificate) { c.PermittedIPRanges = []*net.IPNet{network("10.0.0.0/8")} })},
		{"IP not permitted", limit(func(c *x509.Certificate) {
			c.PermittedIPRanges = []*net.IPNet{network("10.2.0.0/16"), network("fd00::/8")}
		})},
		{"IP excluded", limit(func(c *x509.Certificate) { c.ExcludedIPRanges = []*net.IPNet{network("10.1.0.0/16")} })},
		{"common name outside of limits", func(d *draft) {
			d.set(d.ca(), tlstest.PermitDNS("example.org"))
			d.set(d.leaf(), tlstest.CN("a.example.net"), tlstest.Template(func(c *x509.Certificate) { c.DNSNames, c.URIs, c.EmailAddresses, c.IPAddresses = nil, nil, nil, nil }))
		}},
		{"an intermediate is missing", finished(func(d *draft, c *compared, _ []*tlstest.Cert) {
			if len(c.sent) > 1 {
				i := 1 + d.g.random.IntN(len(c.sent)-1)
				c.sent = slices.Delete(slices.Clone(c.sent), i, i+1)
			}
		})},
		{"shuffled", finished(func(d *draft, c *compared, _ []*tlstest.Cert) {
			rest := slices.Clone(c.sent[1:])
			d.g.random.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
			c.sent = append(c.sent[:1:1], rest...)
		})},
		{"sent twice", finished(func(_ *draft, c *compared, _ []*tlstest.Cert) { c.sent = append(slices.Clone(c.sent), c.sent...) })},
		{"the root sent as well", finished(func(_ *draft, c *compared, certs []*tlstest.Cert) {
			c.sent = append(slices.Clone(c.sent), certs[0].X509)
		})},
		{"unrelated certificates sent", finished(func(d *draft, c *compared, _ []*tlstest.Cert) {
			other := tlstest.NewCA(years, tlstest.WithKey(d.g.keys[9]))
			c.sent = append(slices.Clone(c.sent), other.Client("other", years, tlstest.WithKey(d.g.keys[8])).X509, other.X509)
		})},
		{"an intermediate as anchor", finished(func(d *draft, c *compared, certs []*tlstest.Cert) { c.anchors = []*tlstest.Cert{certs[d.leaf()-1]} })},
		{"another root is trusted", finished(func(d *draft, c *compared, _ []*tlstest.Cert) {
			c.anchors = []*tlstest.Cert{tlstest.NewCA(years, tlstest.WithKey(d.g.keys[9]))}
		})},
		{"the name is trusted with another key", finished(func(_ *draft, c *compared, certs []*tlstest.Cert) {
			c.anchors = []*tlstest.Cert{tlstest.NewCA(tlstest.RawSubject(certs[0].X509.RawSubject), years)}
		})},
		{"namesake anchor", finished(func(d *draft, c *compared, certs []*tlstest.Cert) {
			namesake := tlstest.NewCA(tlstest.RawSubject(certs[0].X509.RawSubject), years, tlstest.WithKey(d.g.keys[9]))
			c.anchors = []*tlstest.Cert{namesake, c.anchors[0]}
		})},
		{"namesake sent", finished(func(d *draft, c *compared, certs []*tlstest.Cert) {
			at := certs[d.leaf()-1]
			namesake := certs[0].Intermediate(tlstest.RawSubject(at.X509.RawSubject), tlstest.SubjectKeyID(at.X509.SubjectKeyId), years, tlstest.WithKey(d.g.keys[10]))
			c.sent = slices.Insert(slices.Clone(c.sent), 1, namesake.X509)
		})},
		{"renewed CA sent", finished(func(d *draft, c *compared, certs []*tlstest.Cert) {
			if at := d.leaf() - 1; at > 0 {
				c.sent = append(slices.Clone(c.sent), certs[at-1].Reissue(certs[at], past).X509)
			}
		})},
		{"cross-signed", finished(func(d *draft, c *compared, certs []*tlstest.Cert) {
			other := tlstest.NewCA(tlstest.CN("Other Root"), years, tlstest.WithKey(d.g.keys[11]))
			c.anchors = []*tlstest.Cert{other}
			c.sent = append(slices.Clone(c.sent), other.Reissue(certs[0], years).X509)
		})},
		{"key identifier mismatch", finished(func(_ *draft, c *compared, certs []*tlstest.Cert) {
			c.anchors = []*tlstest.Cert{tlstest.NewCA(tlstest.RawSubject(certs[0].X509.RawSubject), tlstest.WithKey(certs[0].Key), tlstest.SubjectKeyID([]byte{1, 2, 3}), years)}
		})},
		{"the anchor as client", finished(func(_ *draft, c *compared, certs []*tlstest.Cert) { c.sent = []*x509.Certificate{certs[0].X509} })},
		{"v1 leaf with the name of its CA", func(d *draft) {
			d.set(d.leaf(), tlstest.V1(), tlstest.CN(fmt.Sprintf("Level %d", d.leaf()-1)))
		}},
		{"leaf with the name of its CA", func(d *draft) { d.set(d.leaf(), tlstest.CN(fmt.Sprintf("Level %d", d.leaf()-1))) }},
		{"self-issued below a path length", func(d *draft) {
			if d.leaf() > 1 {
				id := []byte("level 0") // else openssl takes it for self-signed
				d.set(0, tlstest.MaxPathLen(d.leaf()-2), tlstest.SubjectKeyID(id))
				d.set(1, tlstest.CN("Level 0"), tlstest.Template(func(c *x509.Certificate) { c.AuthorityKeyId = id }))
			}
		}},
		{"self-signed leaf", finished(func(d *draft, c *compared, _ []*tlstest.Cert) {
			c.sent = []*x509.Certificate{tlstest.SelfSigned(years, tlstest.WithKey(d.g.keys[9])).X509}
		})},
	}
	return append(list, directoryChanges(ca)...)
}

func network(s string) *net.IPNet {
	_, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	return n
}
