package verify

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"countersign/termination"
)

// Explain finds out why a handshake ended as it did and writes it into h.Verdict: it may put a more exact reason in the
// place of a general one, adds failed checks that are missing, and fills the explanation. It is meant for a goroutine
// that no client waits for. It decides nothing: outcome, beat and everything else of h stay as they are.
func (s *Search) Explain(h *termination.Handshake, now time.Time) {
	a := s.account(h, now)
	a.fillChecks()
	a.refine()
	h.Verdict.Explanation = a.explanation()
}

// ExplainEnd finds out why a connection that was let in ended as it did, and writes that into h's explanation in the place
// of what there was, with the upstream that it speaks of. Without a reason in end it changes nothing.
func (s *Search) ExplainEnd(h *termination.Handshake, end termination.ConnectionEnd, now time.Time) {
	if end.Reason == "" {
		return
	}
	if end.Upstream != nil {
		h.Upstream = end.Upstream
	}
	after := *h
	after.Verdict.Reason, after.Verdict.Checks, after.Error = end.Reason, nil, end.Detail
	h.Verdict.Explanation = s.account(&after, now).explanation()
}

// account is one handshake on its way to an explanation.
type account struct {
	search    *Search
	handshake *termination.Handshake
	now       time.Time
	endpoint  *termination.Endpoint // nil: none
	policy    *Policy               // nil: none
	leaf      *x509.Certificate     // nil: none was presented
	origin    origin                // where the leaf's issuer was looked for
}

func (s *Search) account(h *termination.Handshake, now time.Time) *account {
	a := &account{search: s, handshake: h, now: now, endpoint: s.endpoint(h)}
	a.policy = s.policy(a.endpoint, h.PolicyHash)
	if len(h.Presented) > 0 && h.Presented[0] != nil && len(h.Presented[0].Raw) > 0 {
		a.leaf = h.Presented[0]
	}
	return a
}

// fillChecks judges again where the record holds no checks, as when crypto/tls refused before our own verification ran.
func (a *account) fillChecks() {
	v := &a.handshake.Verdict
	info, _ := v.Reason.Info()
	if len(v.Checks) > 0 || a.policy == nil || a.leaf == nil || info.Beat != termination.BeatClientCert || v.Reason == termination.ReasonCertMissing {
		return
	}
	v.Checks = a.policy.Judge(Showing(a.handshake.Presented...), a.now).Checks
}

// refine puts the real cause in the place of a reason that stands for several.
func (a *account) refine() {
	switch a.handshake.Verdict.Reason {
	case termination.ReasonCAUnknown, termination.ReasonCAOtherEndpoint, termination.ReasonCASameName,
		termination.ReasonChainGap, termination.ReasonCertSelf:
		a.refineIssuer()
	case termination.ReasonClientRefusedUs, termination.ReasonClientRefusedUsCA:
		a.refineServerCertificate()
	default: // says it all by itself
	}
}

func (a *account) explanation() termination.Explanation {
	ex := a.words()
	a.tellMistake(&ex)
	ex.Sentence += a.reportOnly()
	info, _ := a.handshake.Verdict.Reason.Info()
	if ex.Turn == "" {
		ex.Turn = info.Turn
	}
	return ex
}

// reportOnly says what a policy that only reports has changed about the end; empty: nothing.
func (a *account) reportOnly() string {
	switch v := a.handshake.Verdict; {
	case v.WouldRefuse:
		return fmt.Sprintf(" It was let in all the same: the policy of %s only reports so far, and would refuse it otherwise.", a.at())
	case v.ReportOnly && v.Outcome == termination.OutcomeVerified:
		return " It would come in, too, were the policy enforced; until then the service is not told who it is."
	}
	return ""
}

