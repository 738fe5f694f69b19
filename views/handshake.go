package views

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"countersign/termination"
	"countersign/termination/clienterror"
	"countersign/termination/wire"
	"countersign/views/format"
	"countersign/views/parts"
)

// Handshake is what the drawer and the page of one handshake show.
type Handshake struct {
	ID       string
	When     string
	Exact    string
	Tone     parts.Tone
	Mark     string
	Outcome  string
	Sentence string
	Right    string
	Turn     string
	Fixes    []termination.Fix
	ToOwner  string // a text for the client's owner, without addresses
	Stages   []Stage
	Alert    string
	Late     bool // TLS 1.3: the client may have taken it for a success
	Chain    []parts.ChainItem
	Problems []string
	Notes    []string
	Policy   []parts.Fact
	Hello    []parts.Fact
	Offers   []parts.Fact // the long lists of the ClientHello
	Offered  string       // how long they are
	Chosen   []parts.Fact
	Passing  []parts.Fact // what was seen, and what was sealed, of a handshake that passed through
	After    []parts.Fact
	Printed  []parts.Fact // what the client's tool has probably printed, by tool
	Raw      string

	EndpointHref string // the endpoint as it is now; empty: there is none any more
	Client       string
	Curl         string // a command that asks as the client did; empty: there is none
	HasChain     bool
	CSRF         string // for the form that marks it
	Marked       termination.Mark
	// CanName: the client has proven its certificate, and has no name here.
	CanName bool
}

// Stage is one measured span of a handshake, placed on the scale of all.
type Stage struct {
	Name string
	X, W string // percent
	Time string
	Fill string // of the bar
	Mark string // ✕ where it broke
	Ran  bool
}

// HandshakeOf puts a record into words.
func HandshakeOf(clock format.Clock, h *termination.Handshake, end *termination.ConnectionEnd) (Handshake, error) {
	v := Handshake{
		ID: h.ID, When: clock.Moment(h.Time), Exact: clock.Exact(h.Time), Client: h.Client.Name,
		Tone: parts.VerdictTone(h.Verdict), Mark: parts.OutcomeMark(h.Verdict.Outcome), Outcome: parts.VerdictWords(h.Verdict),
		Sentence: h.Verdict.Explanation.Sentence, Right: h.Verdict.Explanation.Right, Turn: turnWords(h.Verdict.Explanation.Turn),
		Fixes: slices.Clone(h.Verdict.Explanation.Fixes), ToOwner: h.Verdict.Explanation.ClientTo,
		Stages: stagesOf(h), Alert: AlertWords(h.Alert), HasChain: len(h.Presented) > 0,
		Policy: policyFacts(h), Hello: helloFacts(h.Hello), Chosen: chosenFacts(h), Passing: passingFacts(clock, h), After: afterFacts(clock, h, end),
	}
	if v.Sentence == "" {
		v.Sentence = outcomeLine(h)
	}
	v.Late = h.Chosen != nil && h.Chosen.Version == wire.VersionTLS13 && h.Verdict.Outcome == termination.OutcomeRefused && h.Verdict.Beat >= termination.BeatClientCert
	v.Chain = chainOf(clock, h)
	v.CanName = v.HasChain && h.Verdict.Outcome.In() && h.Chosen != nil && h.Client.Identity == "" && !h.Proof
	for _, c := range h.Verdict.Checks {
		if c.Note {
			v.Notes = append(v.Notes, c.Detail)
		} else {
			v.Problems = append(v.Problems, c.Detail)
		}
	}
	v.Curl = curlOf(h)
	raw, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return v, fmt.Errorf("write the record as JSON: %w", err)
	}
	v.Raw = string(format.JSON(raw))
	v.Offers, v.Offered = offers(h.Hello)
	for _, l := range clienterror.Lines(h) {
		v.Printed = append(v.Printed, parts.Fact{Name: l.Tool, Value: l.Text})
	}
	for i := range v.Fixes {
		v.Fixes[i].Command = VisibleLines(v.Fixes[i].Command)
	}
	v.ToOwner = VisibleLines(v.ToOwner)
	return v, nil
}

// VisibleLines makes hostile characters visible and keeps the line breaks, which are ours.
func VisibleLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = format.Visible(lines[i])
	}
	return strings.Join(lines, "\n")
}

