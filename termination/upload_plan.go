package termination

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// AnchorPolicy says which CA certificates of an upload become anchors.
type AnchorPolicy string

// The two policies.
const (
	AnchorsRoots AnchorPolicy = "roots" // those that sign themselves; intermediates help
	AnchorsAll   AnchorPolicy = "all"   // intermediates too: a chain may stop there
)

// UploadUse says what becomes of an item of an upload.
type UploadUse string

// The uses of an item.
const (
	UseAnchor UploadUse = "anchor" // where chains of clients may end
	UseHelper UploadUse = "helper" // completes chains, decides nothing
	UsePin    UploadUse = "pin"    // exactly this certificate may enter; it issues nothing
	UseAsk    UploadUse = "ask"    // a person must choose; until then it is not used
	UseSkip   UploadUse = "skip"   // harmless, not used
	UseRefuse UploadUse = "refuse" // wrong or dangerous, not used
)

// KnownCertificate is a CA certificate that is trusted already.
type KnownCertificate struct {
	Authority   string // name of the authority that holds it
	Certificate *x509.Certificate
	Role        Role
	Since       time.Time // when it was uploaded; zero: not known
}

// KnownCertificates lists the CA certificates of a configuration.
func (c *Config) KnownCertificates() []KnownCertificate {
	var out []KnownCertificate
	for i := range c.Authorities {
		for _, cert := range c.Authorities[i].Certificates {
			out = append(out, KnownCertificate{Authority: c.Authorities[i].Name, Certificate: cert.Certificate, Role: cert.Role})
		}
	}
	return out
}

// PlanOptions are what a plan depends on besides the upload.
type PlanOptions struct {
	Anchors AnchorPolicy // empty means AnchorsRoots
	Known   []KnownCertificate
	Into    string // name of the authority that the certificates are added to; empty: a new one

	// Choices are a person's answers, by fingerprint. One that a certificate does not allow refuses it.
	Choices map[Fingerprint]UploadUse
	// Declared says that somebody wrote down that these are issuers, as in a configuration file: then nothing is
	// asked and nothing is skipped for being known already; it is warned about all the same.
	Declared bool
	// KeepExpired says that an expired CA is kept and warned about instead of refused: a file that was in order when it
	// was written must not stop a gateway from starting. Nothing passes through an expired CA in any case.
	KeepExpired bool
	Now         time.Time
}

// PlannedItem is an item of an upload and what would become of it. Its Message and Warnings are complete.
type PlannedItem struct {
	UploadItem
	Use     UploadUse   `json:"use"`
	Label   string      `json:"label"`             // Use in two or three words, as "helper for chains"
	Choices []UploadUse `json:"choices,omitempty"` // what a person may choose, the suggestion first
	// Known is the trusted certificate that this one equals, renews or resembles.
	Known *KnownCertificate `json:"-"`
	// Replaces says that Known is an older issue of the same CA, which may go.
	Replaces bool `json:"replaces,omitempty"`

	problem string // a choice that is not possible
}

// AuthorityPlan says what would become of an upload. Nothing is saved by making one.
type AuthorityPlan struct {
	Items []PlannedItem `json:"items"`
}

// PlanAuthority decides for each item of an upload whether it becomes an anchor, a helper or nothing, and says why.
func PlanAuthority(u Upload, o PlanOptions) *AuthorityPlan {
	p := &planner{options: o, plan: &AuthorityPlan{}, checks: maxIssuerChecks}
	if p.options.Anchors == "" {
		p.options.Anchors = AnchorsRoots
	}
	for _, i := range u.Items {
		// The upload stays as it is: warnings are appended to a list of its own.
		i.Warnings = append([]UploadWarning(nil), i.Warnings...)
		p.plan.Items = append(p.plan.Items, PlannedItem{UploadItem: i, Use: UseSkip})
	}
	for i := range p.plan.Items {
		p.item(i)
	}
	return p.plan
}