// words puts the verdict into words. In every explanation the first fix lowers no security; a test holds that.
func (a *account) words() termination.Explanation {
	switch r := a.handshake.Verdict.Reason; r {
	case "":
		return a.fine()
	case termination.ReasonCAUnknown, termination.ReasonCAOtherEndpoint, termination.ReasonCASameName,
		termination.ReasonChainGap, termination.ReasonCertSelf:
		return a.issuerWords(r)
	case termination.ReasonCertExpired, termination.ReasonCertEarly, termination.ReasonCAExpired:
		return a.dateWords(r)
	case termination.ReasonCertUse, termination.ReasonCertWeak, termination.ReasonCertNameLimits, termination.ReasonChainTooDeep,
		termination.ReasonIssuerNotCA, termination.ReasonCertExtension, termination.ReasonCertMalformed:
		return a.traitWords(r)
	case termination.ReasonRevoked, termination.ReasonRevocationUnknown:
		return a.revokedWords(r)
	case termination.ReasonNotListed, termination.ReasonCertMissing, termination.ReasonKeyProof:
		return a.clientWords(r)
	case termination.ReasonClientRefusedUsCA, termination.ReasonClientRefusedUsName, termination.ReasonClientRefusedUsDate,
		termination.ReasonClientRefusedUs, termination.ReasonClientLeft:
		return a.serverWords(r)
	case termination.ReasonNotTLS, termination.ReasonSilent, termination.ReasonHelloBroken, termination.ReasonProxyHeader,
		termination.ReasonStartTLS, termination.ReasonOverloaded:
		return a.openingWords(r)
	case termination.ReasonNameMissing, termination.ReasonNameUnknown:
		return a.nameWords(r)
	case termination.ReasonVersionLow, termination.ReasonNoCommonSuite, termination.ReasonNoCommonGroup,
		termination.ReasonALPN, termination.ReasonEarlyData:
		return a.offerWords(r)
	default:
		return a.otherWords(r)
	}
}

// fine says what happened where nothing went wrong.
func (a *account) fine() termination.Explanation {
	v := a.handshake.Verdict
	switch {
	case v.Outcome == termination.OutcomeVerified && a.handshake.Client.Pin != "":
		return a.noted(termination.Explanation{Sentence: fmt.Sprintf("%s came in at %s: its certificate is pinned there.", a.who(), a.at())})
	case v.Outcome == termination.OutcomeVerified && a.handshake.Client.Authority != "":
		return a.noted(termination.Explanation{Sentence: fmt.Sprintf("%s came in at %s with a certificate of the authority %s.", a.who(), a.at(), a.handshake.Client.Authority)})
	case v.Outcome == termination.OutcomeVerified:
		return termination.Explanation{Sentence: fmt.Sprintf("%s came in at %s with a certificate that is trusted there.", a.who(), a.at())}
	case v.Outcome == termination.OutcomePassed:
		return a.passedWords()
	case v.Outcome == termination.OutcomeOpen:
		return termination.Explanation{Sentence: fmt.Sprintf("A client came in at %s without a certificate, as its policy allows.", a.at())}
	}
	return termination.Explanation{}
}

// who names the client as it names itself; before its key is proven that is a claim.
func (a *account) who() string {
	if n := a.clientName(); n != "" {
		return n
	}
	return "A client"
}

// clientName is the client's best name, fit for a sentence, or nothing.
func (a *account) clientName() string {
	if n := a.handshake.Client.Name; n != "" {
		return visible(n, maxNameText)
	}
	return BestName(a.leaf).Name
}

// at names the endpoint; where there is none, the port that was called.
func (a *account) at() string {
	if a.endpoint != nil {
		return a.endpoint.Name
	}
	if a.handshake.Endpoint != "" {
		return visible(a.handshake.Endpoint, maxNameText)
	}
	return a.port()
}

func (a *account) port() string {
	if a.handshake.Local.IsValid() {
		return "port " + strconv.Itoa(int(a.handshake.Local.Port()))
	}
	return "this gateway"
}

// came begins the sentence about a client with a certificate that did not pass, in or out.
func (a *account) came() string {
	if a.handshake.Verdict.Outcome.In() {
		return a.who() + " was let in, but not verified,"
	}
	return a.who() + " tried to get in"
}

// failing returns the first failed check of this reason.
func (a *account) failing(r termination.Reason) (termination.Check, bool) {
	for _, c := range a.handshake.Verdict.Checks {
		if c.Reason == r && !c.Note {
			return c, true
		}
	}
	return termination.Check{}, false
}

// onlyProblem reports whether every failed check has this reason.
func (a *account) onlyProblem(r termination.Reason) bool {
	for _, c := range a.handshake.Verdict.Checks {
		if c.Reason != r && !c.Note {
			return false
		}
	}
	return true
}