// ChainPEM writes certificates one after the other.
func ChainPEM(certs []*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.Bytes()
}

func turnWords(t termination.Turn) string {
	switch t {
	case termination.TurnClient:
		return "It is the turn of whoever runs the client."
	case termination.TurnOperator:
		return "It is the turn of whoever runs this gateway."
	case termination.TurnCA:
		return "It is the turn of whoever issued the certificate."
	}
	return ""
}

// AlertWords says who sent an alert.
func AlertWords(a *termination.Alert) string {
	if a == nil {
		return ""
	}
	who := "the client sent"
	switch {
	case a.Sent:
		who = "we sent"
	case a.Service:
		who = "the service sent"
	}
	s := fmt.Sprintf("%s alert %d %s", who, a.Number, a.Name)
	if a.Plaintext && !a.Sent {
		s += " (in plaintext)"
	}
	return s
}

// stagesOf places the measured spans one after the other on one scale, up to where it broke.
func stagesOf(h *termination.Handshake) []Stage {
	spans := []struct {
		name         string
		d            time.Duration
		fill, broken string
	}{
		{"ClientHello read", h.Stages.Hello, "url(#hatch-opq)", "url(#hatch-bad)"},
		{"Reply: keys, our cert", h.Stages.Reply, "var(--ok)", "var(--bad)"},
		{"Waiting for the client", h.Stages.Wait, "url(#hatch-opq)", "url(#hatch-bad)"},
		{"Chain, dates, key proof", h.Stages.Check, "var(--ok)", "var(--bad)"},
	}
	if h.TerminateAt == termination.AtUpstream {
		// Only the ClientHello was read here; the rest is between the client and the service.
		spans = spans[:3]
		spans[1].name, spans[1].fill, spans[1].broken = "Service dialled, its reply", "url(#hatch-opq)", "url(#hatch-bad)"
		spans[2].name = "Client's answer"
	}
	broke := len(spans)
	if !h.Verdict.Outcome.In() {
		broke = min(max(int(h.Verdict.Beat), 1), len(spans)) - 1
		// Nobody ended it, it just went no further: what ran last is where it hung.
		for h.Verdict.Outcome == termination.OutcomeBrokenOff && broke > 0 && spans[broke].d < 0 {
			broke--
		}
		if h.Verdict.Beat == termination.BeatClientCert && len(spans) == 4 {
			// The chain is judged before the key is proven (RFC 8446, section 4.4.3): nothing is known about the key.
			spans[3].name = "Chain and dates"
		}
	}
	var total time.Duration
	for i, s := range spans {
		if s.d >= 0 && i <= broke {
			total += s.d
		}
	}
	var out []Stage
	var at time.Duration
	for i, s := range spans {
		stage := Stage{Name: s.name, Fill: s.fill, Ran: s.d >= 0 && i <= broke && total > 0}
		if i == broke {
			stage.Mark, stage.Fill = "✕", s.broken
		}
		if stage.Ran {
			stage.X, stage.W = share(at, total), share(s.d, total)
			stage.Time = format.Duration(s.d)
			at += s.d
		}
		out = append(out, stage)
	}
	return out
}

func share(part, whole time.Duration) string {
	return strconv.FormatFloat(float64(part)*100/float64(whole), 'f', 2, 64) + "%"
}

// chainOf draws the chain: as it was found, or, where none was found, as it was presented.
func chainOf(clock format.Clock, h *termination.Handshake) []parts.ChainItem {
	sent := map[termination.Fingerprint]bool{}
	for _, c := range h.Presented {
		sent[termination.FingerprintOf(c)] = true
	}
	broken := map[int]bool{}
	for _, c := range h.Verdict.Checks {
		if !c.Note && c.Certificate >= 0 {
			broken[c.Certificate] = true
		}
	}
	certs := h.Path
	if len(certs) == 0 {
		certs = h.Presented
	}
	var out []parts.ChainItem
	for i, c := range certs {
		item := parts.ChainItem{
			State: parts.ChainGood, Name: certificateName(c), Tag: "sent by client",
			Details: []string{certificateLine(c)},
			Life:    &parts.Life{From: c.NotBefore, Until: c.NotAfter, Now: clock.Now},
		}
		switch {
		case broken[i] && (len(h.Path) == 0 || sent[termination.FingerprintOf(c)]):
			item.State, item.TagTone = parts.ChainBroken, parts.Bad
		case len(h.Path) > 0 && i == len(h.Path)-1:
			item.State, item.Tag, item.TagTone = parts.ChainAnchor, "trusted here", parts.OK
		case !sent[termination.FingerprintOf(c)]:
			item.Tag = "found here"
		case h.Passed != nil:
			item.Tag, item.TagTone = "seen in passing, unproven", parts.Sealed
		}
		if c.NotAfter.Before(clock.Now) {
			item.Tag, item.TagTone = "ended "+clock.Date(c.NotAfter), parts.Bad
		}
		out = append(out, item)
	}
	return out
}

