package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/localca"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

// knownCertificate is everything that is known here about one certificate.
type knownCertificate struct {
	cert    *x509.Certificate
	chain   []*x509.Certificate // that is kept with it, leaf first; nil: none
	kept    []*termination.Certificate
	usedBy  []views.Link
	issued  *store.Issued
	inTrust []trustedIn
	renewed bool // by the local CA or through ACME, when it is due
	acme    bool // through ACME
}

// trustedIn is the place of a certificate in an authority.
type trustedIn struct {
	authority *termination.Authority
	role      termination.Role
	local     bool // its key lives here
}

// knownCertificates gathers every certificate that is kept, presented, issued or trusted here.
type knownCertificates map[termination.Fingerprint]*knownCertificate

func (k knownCertificates) of(c *x509.Certificate) *knownCertificate {
	f := termination.FingerprintOf(c)
	if k[f] == nil {
		k[f] = &knownCertificate{cert: c}
	}
	return k[f]
}

func (s *Server) knownCertificates(ctx context.Context) (knownCertificates, error) {
	config := s.current()
	k := knownCertificates{}
	for i := range config.Certificates {
		c := &config.Certificates[i]
		leaf := k.of(c.Leaf())
		leaf.chain, leaf.kept = c.Chain, append(leaf.kept, c)
		leaf.usedBy = append(leaf.usedBy, presenters(config, c.Name)...)
		for _, x := range c.Chain[1:] {
			k.of(x)
		}
	}
	for _, p := range s.presented() {
		if leaf := k.of(p.cert); len(leaf.kept) == 0 {
			leaf.usedBy, leaf.renewed, leaf.acme = p.usedBy, true, s.obtained(p.cert)
		}
	}
	local := map[termination.Fingerprint]bool{}
	for i := range config.LocalCAs {
		local[termination.FingerprintOf(config.LocalCAs[i].Certificate)] = true
	}
	for i := range config.Authorities {
		a := &config.Authorities[i]
		for _, c := range a.Certificates {
			known := k.of(c.Certificate)
			known.inTrust = append(known.inTrust, trustedIn{a, c.Role, local[termination.FingerprintOf(c.Certificate)]})
			known.usedBy = append(known.usedBy, s.usersOf(config, a.Name)...)
		}
	}
	issued, err := s.store.Issued(ctx, "")
	if err != nil {
		return nil, err
	}
	for i := range issued {
		known := k.of(issued[i].Certificate)
		known.issued = &issued[i]
		if issued[i].Kind == kindClient {
			for j := range config.Authorities {
				if config.Authorities[j].ID == issued[i].AuthorityID {
					known.usedBy = s.usersOf(config, config.Authorities[j].Name)
				}
			}
		}
	}
	return k, nil
}

// minPrefix is the shortest prefix of a fingerprint, in hex digits, that is looked up.
const minPrefix = 4

// find returns the certificate with that fingerprint, or with an unambiguous prefix of it, in hex of either case, with
// or without the colons that openssl prints.
func (k knownCertificates) find(ref string) (*knownCertificate, error) {
	prefix := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(ref), ":", ""))
	isHex := strings.Trim(prefix, "0123456789abcdef") == ""
	if len(prefix) < minPrefix || len(prefix) > 2*sha256.Size || !isHex {
		return nil, notFound("certificate", format.Cut(ref, 100))
	}
	var found *knownCertificate
	for f, c := range k {
		if !strings.HasPrefix(f.String(), prefix) {
			continue
		}
		if found != nil {
			return nil, &Problem{Status: http.StatusConflict, Code: "ambiguous", Title: "More than one certificate fits", Detail: "Several fingerprints begin with " + prefix + ".", Advice: "Give more of it."}
		}
		found = c
	}
	if found == nil {
		return nil, notFound("certificate", format.Cut(ref, 100))
	}
	return found, nil
}

// maxChain bounds the chain that is put together for a page.
const maxChain = 10

// path is the chain of a certificate, as far as it is known here: what is kept with it, then whoever signed the last.
// What is not kept with a certificate is searched among all that is known; sent tells how many are.
func (k knownCertificates) path(c *knownCertificate) (chain []*x509.Certificate, sent int) {
	chain = slices.Clone(c.chain)
	if len(chain) == 0 {
		chain = []*x509.Certificate{c.cert}
	}
	sent = len(chain)
	for len(chain) < maxChain {
		last := chain[len(chain)-1]
		if bytes.Equal(last.RawIssuer, last.RawSubject) {
			break
		}
		issuer := k.issuerOf(last)
		if issuer == nil || slices.ContainsFunc(chain, issuer.Equal) {
			break
		}
		chain = append(chain, issuer)
	}
	return chain, sent
}