// Certificates returns what the authority would hold.
func (p *AuthorityPlan) Certificates() []CACertificate {
	var out []CACertificate
	for _, i := range p.Items {
		switch i.Use {
		case UseAnchor:
			out = append(out, CACertificate{Certificate: i.Certificate, Role: RoleAnchor})
		case UseHelper:
			out = append(out, CACertificate{Certificate: i.Certificate, Role: RoleHelper})
		default:
		}
	}
	return out
}

// Pins returns the certificates that were chosen as pins.
func (p *AuthorityPlan) Pins() []*x509.Certificate {
	var out []*x509.Certificate
	for _, i := range p.Items {
		if i.Use == UsePin {
			out = append(out, i.Certificate)
		}
	}
	return out
}

// Questions returns how many items wait for a person's choice.
func (p *AuthorityPlan) Questions() int { return p.count(UseAsk) }

func (p *AuthorityPlan) count(uses ...UploadUse) int {
	n := 0
	for _, i := range p.Items {
		for _, u := range uses {
			if i.Use == u {
				n++
			}
		}
	}
	return n
}

// Headline says in one or two sentences what is in the upload.
func (p *AuthorityPlan) Headline() string {
	things := numberInWords(len(p.Items)) + " things in it."
	if len(p.Items) == 1 {
		things = "One thing in it."
	}
	usable := p.count(UseAnchor, UseHelper, UsePin)
	switch {
	case p.Questions() > 0 && usable == 0:
		return things + " You have to choose."
	case usable == 0:
		return things + " Nothing to trust."
	case usable == 1 && len(p.Items) == 1:
		return things + " It can be trusted."
	default:
		return things + " " + numberInWords(usable) + " can be trusted."
	}
}

// Err says why there is nothing to save, or nil. It speaks of the whole; what is wrong with each item stands there.
func (p *AuthorityPlan) Err() error {
	var problems []string
	for _, i := range p.Items {
		if i.problem != "" {
			problems = append(problems, i.problem)
		}
	}
	anchors, helpers := p.count(UseAnchor), p.count(UseHelper)
	switch {
	case len(problems) > 0:
		return errors.New(strings.Join(problems, "; "))
	case p.Questions() > 0:
		return errors.New("choose whether each CA certificate that may be a client's own is to be trusted as an issuer, or pinned")
	case anchors+p.count(UsePin) > 0:
		return nil
	case helpers > 0:
		return errors.New("there is no root in it, so no chain could end here: add the root, or make the intermediate an anchor (anchors: all)")
	case len(p.Items) == 1:
		return errors.New(p.Items[0].Message)
	default:
		return errors.New("no CA certificate in it can be trusted: upload the certificate of the CA that issued your clients' certificates")
	}
}

// maxIssuerChecks bounds the signatures that are checked to find out who signed whom. Names and key identifiers must
// match first, so honest uploads need one check for each certificate.
const maxIssuerChecks = 256

type planner struct {
	options PlanOptions
	plan    *AuthorityPlan
	checks  int
}

func (p *planner) item(n int) {
	i := &p.plan.Items[n]
	defer func() {
		if i.Label == "" {
			i.Label = labelOf(*i)
		}
	}()
	switch {
	case i.Certificate == nil:
		p.notCertificate(i)
	case p.isRepeated(n):
		i.Label = "listed twice"
		i.Message = "The same certificate stands further up. It counts once."
	case i.Kind == UploadLeaf:
		p.leaf(i)
	case i.Kind == UploadUnproven:
		i.Use = UseRefuse
		i.Choices = []UploadUse{UseRefuse, UsePin}
		i.Message = "Refused as a CA: " + lowerFirst(i.Message) + " Have the CA's certificate issued again with basicConstraints CA:TRUE; or, if it is a client's own certificate, pin it."
		p.choose(i)
	default:
		p.authority(n, i)
	}
}

func (p *planner) notCertificate(i *PlannedItem) {
	switch i.Kind {
	case UploadPrivateKey, UploadPKCS12, UploadUnreadable:
		i.Use = UseRefuse
	default:
		i.Use = UseSkip
	}
}