func certificateName(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return c.Subject.CommonName
	}
	if s := termination.NameText(c.Subject); s != "" {
		return s
	}
	return "without a subject"
}

// certificateLine is what stands below a certificate's name.
func certificateLine(c *x509.Certificate) string {
	facts := []string{termination.KeyName(c.PublicKey)}
	for _, u := range c.URIs {
		facts = append(facts, u.String())
	}
	facts = append(facts, c.DNSNames...)
	facts = append(facts, c.EmailAddresses...)
	if len(facts) > 5 {
		facts = append(facts[:5], "and more")
	}
	facts = append(facts, format.ShortFingerprint(termination.FingerprintOf(c)))
	return strings.Join(facts, " · ")
}

func policyFacts(h *termination.Handshake) []parts.Fact {
	if h.Endpoint == "" {
		return nil
	}
	facts := []parts.Fact{seen("Endpoint", termination.FilterEndpoint, h.Endpoint)}
	if h.TerminateAt == termination.AtUpstream {
		return append(facts, parts.Fact{Name: "Policy", Value: "decided by the service behind; sealed for us", Tone: parts.Sealed})
	}
	facts = append(facts, parts.Fact{Name: "Mode", Value: string(h.Mode)})
	if h.Client.Identity != "" {
		facts = append(facts, seen("Known as", termination.FilterIdentity, h.Client.Identity))
	}
	if h.Client.Authority != "" {
		facts = append(facts, seen("Authority", termination.FilterCA, h.Client.Authority))
	}
	if h.Client.Pin != "" {
		facts = append(facts, parts.Fact{Name: "Pin", Value: h.Client.Pin})
	}
	return append(facts, parts.Fact{Name: "Revision", Value: strconv.FormatUint(h.Revision, 10), Note: "policy " + short(h.PolicyHash)})
}

func short(s string) string { return s[:min(len(s), 12)] }

// helloFacts lists what the client offered, GREASE values (RFC 8701) hidden behind their count.
func helloFacts(h *termination.ClientHello) []parts.Fact {
	if h == nil {
		return nil
	}
	name := seen("SNI", termination.FilterSNI, h.ServerName)
	if h.ServerName == "" {
		name.Value = "none"
	}
	facts := []parts.Fact{
		name,
		{Name: "Versions", Value: names(h.Versions, wire.VersionName)},
		{Name: "Groups", Value: names(h.Groups, wire.GroupName)},
		{Name: "Key shares", Value: names(h.KeyShares, wire.GroupName)},
		{Name: "Post-quantum", Value: yes(h.PostQuantum, "offered", "not offered")},
		{Name: "ALPN", Value: orNone(strings.Join(h.ALPN, " "))},
		{Name: "ECH", Value: yes(h.ECH, "seen, in earnest or as GREASE", "not seen")},
		{Name: "Resumption", Value: yes(h.OffersResumption, "a ticket was offered", "not offered")},
		seen("JA4", termination.FilterJA4, h.JA4),
		{Name: "JA3", Value: h.JA3},
		{Name: "Size", Value: fmt.Sprintf("%s in %s", format.Bytes(int64(h.Size)), format.Count(h.Records, "record", "records"))},
	}
	if h.EarlyData {
		facts = append(facts, parts.Fact{Name: "0-RTT", Value: "sent; never accepted here"})
	}
	return facts
}