// anchors names what the endpoint trusts.
func (a *account) anchors() []string {
	if a.policy == nil {
		return nil
	}
	var names []string
	for _, c := range a.policy.anchors {
		if n := certName(c); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

// trusts says in a clause what the endpoint trusts.
func (a *account) trusts() string {
	switch names := a.anchors(); {
	case len(names) > 0:
		return fmt.Sprintf("%s trusts %s", a.at(), list(names, 4))
	case a.policy != nil && len(a.policy.pins) > 0:
		return fmt.Sprintf("%s trusts only the certificates on its list", a.at())
	}
	return a.at() + " trusts no authority"
}

// sawAlert says what the client was told, in the words that its tools print.
func (a *account) sawAlert() string {
	alert := a.handshake.Alert
	if alert == nil || !alert.Sent {
		return ""
	}
	s := fmt.Sprintf(" It was told by TLS alert %d, %s.", alert.Number, visible(alert.Name, maxNameText))
	switch {
	case alert.Number == 45 && a.handshake.Verdict.Reason == termination.ReasonCertEarly:
		s += " TLS has no alert of its own for a certificate that is not valid yet."
	case slices.Contains([]uint8{40, 42, 43, 44, 45, 46}, alert.Number):
		s += " OpenSSL and curl print it as “sslv3 alert …”, which has nothing to do with SSL 3."
	}
	return s
}

// toClient writes the text for the client's owner: which client, where, when, why, what to do; no addresses.
func (a *account) toClient(cause, ask string) string {
	var b strings.Builder
	b.WriteString("Your client")
	if n := a.clientName(); n != "" {
		fmt.Fprintf(&b, " “%s”", n)
	}
	if a.leaf != nil {
		fmt.Fprintf(&b, " (certificate SHA-256 %s, issued by %s)", termination.FingerprintOf(a.leaf), issuerName(a.leaf))
	}
	fmt.Fprintf(&b, " %s at %s", a.fate(), a.at())
	if name := a.serverName(); name != "" {
		fmt.Fprintf(&b, " (%s)", name)
	}
	fmt.Fprintf(&b, " on %s: %s.", stamp(a.handshake.Time), cause)
	if ask != "" {
		b.WriteString(" " + ask)
	}
	b.WriteString(a.sawAlert())
	return b.String()
}

// fate says what became of the client, for its owner.
func (a *account) fate() string {
	if a.handshake.Verdict.WouldRefuse {
		return "is let in for now, but will be refused once the policy is enforced,"
	}
	switch v := a.handshake.Verdict; v.Outcome {
	case termination.OutcomeOpen:
		return "was let in without being verified"
	case termination.OutcomeVerified:
		if v.Reason == "" {
			return "was let in"
		}
		return "was let in, but then turned away,"
	default:
		return "was refused"
	}
}

// serverName is a name to reach the endpoint by: the one that was asked for if it is one, else the endpoint's own. It
// is safe in a command, since only host name characters pass.
func (a *account) serverName() string {
	if a.handshake.Hello != nil {
		if n, err := termination.NormalizeName(a.handshake.Hello.ServerName); err == nil && !strings.HasPrefix(n, "*.") {
			return n
		}
	}
	if a.endpoint != nil {
		return a.endpoint.Host
	}
	return ""
}

// target is the URL of the endpoint as a client would call it, or nothing.
func (a *account) target() string {
	name := a.serverName()
	if name == "" || a.endpoint == nil {
		return ""
	}
	return urlOf(a.endpoint, name)
}

func urlOf(e *termination.Endpoint, name string) string {
	if e.Scheme == termination.SchemeHTTPS && e.Port == 443 {
		return "https://" + name + "/"
	}
	if e.Scheme == termination.SchemeHTTPS {
		return fmt.Sprintf("https://%s:%d/", name, e.Port)
	}
	return fmt.Sprintf("%s:%d", name, e.Port)
}

// call is a command that calls the endpoint, with these curl options or what openssl has for them.
func (a *account) call(certificate, chain bool) string {
	target := a.target()
	if target == "" {
		return ""
	}
	file := "client.crt"
	if chain {
		file = "client-chain.crt"
	}
	if a.endpoint.Scheme == termination.SchemeHTTPS {
		args := "curl"
		if certificate {
			args += " --cert " + file + " --key client.key"
		}
		if a.local() {
			args += " --cacert local-ca.pem"
		}
		return args + " " + target
	}
	args := "openssl s_client -connect " + target + " -servername " + a.serverName()
	switch {
	case certificate && chain:
		args += " -cert client.crt -cert_chain client-chain.crt -key client.key"
	case certificate:
		args += " -cert client.crt -key client.key"
	}
	if a.local() {
		args += " -CAfile local-ca.pem"
	}
	return args
}

// local reports whether the endpoint's server certificate comes from the local CA, which clients do not know by themselves.
func (a *account) local() bool {
	return a.endpoint != nil && a.endpoint.TerminateAt != termination.AtUpstream &&
		(len(a.endpoint.Certificates) == 0 || slices.Contains(a.endpoint.Certificates, termination.CertificateLocal))
}

// issue is the fix that gives the client a certificate that passes.
func (a *account) issue(text string) termination.Fix {
	if ca := a.search.localCA(a.endpoint); ca != nil {
		fix := termination.Fix{Text: fmt.Sprintf("%s; the key of the authority %s is kept here.", text, ca.Name), Action: "/certificates/issue"}
		if name := a.clientName(); name != "" {
			fix.Action += "?name=" + url.QueryEscape(name)
		}
		return fix
	}
	if a.policy != nil && len(a.policy.anchors) == 0 && len(a.policy.pins) > 0 {
		return termination.Fix{
			Text:    text + ". Here it signs itself, and its fingerprint goes on the list.",
			Command: "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj /CN=" + a.plainName() + " -keyout new-client.key -out new-client.crt",
			Action:  a.endpointPage(),
		}
	}
	fix := termination.Fix{Text: text + "; this makes the request to be signed."}
	if names := a.anchors(); len(names) > 0 {
		fix.Text = fmt.Sprintf("%s. Trusted at %s: %s. This makes the request to be signed.", text, a.at(), list(names, 4))
	}
	fix.Command = "openssl x509 -x509toreq -in client.crt -signkey client.key -out client.csr"
	if a.leaf == nil {
		fix.Command = a.request()
	}
	return fix
}

// request is a command that makes a new key and a request for it.
func (a *account) request() string {
	return "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=" + a.plainName() + " -keyout new-client.key -out new-client.csr"
}

// plainName is the client's common name if a shell and openssl read it as nothing but a name, else a placeholder.
func (a *account) plainName() string {
	if a.leaf == nil {
		return "client"
	}
	cn := a.leaf.Subject.CommonName
	for i := range len(cn) {
		c := cn[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && (i == 0 || c != '-' && c != '.' && c != '_') {
			return "client"
		}
	}
	if cn == "" || len(cn) > 64 {
		return "client"
	}
	return cn
}

// alternatives joins names with "or".
func alternatives(names []string, limit int) string {
	s := list(names, limit)
	if i := strings.LastIndex(s, " and "); i >= 0 && len(names) > 1 {
		return s[:i] + " or " + s[i+len(" and "):]
	}
	return s
}

func (a *account) endpointPage() string {
	if a.endpoint == nil {
		return "/endpoints"
	}
	return "/endpoints/" + url.PathEscape(a.endpoint.Name)
}

func authorityPage(name string) string {
	if name == "" {
		return "/authorities"
	}
	return "/authorities/" + url.PathEscape(name)
}

// libraryWords are the TLS library's own words, for experts. What it calls a bad record MAC is an alert that came
// unencrypted: the explanation must not repeat that.
func (a *account) libraryWords() string {
	e := a.handshake.Error
	if strings.Contains(e, "bad record MAC") {
		if a.handshake.Alert != nil && a.handshake.Alert.Plaintext {
			return ""
		}
		return "an unreadable record"
	}
	return visible(strings.TrimPrefix(e, "tls: "), maxDetailText)
}

// clause turns the sentence of a check into one that can follow a colon.
func clause(detail string) string {
	detail = strings.TrimSuffix(detail, ".")
	for _, word := range []string{"It ", "Its ", "The ", "No ", "More ", "A CA ", "One "} {
		if strings.HasPrefix(detail, word) {
			return strings.ToLower(detail[:1]) + detail[1:]
		}
	}
	return detail
}

// versions names TLS versions without those that are there only to keep servers honest (GREASE, RFC 8701).
func versions(list []uint16) []string {
	var names []string
	for _, v := range list {
		if !grease(v) {
			names = append(names, tls.VersionName(v))
		}
	}
	return names
}

func grease(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }
