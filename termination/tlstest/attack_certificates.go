package tlstest

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"sync/atomic"
)

func serverUse() x509.ExtKeyUsage { return x509.ExtKeyUsageServerAuth }

func sha256Of(der []byte) [sha256.Size]byte { return sha256.Sum256(der) }

// offer presents each of these certificates at an endpoint.
func (r *raid) offer(endpoint string, pairs map[string]tls.Certificate) {
	for name, pair := range pairs {
		for _, version := range versions() {
			for _, protocol := range protocols() {
				r.attempt(fmt.Sprintf("%s, %s, %s, %s", name, endpoint, tls.VersionName(version), protocol), at(endpoint), func() {
					config := r.client(endpoint, version, protocol, nil)
					config.GetClientCertificate = present(pair)
					r.get(config, endpoint, "/")
				})
			}
		}
	}
}

// childOfPin: Carol, whose pin opens the vault, has issued certificates.
func (r *raid) childOfPin() {
	carol := r.world.Carol
	r.offer(VaultName, map[string]tls.Certificate{
		"a child":           carol.Client("carol").TLSWith(carol),
		"a child alone":     carol.Client("carol").TLSAlone(),
		"a grandchild":      carol.Intermediate().Client("carol").TLSWith(carol),
		"of carol's name":   SelfSigned(RawSubject(carol.X509.RawSubject), CATrue()).TLSWith(carol),
		"carol's impostors": carol.Impostor().Client("carol").TLSWith(carol),
	})
}

// hygiene: certificates of the right authority that were not made for clients, or
// that are too weak to prove anything.
func (r *raid) hygiene() {
	ca := r.world.ClientCA
	r.offer(StaffName, map[string]tls.Certificate{
		"for servers":                ca.Leaf(EKU(serverUse())).TLS(),
		"for servers by its issuer":  ca.Intermediate(EKU(serverUse())).Client("eve").TLS(),
		"a CA":                       ca.Client("eve", CATrue()).TLS(),
		"a CA that signs":            ca.Intermediate(CN("eve")).TLS(),
		"not for signing":            ca.Client("eve", NoDigitalSignature()).TLS(),
		"RSA with 1024 bits":         ca.Client("eve", RSA(1024)).TLS(),
		"an extension nobody knows":  ca.Client("eve", UnknownCritical()).TLS(),
		"expired":                    ca.Client("eve", Expired()).TLS(),
		"not yet valid":              ca.Client("eve", NotYetValid()).TLS(),
		"beyond its CA's names":      ca.Intermediate(PermitDNS("example.com")).Client("eve", DNS("example.org")).TLS(),
		"by somebody who is no CA":   ca.Client("mallory").Client("eve").TLS(),
		"deeper than its CA allowed": ca.Intermediate(MaxPathLen(0)).Intermediate().Client("eve").TLS(),
	})
}

// monsters: chains that are longer than anybody needs. The last come with names
// that no verifier should compare each with each.
func (r *raid) monsters() {
	ca := r.world.ClientCA
	junk := make([]*Cert, 12)
	for i := range junk {
		junk[i] = NewCA()
	}
	web := make([]*Cert, 0, 8)
	for range 8 { // one name, many keys: each could have signed each
		web = append(web, junk[0].Impostor())
	}
	r.offer(StaffName, map[string]tls.Certificate{
		"five CAs":                 ca.Intermediates(5).Client("eve").TLS(),
		"nine CAs":                 ca.Intermediates(9).Client("eve").TLS(),
		"a hundred CAs":            ca.Intermediates(100).Client("eve").TLS(),
		"alice and a dozen":        r.world.Alice.TLSWith(junk...),
		"a web of impostors":       web[0].Client("eve").TLSWith(web...),
		"ten thousand names":       NewCA(PermitDNS("example.com")).Client("eve", ManyNames(10_000)).TLS(),
		"many names, many excepts": NewCA(ExcludeDNS(manyDomains(1000)...)).Intermediate().Client("eve", ManyNames(1000)).TLS(),
	})
	// Who is honest is served all the same.
	if wrong := r.control(); len(wrong) > 0 {
		r.gotIn = append(r.gotIn, wrong...)
	}
}

func manyDomains(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("d%d.example.org", i)
	}
	return out
}

// fetching: certificates name addresses where more about them could be had.
func (r *raid) fetching() {
	var calls atomic.Int64
	elsewhere := HTTPHandler(r.t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		http.Error(w, "no", http.StatusNotFound)
	}))
	urls := URLs(elsewhere.URL+"/ca.crl", elsewhere.URL+"/ocsp", elsewhere.URL+"/ca.crt")
	incomplete := r.world.ClientCA.Intermediate()
	for name, pair := range map[string]tls.Certificate{
		"verified":                r.world.ClientCA.Client("eve", urls).TLS(),
		"a stranger":              NewCA().Client("eve", urls).TLS(),
		"without its issuer":      incomplete.Client("eve", urls).TLSAlone(),
		"the issuer has them":     r.world.ClientCA.Intermediate(urls).Client("eve", urls).TLS(),
		"signed itself, in files": SelfSigned(URLs("file:///etc/passwd", "file:///etc/passwd", "file:///etc/passwd")).TLS(),
	} {
		for _, endpoint := range []string{StaffName, LobbyName} {
			for _, version := range versions() {
				before := calls.Load()
				config := r.client(endpoint, version, "http/1.1", nil)
				config.GetClientCertificate = present(pair)
				r.get(config, endpoint, "/")
				if calls.Load() > before {
					r.gotIn = append(r.gotIn, fmt.Sprintf("%s, %s, %s", name, endpoint, tls.VersionName(version)))
				}
			}
		}
	}
	if n := elsewhere.Accepted(); n > 0 && len(r.gotIn) == 0 {
		r.gotIn = append(r.gotIn, fmt.Sprintf("%d connections later", n))
	}
}

// partnersName: another authority that is trusted at the desk too certifies a bob.
func (r *raid) partnersName() {
	partner := r.world.PartnerCA
	r.offer(DeskName, map[string]tls.Certificate{
		"a partner's bob":                 partner.Client("bob").TLS(),
		"by an intermediate of our name":  partner.Intermediate(RawSubject(r.world.ClientCA.X509.RawSubject)).Client("bob").TLS(),
		"a partner's bob and our CA":      partner.Client("bob").TLSWith(r.world.ClientCA),
		"a partner's bob, then our bob":   partner.Client("bob").TLSWith(r.world.Bob),
		"a partner's with several names":  partner.Client("bob", DNS("bob"), Email("bob@example.com")).TLS(),
		"ours, with bob for another name": r.world.ClientCA.Client("eve", DNS("bob"), OrgUnit("bob")).TLS(),
	})
}

// familiarCA: a stranger brings a CA that has the name of ours.
func (r *raid) familiarCA() {
	impostor := r.world.ClientCA.Impostor()
	for _, endpoint := range []string{StaffName, DeskName} {
		r.offer(endpoint, map[string]tls.Certificate{
			"an impostor's":           impostor.Client("bob").TLSWith(impostor),
			"an impostor's, deeper":   impostor.Intermediate().Client("bob").TLSWith(impostor),
			"an impostor's, then CAs": impostor.Client("bob").TLSWith(impostor, r.world.ClientCA),
			"signed itself, then CA":  SelfSigned(CN("bob")).TLSWith(r.world.ClientCA),
		})
	}
}