func (p *planner) isRepeated(n int) bool {
	for _, before := range p.plan.Items[:n] {
		if before.Certificate != nil && before.Fingerprint == p.plan.Items[n].Fingerprint {
			return true
		}
	}
	return false
}

func (p *planner) leaf(i *PlannedItem) {
	c := i.Certificate
	i.Choices = []UploadUse{UseSkip, UsePin}
	var advice string
	switch {
	case p.hasCA():
		advice = "You probably copied a full chain. Nothing to do."
	case signsItself(c):
		advice = "It signed itself, so there is no CA to trust: to let in exactly this client, pin it."
	case !allowsClients(c):
		advice = "To let in the clients of its CA, upload the certificate of " + issuerTitle(c) + "."
	default:
		advice = "To let in exactly this client, pin it; to let in all clients of its CA, upload the certificate of " + issuerTitle(c) + "."
	}
	i.Message = leafInWords(c) + ", not a CA: it has no right to sign others. " + advice
	p.warnDates(i)
	p.choose(i)
}

// hasCA reports whether the upload holds a CA certificate at all.
func (p *planner) hasCA() bool {
	for _, i := range p.plan.Items {
		if i.Kind.IsCA() {
			return true
		}
	}
	return false
}

// authority decides about a CA certificate.
func (p *planner) authority(n int, i *PlannedItem) {
	c := i.Certificate
	if p.options.Now.After(c.NotAfter) && !p.options.KeepExpired {
		i.Use = UseRefuse
		i.Message = fmt.Sprintf("Refused: it ended on %s, and nothing that it signed can pass. Upload its successor.", inDays(c.NotAfter))
		p.known(i)
		p.choose(i)
		return
	}
	until := "Good until " + inDays(c.NotAfter) + "."
	asIssuer := "Signs itself. " + until
	mayNotSign := c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0
	switch {
	case i.Kind == UploadRoot && mayNotSign && !p.options.Declared:
		i.Use, i.Choices = UseAsk, []UploadUse{UsePin, UseSkip}
		i.Message = "It says CA:TRUE and signs itself, but its key usage does not allow signing certificates (keyCertSign), so no chain can end at it. It is probably a client's own certificate: pin it. " + until
	case mayNotSign:
		i.Use = UseRefuse
		i.Message = "Refused as an issuer: it says CA:TRUE, but its key usage does not allow signing certificates (keyCertSign). Have it issued again; or, if it is a client's own certificate, use it as a pin."
	case i.Kind == UploadRoot:
		i.Use, i.Choices = UseAnchor, []UploadUse{UseAnchor, UseSkip}
		i.Message = asIssuer
		if doubt := clientDoubt(c); doubt != "" {
			p.askIssuerOrPin(i, doubt, until)
		}
	default:
		signer := p.signer(n)
		i.Use, i.Choices = UseHelper, []UploadUse{UseHelper, UseAnchor, UseSkip}
		if choice := p.options.Choices[i.Fingerprint]; choice == UseAnchor || (choice == "" && p.options.Anchors == AnchorsAll) {
			i.Use, i.Choices = UseAnchor, []UploadUse{UseAnchor, UseHelper, UseSkip}
		}
		asIssuer = "Signed by " + signer + " Kept so that clients which forget to send it still work; it decides nothing. " + until
		if i.Use == UseAnchor {
			asIssuer = "Signed by " + signer + " Chains may stop here. " + until
		}
		i.Message = asIssuer
	}
	p.known(i)
	p.choose(i)
	if i.Use == UseAnchor || i.Use == UseHelper {
		i.Message = asIssuer // a question was answered, or a known certificate is added on purpose
	}
	p.warnDates(i)
	p.warnUse(i)
}

