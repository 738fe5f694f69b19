package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"countersign/termination/verify"
)

// caller is what the built-in whoami tells a client about itself. Names in it are a peer's claim: hostile text.
type caller struct {
	Endpoint  string          `json:"endpoint"`
	Handshake string          `json:"handshake"`
	Verify    string          `json:"verify"` // as X-Client-Verify
	First     bool            `json:"first"`  // the first client of this endpoint
	Address   string          `json:"address"`
	TLS       callerTLS       `json:"tls"`
	Client    *callerIdentity `json:"client,omitempty"` // of the certificate that was presented, verified or not
}

type callerTLS struct {
	Version     string `json:"version"`
	KeyExchange string `json:"keyExchange,omitempty"`
	PostQuantum bool   `json:"postQuantum"`
	CipherSuite string `json:"cipherSuite"`
	Protocol    string `json:"protocol,omitempty"` // ALPN
	ServerName  string `json:"serverName,omitempty"`
	Resumed     bool   `json:"resumed"`
}

type callerIdentity struct {
	Name        string    `json:"name"`
	CommonName  string    `json:"commonName,omitempty"`
	URIs        []string  `json:"uris,omitempty"`
	DNSNames    []string  `json:"dnsNames,omitempty"`
	Subject     string    `json:"subject,omitempty"` // RFC 2253
	Issuer      string    `json:"issuer,omitempty"`  // RFC 2253
	Authority   string    `json:"authority,omitempty"`
	Pin         string    `json:"pin,omitempty"`
	Serial      string    `json:"serial"`
	Fingerprint string    `json:"fingerprint"`
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
}

// whoami answers with what the gateway knows about the caller: JSON for programs that ask for it, a page for browsers,
// and text for everyone else.
func (x *exchange) whoami(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		x.refuse(w, r, refusal{status: http.StatusMethodNotAllowed, detail: "This page can only be read."})
		return
	}
	me := x.caller()
	switch preferred(r.Header["Accept"], "text/plain", "application/json", "text/html") {
	case "application/json":
		x.proxy.pages.setHeaders(w.Header(), "application/json")
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		_ = out.Encode(me) // an error means that the client has left
	case "text/html":
		x.proxy.pages.setHeaders(w.Header(), "text/html; charset=utf-8")
		_ = x.proxy.pages.whoami.Execute(w, whoamiView{Title: greeting(me), Rows: rows(me, x.proxy.options.Now()), First: me.First})
	default:
		x.proxy.pages.setHeaders(w.Header(), "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(card(me, x.proxy.options.Now())))
	}
}

func (x *exchange) caller() caller {
	rec := x.conn.Handshake
	me := caller{
		Endpoint:  x.site.Endpoint.Name,
		Handshake: rec.ID,
		Verify:    verifyText(x.route.Policy, x.conn, x.client),
		First:     x.conn.Visit == 1,
		Address:   clientAddress(rec.Peer),
	}
	if n := rec.Chosen; n != nil {
		me.TLS = callerTLS{
			Version: tls.VersionName(n.Version), PostQuantum: n.PostQuantum, CipherSuite: tls.CipherSuiteName(n.CipherSuite),
			Protocol: n.ALPN, Resumed: n.Resumed,
		}
		if n.Group != 0 {
			me.TLS.KeyExchange = tls.CurveID(n.Group).String()
		}
	}
	if rec.Hello != nil {
		me.TLS.ServerName = rec.Hello.ServerName
	}
	if len(rec.Presented) > 0 {
		me.Client = identityCard(rec.Presented[0], x.conn.leafIdentity(), x.client)
	}
	return me
}

func identityCard(leaf *x509.Certificate, id identity, j verify.Judgement) *callerIdentity {
	c := &callerIdentity{
		Name: verify.BestName(leaf).Name, CommonName: leaf.Subject.CommonName, DNSNames: leaf.DNSNames,
		Subject: id.subject, Issuer: id.issuer, Authority: j.Authority, Pin: j.Pin,
		Serial: id.serial, Fingerprint: id.fingerprint, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
	}
	for _, u := range leaf.URIs {
		c.URIs = append(c.URIs, u.String())
	}
	return c
}

// greeting is the first line of the card.
func greeting(me caller) string {
	switch {
	case me.Client == nil:
		return "You are a stranger: no client certificate was presented."
	case me.Verify == "SUCCESS":
		return "You are " + named(me.Client) + "."
	default:
		return "You say that you are " + named(me.Client) + ", but that is not verified."
	}
}

func named(c *callerIdentity) string {
	if c.Name == "" {
		return "a client without a name"
	}
	return visible(c.Name)
}

// row is one line of the card.
type row struct{ Label, Value string }

// whoamiView is what the page shows.
type whoamiView struct {
	Title string
	Rows  []row
	First bool
}

const firstLine = "You are the first client here."

const whoamiPage = pageHead + `<h1>{{.Title}}</h1>
{{if .First}}<p class="mark">` + firstLine + `</p>
{{end}}<dl>
{{range .Rows}}<dt>{{.Label}}</dt><dd>{{.Value}}</dd>
{{end}}</dl>
` + pageFoot

// card is the text form: for terminals, so everything in it is visible characters.
func card(me caller, now time.Time) string {
	var out strings.Builder
	out.WriteString(greeting(me) + "\n")
	if me.First {
		out.WriteString(firstLine + "\n")
	}
	out.WriteString("\n")
	for _, r := range rows(me, now) {
		fmt.Fprintf(&out, "  %-14s%s\n", r.Label, r.Value)
	}
	return out.String()
}

// rows are the lines that text and page share.
func rows(me caller, now time.Time) []row {
	var out []row
	add := func(label, value string) {
		if value != "" {
			out = append(out, row{label, visible(value)})
		}
	}
	if c := me.Client; c != nil {
		add("Common name", c.CommonName)
		add("URI", strings.Join(c.URIs, ", "))
		add("DNS names", strings.Join(c.DNSNames, ", "))
		add("Authority", c.Authority)
		add("Pin", c.Pin)
		add("Issuer", c.Issuer)
		add("Serial", c.Serial)
		add("SHA-256", c.Fingerprint)
		add("Valid", c.NotBefore.UTC().Format(time.DateOnly)+" to "+c.NotAfter.UTC().Format(time.DateOnly)+left(c.NotAfter, now))
	}
	add("Verified", me.Verify)
	add("TLS", me.TLS.Version)
	add("Key exchange", me.TLS.KeyExchange+postQuantum(me.TLS.PostQuantum))
	add("Cipher", me.TLS.CipherSuite)
	add("Protocol", me.TLS.Protocol)
	add("Server name", me.TLS.ServerName)
	add("Address", me.Address)
	add("Endpoint", me.Endpoint)
	add("Handshake", me.Handshake)
	return out
}

func postQuantum(yes bool) string {
	if yes {
		return " (post-quantum)"
	}
	return ""
}

func left(notAfter, now time.Time) string {
	const day = 24 * time.Hour
	switch d := notAfter.Sub(now); {
	case d < 0:
		return " (ended)"
	case d < 2*day:
		return fmt.Sprintf(" (%d hours left)", d/time.Hour)
	default:
		return fmt.Sprintf(" (%d days left)", d/day)
	}
}

// visible makes control characters, marks that turn the direction of text, and broken UTF-8 visible.
func visible(s string) string {
	var out strings.Builder
	for _, r := range s {
		switch {
		case r == unicode.ReplacementChar, !unicode.IsPrint(r):
			fmt.Fprintf(&out, "\\u{%X}", r)
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}