// issuerOf finds who signed c; of several with the same key the one that ends last.
func (k knownCertificates) issuerOf(c *x509.Certificate) *x509.Certificate {
	var best *x509.Certificate
	for _, known := range k {
		x := known.cert
		if !x.IsCA || !bytes.Equal(x.RawSubject, c.RawIssuer) || best != nil && !x.NotAfter.After(best.NotAfter) {
			continue
		}
		if c.CheckSignatureFrom(x) == nil {
			best = x
		}
	}
	return best
}

// fingerprintParam is the reference in a page's address.
func fingerprintParam(c echo.Context) string {
	ref, err := url.PathUnescape(c.Param("fingerprint"))
	if err != nil {
		return c.Param("fingerprint")
	}
	return ref
}

func (s *Server) certificatePage(c echo.Context) error {
	known, err := s.knownCertificates(c.Request().Context())
	if err != nil {
		return err
	}
	found, err := known.find(fingerprintParam(c))
	if err != nil {
		return err
	}
	return s.showKnown(c, http.StatusOK, known, found, func(*views.Certificate) {})
}

// showCertificate renders the page of one certificate; add may put an error on it first.
func (s *Server) showCertificate(c echo.Context, status int, f termination.Fingerprint, add func(*views.Certificate)) error {
	known, err := s.knownCertificates(c.Request().Context())
	if err != nil {
		return err
	}
	if known[f] == nil {
		return notFound("certificate", f.Short())
	}
	return s.showKnown(c, status, known, known[f], add)
}

func (s *Server) showKnown(c echo.Context, status int, known knownCertificates, k *knownCertificate, add func(*views.Certificate)) error {
	p := s.view(c, format.Cut(k.title(), 80))
	f := termination.FingerprintOf(k.cert)
	base := "/certificates/" + f.String()
	v := views.Certificate{
		Title: k.title(), Tags: k.tags(), Sub: k.sub(p),
		Life: parts.Life{From: k.cert.NotBefore, Until: k.cert.NotAfter, Now: p.Now},
		From: p.Moment(k.cert.NotBefore), Until: p.Moment(k.cert.NotAfter) + " · " + p.Left(k.cert.NotBefore, k.cert.NotAfter),
		UsedBy: uniqueLinks(k.usedBy), Unused: k.unused(), Groups: k.groups(p), Prints: prints(f),
		PEM: base + "/certificate.pem",
	}
	if tag, ok := stateTag(k.cert, p.Now); ok {
		v.Tags = append(v.Tags, tag)
	}
	chain, sent := known.path(k)
	v.Chain = known.chainItems(p, chain, sent)
	if len(chain) > 1 {
		v.AllPEM = base + "/chain.pem"
	}
	if k.issued != nil {
		v.Again = issueAgain(k.issued)
		v.Revoke = s.revocationOf(c, p, k.issued)
	}
	if k.issued != nil && k.issued.Kind == kindClient || len(k.inTrust) > 0 {
		v.Block = "/blocked/new?certificate=" + f.String()
	}
	for _, kept := range k.kept {
		item := views.KeptCertificate{ID: kept.ID, Name: kept.Name, ReadOnly: kept.Origin.Fixed(), Command: kept.Origin == termination.OriginCommand, Upload: uploadForm(kept.ID, kept.Name)}
		var names []string
		for _, l := range presenters(s.current(), kept.Name) {
			names = append(names, l.Label)
		}
		item.InUse = strings.Join(names, ", ")
		v.Kept = append(v.Kept, item)
	}
	add(&v)
	return s.render(c, status, views.CertificatePage(p, v))
}

func uniqueLinks(links []views.Link) []views.Link {
	var out []views.Link
	for _, l := range links {
		if !slices.Contains(out, l) {
			out = append(out, l)
		}
	}
	return out
}

func (k *knownCertificate) title() string {
	if len(k.kept) > 0 {
		return k.kept[0].Name
	}
	if k.issued != nil {
		return k.issued.Name
	}
	return titleOf(k.cert)
}