// clientDoubt says why a self-signed CA:TRUE may be a client's own certificate, as "openssl req -x509" makes them, or
// "". Whoever has its key could mint clients at will if it were trusted as an issuer.
func clientDoubt(c *x509.Certificate) string {
	for _, u := range c.ExtKeyUsage {
		if u == x509.ExtKeyUsageClientAuth {
			return "is made for clients (clientAuth)"
		}
	}
	if c.KeyUsage == 0 {
		return "does not say that its key is for signing certificates (keyCertSign)"
	}
	return ""
}

func (p *planner) askIssuerOrPin(i *PlannedItem, doubt, until string) {
	i.warn(WarnMayBeClient, true, "It says CA:TRUE and %s. It may be a client's own certificate. As an issuer, whoever has its key can make clients under any name; as a pin, it lets in exactly itself.", doubt)
	if p.options.Declared {
		return
	}
	i.Use, i.Choices = UseAsk, []UploadUse{UseAnchor, UsePin, UseSkip}
	if hasNames(i.Certificate) || strings.Contains(doubt, "clientAuth") {
		i.Choices = []UploadUse{UsePin, UseAnchor, UseSkip}
	}
	i.Message = "Issuer or pin? It signs itself, and " + doubt + ". " + until
}

// signer says who signed the certificate, ending with a period or a sentence.
func (p *planner) signer(n int) string {
	i := &p.plan.Items[n]
	name := issuerTitle(i.Certificate)
	for m := range p.plan.Items {
		if other := &p.plan.Items[m]; m != n && other.Kind.IsCA() && p.signed(other.Certificate, i.Certificate) {
			if m < n {
				return other.Title + ", above."
			}
			return other.Title + ", below."
		}
	}
	for _, k := range p.options.Known {
		if p.signed(k.Certificate, i.Certificate) {
			return fmt.Sprintf("%s, which is trusted in %q.", certificateTitle(k.Certificate), k.Authority)
		}
	}
	i.warn(WarnIssuerMissing, false, "Its issuer, %s, is neither in this file nor trusted here: chains through it end nowhere until that root is added, or this one is made an anchor.", name)
	return name + "."
}

// signed reports whether parent issued child: by name, key identifier and signature.
func (p *planner) signed(parent, child *x509.Certificate) bool {
	if !bytes.Equal(parent.RawSubject, child.RawIssuer) {
		return false
	}
	if len(parent.SubjectKeyId) > 0 && len(child.AuthorityKeyId) > 0 && !bytes.Equal(parent.SubjectKeyId, child.AuthorityKeyId) {
		return false
	}
	if p.checks == 0 {
		return false
	}
	p.checks--
	return parent.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature) == nil
}

// choose applies a person's choice.
func (p *planner) choose(i *PlannedItem) {
	choice := p.options.Choices[i.Fingerprint]
	switch {
	case choice == "" || choice == i.Use:
	case choice != UseSkip && !slices.Contains(i.Choices, choice):
		i.problem = fmt.Sprintf("%s cannot be used as %q: %s", i.Title, printable(string(choice), 20), lowerFirst(i.Message))
		i.Use = UseRefuse
	default:
		i.Use, i.Label = choice, ""
		switch choice {
		case UsePin:
			i.Message = "Exactly this certificate may enter, as long as it is valid. What its key signs may not."
		case UseSkip:
			i.Message = "Left out, as chosen."
		default:
		}
	}
}

func labelOf(i PlannedItem) string {
	switch i.Use {
	case UseAnchor:
		if i.Kind == UploadRoot {
			return "root, will be added"
		}
		return "anchor, will be added"
	case UseHelper:
		return "helper for chains"
	case UsePin:
		return "pin, will be added"
	case UseAsk:
		return "issuer or pin?"
	case UseRefuse:
		if i.Kind == UploadPrivateKey {
			return "not read, not kept"
		}
		if i.Kind == UploadUnreadable {
			return "unreadable"
		}
		return "refused"
	default:
		return "skipped"
	}
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

func numberInWords(n int) string {
	words := []string{"No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve"}
	if n < len(words) {
		return words[n]
	}
	return fmt.Sprint(n)
}
