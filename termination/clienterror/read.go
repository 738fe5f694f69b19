package clienterror

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"countersign/termination"
)

// The limits of what [Read] looks at.
const (
	MaxText     = 4 << 10 // bytes
	maxLines    = 64
	maxReadings = 8
)

// Fault says who has to do something.
type Fault string

// Who is at fault.
const (
	FaultClient  Fault = "client"  // the client, or how it was called
	FaultServer  Fault = "server"  // whoever presented the server's certificate, or runs the gateway
	FaultNetwork Fault = "network" // what lies between, or not known
)

// Reading is what one printed line means.
type Reading struct {
	Line    string               `json:"line"`           // as far as it was looked at
	Tool    string               `json:"tool,omitempty"` // that prints such lines; empty: several
	Alert   uint8                `json:"alert,omitempty"`
	Name    string               `json:"alert_name,omitempty"`
	Meaning string               `json:"meaning"`
	Fault   Fault                `json:"fault"`
	Do      []string             `json:"do"`                // what to do, the likeliest first
	Notes   []string             `json:"notes,omitempty"`   // what misleads in it
	Reasons []termination.Reason `json:"reasons,omitempty"` // for which handshakes of this gateway it may stand
}

// Filter selects the handshakes that a reading may stand for, in the filter language; empty: none is recorded here.
func (r *Reading) Filter() string {
	if len(r.Reasons) == 0 {
		return ""
	}
	codes := make([]string, len(r.Reasons))
	for i, c := range r.Reasons {
		codes[i] = string(c)
	}
	return "reason:" + strings.Join(codes, ",")
}

// Read says what the lines of a paste mean, each meaning once, in their order; none where nothing is recognised. Only the
// first [MaxText] bytes are looked at. Nothing in the answers but Line and what is quoted of a command comes from the paste.
func Read(text string) []Reading {
	if len(text) > MaxText {
		text = strings.ToValidUTF8(text[:MaxText], "")
	}
	var out []Reading
	t := newTables()
	n := 0
	for line := range strings.Lines(text) {
		if n++; n > maxLines || len(out) == maxReadings {
			break
		}
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		r, ok := t.readLine(line)
		if !ok || slices.ContainsFunc(out, func(o Reading) bool { return o.Meaning == r.Meaning }) {
			continue
		}
		r.Line = shorten(line, 300)
		out = append(out, r)
	}
	return out
}

func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// tables are what lines are compared with, made once for a paste.
type tables struct {
	alerts   []alert
	patterns [][]pattern // of each alert
	causes   []cause
}

func newTables() *tables {
	t := &tables{alerts: alerts(), causes: causes()}
	for _, a := range t.alerts {
		t.patterns = append(t.patterns, a.patterns())
	}
	return t
}

func (t *tables) readLine(line string) (Reading, bool) {
	if r, ok := readDashes(line); ok {
		return r, true
	}
	plain := normal(line)
	atServer := seenByServer(plain)
	if number, tool, ok := t.alertIn(plain, line); ok {
		if atServer {
			return receivedByServer(number), true
		}
		r := AlertReading(number)
		r.Tool = tool
		r.Notes = append(r.Notes, alertNotes(plain, number)...)
		return r, true
	}
	if atServer {
		if r, ok := verifiedByServer(plain); ok {
			return r, true
		}
	}
	for _, c := range t.causes {
		for _, p := range c.patterns {
			if strings.Contains(plain, p) {
				return c.reading(plain), true
			}
		}
	}
	return Reading{}, false
}

// normal makes lines comparable: lower case, no underscores, single spaces.
func normal(line string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(line), func(r rune) bool { return r == '_' || unicode.IsSpace(r) }), " ")
}

// seenByServer recognises lines of a server's log: who was told and who told are then the other way round.
func seenByServer(plain string) bool {
	return strings.Contains(plain, "tls handshake error from") || strings.Contains(plain, "ssl do handshake() failed") && strings.Contains(plain, "while ssl handshaking, client") ||
		strings.Contains(plain, "ssl accept")
}