// offers are the lists of a ClientHello that are too long to stand open, and how long they are.
func offers(h *termination.ClientHello) ([]parts.Fact, string) {
	if h == nil {
		return nil, ""
	}
	return []parts.Fact{
		{Name: "Suites", Value: names(h.CipherSuites, wire.CipherSuiteName)},
		{Name: "Signatures", Value: names(h.SignatureSchemes, wire.SignatureSchemeName)},
		{Name: "Extensions", Value: names(h.Extensions, wire.ExtensionName)},
	}, format.Count(len(h.CipherSuites), "cipher suite", "cipher suites") + ", " +
		format.Count(len(h.SignatureSchemes), "signature scheme", "signature schemes") + ", " +
		format.Count(len(h.Extensions), "extension", "extensions")
}

func names(values []uint16, name func(uint16) string) string {
	var out []string
	grease := 0
	for _, v := range values {
		if wire.IsGREASE(v) {
			grease++
			continue
		}
		out = append(out, name(v))
	}
	if grease > 0 {
		out = append(out, fmt.Sprintf("+%d GREASE", grease))
	}
	return orNone(strings.Join(out, ", "))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func yes(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

func chosenFacts(h *termination.Handshake) []parts.Fact {
	n := h.Chosen
	if n == nil {
		return nil
	}
	facts := []parts.Fact{{Name: "Version", Value: wire.VersionName(n.Version)}, {Name: "Suite", Value: wire.CipherSuiteName(n.CipherSuite)}}
	if n.Group != 0 {
		facts = append(facts, parts.Fact{Name: "Key exchange", Value: wire.GroupName(n.Group), Note: yes(n.PostQuantum, "post-quantum", ""), Tone: parts.OK})
	}
	facts = append(facts, chosenALPN(h))
	if n.HelloRetry {
		facts = append(facts, parts.Fact{Name: "Hello retry", Value: "asked for another key share"})
	}
	return append(facts, chosenSession(h))
}

// afterFacts tells what became of the connection.
func afterFacts(clock format.Clock, h *termination.Handshake, end *termination.ConnectionEnd) []parts.Fact {
	facts := []parts.Fact{peerFact(h), {Name: "Listener", Value: h.Local.String()}}
	up := h.Upstream
	if end != nil && end.Upstream != nil {
		up = end.Upstream
	}
	if up != nil {
		f := parts.Fact{Name: "Upstream", Value: up.Address, Note: "connected in " + format.Duration(up.Connect)}
		if up.Error != "" {
			f.Note, f.Tone = up.Error, parts.Bad
		}
		facts = append(facts, f)
	}
	if end == nil {
		if h.Verdict.Outcome.In() {
			facts = append(facts, parts.Fact{Name: "Connection", Value: "open, or its end was not kept"})
		}
		return facts
	}
	if end.Reason != "" {
		info, _ := end.Reason.Info()
		facts = append(facts, parts.Fact{Name: "Then", Value: info.Title, Note: end.Detail, Tone: parts.Bad})
	}
	facts = append(facts,
		parts.Fact{Name: "Bytes", Value: format.Bytes(end.BytesIn) + " in, " + format.Bytes(end.BytesOut) + " out"},
		parts.Fact{Name: "Lasted", Value: format.Duration(end.Time.Sub(h.Time)), Note: "until " + clock.Time(end.Time)},
		parts.Fact{Name: "Closed by", Value: "the " + string(end.ClosedBy)},
	)
	if end.Requests > 0 {
		facts = append(facts, parts.Fact{Name: "Requests", Value: format.Int(end.Requests)})
	}
	return facts
}

// actionLabel names what lies behind the address of a fix.
func actionLabel(action string) string {
	path, _, _ := strings.Cut(action, "?")
	switch {
	case path == "/certificates/issue":
		return "Issue a certificate"
	case path == "/endpoints/new":
		return "New endpoint"
	case path == "/live":
		return "Latest handshakes"
	case path == "/settings":
		return "Open Settings"
	case strings.HasPrefix(path, "/endpoints/"):
		return "Open the endpoint"
	case strings.HasPrefix(path, "/certificates"):
		return "Open Certificates"
	case path == "/authorities":
		return "Open Trust"
	case path == "/blocked":
		return "Open the block list"
	case strings.HasPrefix(path, "/blocked/"):
		return "Open the block"
	case strings.HasPrefix(path, "/authorities/"):
		return "Open the CA"
	}
	return "Open"
}

// nextMark is the shape after one; after the last comes none, and after none the first.
func nextMark(m termination.Mark) termination.Mark {
	all := termination.Marks()
	if i := slices.Index(all, m) + 1; i < len(all) {
		return all[i]
	}
	return ""
}