func (k *knownCertificate) tags() []views.TagItem {
	var tags []views.TagItem
	for _, kept := range k.kept {
		tags = append(tags, originTag(kept.Origin))
	}
	if k.acme {
		tags = append(tags, views.TagItem{Text: "through ACME, renewed by itself"})
	} else if k.renewed {
		tags = append(tags, views.TagItem{Text: "by the local CA, renewed by itself"})
	}
	if k.issued != nil {
		tags = append(tags, views.TagItem{Text: "issued here"})
	}
	for _, t := range k.inTrust {
		if t.local {
			tags = append(tags, views.TagItem{Tone: parts.Warn, Text: "key on this disk"})
		}
		tags = append(tags, views.TagItem{Text: string(t.role) + " of " + t.authority.Name})
	}
	return tags
}

// sub says in one sentence where it comes from.
func (k *knownCertificate) sub(p views.Page) string {
	switch {
	case len(k.kept) > 0:
		return "A server certificate that is kept here with its key."
	case k.acme:
		return "Obtained through ACME for the endpoints below. A new one takes its place when two thirds of its life are over."
	case k.renewed:
		return "Issued by a local CA for the endpoints below. A new one takes its place when two thirds of its life are over, and at every start."
	case k.issued != nil && k.issued.Kind == kindClient:
		return fmt.Sprintf("A client certificate, issued here on %s by %s. Its private key was not kept.", p.Moment(k.issued.Created), k.issued.By)
	case k.issued != nil:
		return fmt.Sprintf("A server certificate for use elsewhere, issued here on %s by %s. Its private key was not kept.", p.Moment(k.issued.Created), k.issued.By)
	case len(k.inTrust) > 0:
		return "Kept under Trust."
	}
	return "Kept as part of a chain."
}

func (k *knownCertificate) unused() string {
	switch {
	case k.issued != nil && k.issued.Kind == kindClient:
		return "No endpoint asks the CA that issued it, so it opens nothing here."
	case k.issued != nil:
		return "No endpoint here; it was issued for use elsewhere."
	case len(k.kept) > 0:
		return "No endpoint presents it."
	}
	return "No endpoint."
}

func (k *knownCertificate) groups(p views.Page) []views.FactGroup {
	c := k.cert
	who := []parts.Fact{{Name: "Subject", Value: orNone(termination.NameText(c.Subject))}}
	who = appendNames(who, "DNS", c.DNSNames)
	var ips, uris []string
	for _, ip := range c.IPAddresses {
		ips = append(ips, ip.String())
	}
	for _, u := range c.URIs {
		uris = append(uris, u.String())
	}
	who = appendNames(who, "IP", ips)
	who = appendNames(who, "URI", uris)
	who = appendNames(who, "E-mail", c.EmailAddresses)
	who = append(who, parts.Fact{Name: "Issuer", Value: orNone(termination.NameText(c.Issuer))})
	if c.SerialNumber != nil {
		who = append(who, parts.Fact{Name: "Serial", Value: c.SerialNumber.Text(16)})
	}
	may := []parts.Fact{{Name: "Usages", Value: orNone(strings.Join(termination.UsageNames(c), ", "))}, {Name: "CA", Value: "no"}}
	if c.IsCA {
		may[1].Value = "yes"
		if c.MaxPathLen > 0 || c.MaxPathLenZero {
			may[1].Note = format.Count(c.MaxPathLen, "further CA", "further CAs") + " below it"
		}
		limits := slices.Clone(c.PermittedDNSDomains)
		for _, n := range c.PermittedIPRanges {
			limits = append(limits, n.String())
		}
		if len(limits) > 0 {
			may = append(may, parts.Fact{Name: "Only for", Value: strings.Join(limits, ", ")})
		}
	}
	spki := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return []views.FactGroup{
		{Head: "Who", Facts: who},
		{Head: "When", Facts: []parts.Fact{
			{Name: "From", Value: p.Exact(c.NotBefore)},
			{Name: "Until", Value: p.Exact(c.NotAfter), Note: p.Left(c.NotBefore, c.NotAfter), Tone: noteTone(parts.LifeTone(c.NotBefore, c.NotAfter, p.Now))},
		}},
		{Head: "What it may do", Facts: may},
		{Head: "Key and signature", Facts: []parts.Fact{
			{Name: "Key", Value: termination.KeyName(c.PublicKey)},
			{Name: "Key pin", Value: "spki:" + fmt.Sprintf("%x", spki)},
			{Name: "Signed with", Value: c.SignatureAlgorithm.String()},
			{Name: "Key ID", Value: orNone(fmt.Sprintf("%x", c.SubjectKeyId))},
			{Name: "Issuer's ID", Value: orNone(fmt.Sprintf("%x", c.AuthorityKeyId))},
		}},
	}
}