// receivedByServer reads an alert in the log of a server: the client sent it, about the server's certificate.
func receivedByServer(number uint8) Reading {
	r := AlertReading(number)
	r.Meaning = fmt.Sprintf("A server writes that its client ended the handshake with alert %d (%s): the client did not accept the server's certificate.", number, r.Name)
	r.Fault = FaultClient
	r.Notes = []string{"Such a line in a server's log says nothing about the client's own certificate."}
	r.Reasons = []termination.Reason{termination.ReasonClientRefusedUs, termination.ReasonClientRefusedUsCA, termination.ReasonClientRefusedUsName}
	r.Do = []string{"Give the client the CA of the server's certificate, as curl --cacert does.", "Compare the name that the client calls with the names in the server's certificate, and look at the client's clock."}
	switch number {
	case 48:
		r.Reasons = []termination.Reason{termination.ReasonClientRefusedUsCA}
		r.Do = r.Do[:1]
	case 45:
		r.Reasons = []termination.Reason{termination.ReasonClientRefusedUsDate}
		r.Fault, r.Do = FaultServer, []string{"Renew the server's certificate, or correct the client's clock."}
	}
	return r
}

// verifiedByServer reads what a server in Go writes about a client's certificate, in the same words in which clients speak of
// a server's.
func verifiedByServer(plain string) (Reading, bool) {
	for _, p := range []struct {
		text   string
		number uint8
	}{{"signed by unknown authority", 48}, {"certificate has expired or is not yet valid", 45}, {"incompatible key usage", 42}} {
		if strings.Contains(plain, p.text) {
			r := AlertReading(p.number)
			r.Tool = "Go"
			r.Meaning = fmt.Sprintf("A server writes that it refused its client's certificate, and told the client so by alert %d, %s.", p.number, r.Name)
			return r, true
		}
	}
	return Reading{}, false
}

// alertIn finds the alert that a line tells of, and the tool that prints it so.
func (t *tables) alertIn(plain, line string) (number uint8, tool string, ok bool) {
	for _, before := range []string{"alert number ", "received alert [", "tls alert ", "fatal alert "} {
		if n, found := numberAfter(plain, before); found {
			if before == "received alert [" {
				return n, "GnuTLS", true
			}
			return n, toolOf(plain), true
		}
	}
	longest := 0 // "unknown certificate authority" is another alert than "unknown certificate"
	for i, a := range t.alerts {
		for _, p := range t.patterns[i] {
			if len(p.text) > longest && strings.Contains(plain, p.text) {
				longest, number, tool = len(p.text), a.number, p.tool
			}
		}
		if strings.Contains(line, "rustls") && strings.Contains(line, a.rustls) || strings.Contains(line, "AlertReceived("+a.rustls+")") || strings.Contains(line, "fatal alert: "+a.rustls) {
			return a.number, "Rust, rustls", true
		}
	}
	if longest > 0 {
		if tool == "" {
			tool = toolOf(plain)
		}
		return number, tool, true
	}
	// LibreSSL on macOS and OpenSSL without its texts print the number alone: 1000 and the alert's.
	for _, before := range []string{"reason(", "error:0a000", "error:14094", "error:1404c", "error:1401e"} {
		if n, found := opensslReason(plain, before); found {
			return n, toolOf(plain), true
		}
	}
	return 0, "", false
}

type pattern struct{ text, tool string }

// patterns are how tools print an alert that they received, as [normal] writes it. Codes that stand for several alerts, as
// some of Schannel and Chrome, are among the causes.
func (a alert) patterns() []pattern {
	name := strings.ReplaceAll(a.name, "_", " ")
	out := []pattern{
		{a.openssl, ""},
		{a.newer(), ""},
		{"remote error: " + strings.ToLower(a.goText()), "Go"},
		{"remote error: " + name, "Go"}, // of pion and other copies
		{"received fatal alert: " + name, "Java"},
		{"gnutls handshake() failed: " + strings.ToLower(a.gnutls), "curl or git, GnuTLS"},
		{"tls alert, " + opensslTrace(a), "openssl, curl -v"},
		{"tls alert: '" + strings.ToLower(camel(a.name)) + "'", ".NET"},
	}
	if a.firefox != "" {
		out = append(out, pattern{normal(a.firefox), "Firefox"})
	}
	if strings.HasSuffix(a.chrome, "_ALERT") {
		out = append(out, pattern{normal(a.chrome), "Chrome, Edge"})
	}
	switch a.number { // those whose code stands for no other alert
	case 44, 49, 51, 70, 71, 80:
		code, _, _ := strings.Cut(a.schannel, " ")
		out = append(out, pattern{normal(code), "Windows, Schannel"})
	}
	if _, code, ok := strings.Cut(a.apple, "("); ok {
		name, _, _ := strings.Cut(a.apple, " ")
		out = append(out, pattern{strings.ToLower(name), "macOS"}, pattern{"ssl error " + strings.TrimSuffix(code, ")"), "macOS"}, pattern{"osstatus error " + strings.TrimSuffix(code, ")"), "macOS"})
	}
	return out
}

// opensslTrace is how curl -v and openssl -msg write an alert: "TLS alert, unknown CA (560)".
func opensslTrace(a alert) string {
	words := strings.ReplaceAll(a.name, "_", " ")
	for _, prefix := range []string{"sslv3 alert ", "tlsv1 alert ", "tlsv13 alert "} {
		if rest, ok := strings.CutPrefix(a.openssl, prefix); ok {
			words = rest
		}
	}
	return words
}

func numberAfter(plain, before string) (uint8, bool) {
	_, rest, found := strings.Cut(plain, before)
	if !found {
		return 0, false
	}
	end := 0
	for end < len(rest) && end < 4 && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	n, err := strconv.ParseUint(rest[:end], 10, 8)
	return uint8(n), err == nil
}

// opensslReason decodes the reason number of an error of OpenSSL or LibreSSL: alerts are 1000 and their number.
func opensslReason(plain, before string) (uint8, bool) {
	_, rest, found := strings.Cut(plain, before)
	if !found {
		return 0, false
	}
	base, end := 16, 3
	if before == "reason(" {
		base, end = 10, 4
	}
	if len(rest) < end {
		return 0, false
	}
	n, err := strconv.ParseUint(rest[:end], base, 16)
	if err != nil || n < 1000 || n > 1255 {
		return 0, false
	}
	return uint8(n - 1000), true
}

// toolOf names the tool whose habits a line of OpenSSL shows.
func toolOf(plain string) string {
	switch {
	case strings.HasPrefix(plain, "curl: "):
		return "curl"
	case strings.Contains(plain, "rec layer s3.c") && strings.Contains(plain, "deps/openssl"), strings.Contains(plain, "eproto"), strings.Contains(plain, "err ssl "):
		return "Node.js"
	case strings.Contains(plain, " ssl.c:"), strings.Contains(plain, "( ssl.c"), strings.Contains(plain, "ssl.sslerror"), strings.Contains(plain, "sslerror("):
		return "Python"
	case strings.Contains(plain, "libressl"):
		return "curl, macOS"
	case strings.Contains(plain, "connection to server at"):
		return "psql, libpq"
	case strings.Contains(plain, "sslexception"):
		return ".NET"
	}
	return "OpenSSL"
}

// AlertReading says what an alert means to a client that receives it from this gateway.
func AlertReading(number uint8) Reading {
	a, _ := alertOf(number)
	r := Reading{Alert: number, Name: a.name, Fault: FaultClient, Reasons: Reasons(number)}
	words := alertWords()[number]
	if words.meaning == "" {
		words = meaning{"The other side ended the connection with it.", "Look at the handshake in the list of this gateway: it has the reason.", FaultNetwork}
	}
	r.Meaning = fmt.Sprintf("The server sent TLS alert %d, %s. %s", number, r.Name, words.meaning)
	if a.name == "" {
		r.Name, r.Meaning = "", fmt.Sprintf("TLS alert %d: not one that servers send about certificates. %s", number, words.meaning)
	}
	r.Do, r.Fault = strings.Split(words.do, "|"), words.fault
	return r
}

// AlertByName returns the number of an alert that is in the table, such as bad_certificate.
func AlertByName(name string) (uint8, bool) {
	for _, a := range alerts() {
		if a.name == name {
			return a.number, true
		}
	}
	return 0, false
}

type meaning struct {
	meaning, do string // several things to do are parted by |
	fault       Fault
}