// noteTone leaves alone what needs no colour.
func noteTone(t parts.Tone) parts.Tone {
	if t == parts.OK {
		return parts.Plain
	}
	return t
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func appendNames(facts []parts.Fact, kind string, names []string) []parts.Fact {
	if len(names) == 0 {
		return facts
	}
	return append(facts, parts.Fact{Name: kind, Value: strings.Join(names, ", ")})
}

func prints(f termination.Fingerprint) []views.Print {
	return []views.Print{
		{Name: "openssl", Value: format.Fingerprint(f)},
		{Name: "hex", Value: f.String()},
		{Name: "base64", Value: base64.StdEncoding.EncodeToString(f[:])},
	}
}

// chainItems describes a chain, of which the first sent certificates are kept together.
func (k knownCertificates) chainItems(p views.Page, chain []*x509.Certificate, sent int) []parts.ChainItem {
	var out []parts.ChainItem
	for i, c := range chain {
		item := parts.ChainItem{
			State: parts.ChainGood, Name: titleOf(c), Tag: "known here",
			Details: []string{format.ShortFingerprint(termination.FingerprintOf(c)) + " · " + termination.KeyName(c.PublicKey) + " · " + p.Left(c.NotBefore, c.NotAfter)},
		}
		if i > 0 {
			item.Href = "/certificates/" + termination.FingerprintOf(c).String()
		}
		switch {
		case i == 0:
			item.Tag = "this one"
		case i < sent:
			item.Tag = "sent with it"
		}
		for _, t := range k.of(c).inTrust {
			if t.role == termination.RoleAnchor {
				item.State, item.Tag, item.TagTone = parts.ChainAnchor, "anchor of "+t.authority.Name, parts.OK
			}
		}
		if p.Now.After(c.NotAfter) || p.Now.Before(c.NotBefore) {
			item.State = parts.ChainBroken
		}
		out = append(out, item)
	}
	last := chain[len(chain)-1]
	if !bytes.Equal(last.RawIssuer, last.RawSubject) {
		out = append(out, parts.ChainItem{State: parts.ChainMissing, Name: orNone(termination.NameText(last.Issuer)), Tag: "not known here", Details: []string{"It signed the one above. Clients need to know it."}})
	}
	return out
}

func issueAgain(i *store.Issued) string {
	q := url.Values{"kind": {i.Kind}, "name": {i.Name}}
	var dns []string
	for _, n := range i.Certificate.DNSNames {
		if n != i.Name {
			dns = append(dns, n)
		}
	}
	for _, ip := range i.Certificate.IPAddresses {
		if ip.String() != i.Name {
			dns = append(dns, ip.String())
		}
	}
	if len(dns) > 0 {
		q.Set("dns", strings.Join(dns, " "))
	}
	if len(i.Certificate.URIs) > 0 {
		q.Set("uri", i.Certificate.URIs[0].String())
	}
	if len(i.Certificate.EmailAddresses) > 0 {
		q.Set("email", i.Certificate.EmailAddresses[0])
	}
	return "/certificates/issue?" + q.Encode()
}

func (s *Server) certificatePEM(c echo.Context) error {
	return s.sendPEM(c, func(_ knownCertificates, k *knownCertificate) ([]*x509.Certificate, string) {
		return []*x509.Certificate{k.cert}, ".pem"
	})
}

func (s *Server) certificateChainPEM(c echo.Context) error {
	return s.sendPEM(c, func(known knownCertificates, k *knownCertificate) ([]*x509.Certificate, string) {
		chain, _ := known.path(k)
		return chain, "-chain.pem"
	})
}

func (s *Server) sendPEM(c echo.Context, which func(knownCertificates, *knownCertificate) ([]*x509.Certificate, string)) error {
	known, err := s.knownCertificates(c.Request().Context())
	if err != nil {
		return err
	}
	found, err := known.find(fingerprintParam(c))
	if err != nil {
		return err
	}
	certs, suffix := which(known, found)
	attach(c, localca.FileName(found.title())+suffix)
	return c.Blob(http.StatusOK, "application/x-pem-file", localca.EncodePEM(certs...))
}

// attach names the file that the answer is; name must be one of [localca.FileName], with an ending.
func attach(c echo.Context, name string) {
	c.Response().Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
}