func alertWords() map[uint8]meaning {
	return map[uint8]meaning{
		10:  {"A message came that has no place there: one side's TLS is broken, or something between changes it.", "Try with curl -v or openssl s_client to see whether the client is at fault.", FaultNetwork},
		20:  {"A record could not be decrypted. From a server that means broken TLS or something between that changes bytes.", "Try without the proxy or inspection device in between.", FaultNetwork},
		40:  {"In TLS 1.2 that is what a server sends when no client certificate came; else nothing that both can do is left: no cipher suite, no group.", "Give the client its certificate and key, as curl --cert and --key do.|If it has one: compare cipher suites and groups; the handshake's page lists what the client offered.", FaultClient},
		42:  {"The server read the client's certificate and refuses it: by a rule, a block, a revocation, its use or its form; at an endpoint with pins also for its CA or its dates. This alert does not say which.", "Open the handshake on this gateway: its page has the reason.|Show the certificate to countersign explain.", FaultClient},
		43:  {"The client's certificate is of a kind that the server cannot check.", "Use an ECDSA P-256 or RSA 2048 certificate.", FaultClient},
		44:  {"The server says that the client's certificate is revoked. This gateway says 42 instead, so another server spoke.", "Ask the CA; have a new certificate issued.", FaultClient},
		45:  {"The client's certificate, or one of the CAs that it sent, is out of date, or not valid yet.", "Look at the dates: openssl x509 -in client.crt -noout -dates|Have it issued again, or correct the clock that is wrong.", FaultClient},
		46:  {"The server did not accept the client's certificate for a reason that no other alert names. This gateway does not send it, so another server spoke.", "Look at that server's log.", FaultClient},
		47:  {"A field of a message has a value that is not allowed.", "Update the client's TLS library.", FaultClient},
		48:  {"The server knows no CA that signed the client's certificate, or a certificate in between was not sent.", "Use a certificate from a CA that the endpoint trusts.|Send the whole chain: leaf first, then each CA in between, in the file that --cert names.", FaultClient},
		49:  {"The certificate was fine, and its owner is not allowed. This gateway says 42 instead, so another server spoke.", "Ask whoever runs the server for access.", FaultClient},
		50:  {"A message could not be read: usually the ClientHello, or a certificate that is no valid DER.", "Issue the certificate again; look at the bytes with openssl asn1parse.", FaultClient},
		51:  {"The client did not prove that it has the key of its certificate.", "Use the key that belongs to the certificate: openssl x509 -in client.crt -noout -pubkey and openssl pkey -in client.key -pubout must print the same.", FaultClient},
		70:  {"Client and server have no TLS version in common.", "Update the client: TLS 1.2 is the least here, unless the endpoint asks for 1.3.", FaultClient},
		71:  {"The server asks for stronger cipher suites than the client offers.", "Update the client's TLS library.", FaultClient},
		80:  {"Something failed on the server's side: here, no agent was online for the endpoint, or its policy could not be loaded.", "Look at the endpoint's page.", FaultServer},
		86:  {"The client tried again with an older version, and the server can do a newer one.", "Update the client; do not force an old version.", FaultClient},
		109: {"A message lacked an extension that TLS 1.3 demands.", "Update the client's TLS library.", FaultClient},
		110: {"A message had an extension that was not asked for, as 0-RTT data without a session.", "Update the client's TLS library.", FaultClient},
		112: {"No endpoint answers to the server name that the client gave, or it gave none, as with an IP address in the URL.", "Call the endpoint by its name; with openssl s_client add -servername NAME.|Create an endpoint for that name.", FaultClient},
		116: {"The server demands a client certificate, and none came (TLS 1.3).", "Give the client its certificate and key, as curl --cert and --key do.|If it has one: it may keep it back because its issuer is not among the CAs that the server names.", FaultClient},
		120: {"Client and server have no application protocol in common (ALPN).", "Let the client offer h2 or http/1.1, or none.", FaultClient},
	}
}

// alertNotes say what misleads in a line that tells of an alert.
func alertNotes(plain string, number uint8) []string {
	var notes []string
	if strings.Contains(plain, "sslv3 alert") {
		notes = append(notes, "“sslv3 alert …” has nothing to do with SSL 3: it is OpenSSL's old name for this alert.")
	}
	if strings.Contains(plain, "ssl read") || number == 116 {
		notes = append(notes, "In TLS 1.3 the client has finished its handshake by then: the refusal shows only when it first reads, and its log may have said “connected”.")
	}
	if strings.Contains(plain, "tlsv1 alert") || strings.Contains(plain, "tlsv1 unrecognized") {
		notes = append(notes, "“tlsv1” does not tell the version in use: it is where OpenSSL keeps the name of this alert.")
	}
	return notes
}
