package proxy

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"strconv"
	"time"

	"countersign/termination"
)

// refusal is a request that ends here.
type refusal struct {
	status int
	code   refusalCode
	detail string // one sentence for the client, without anything that only the operator may know
	close  bool   // end the connection too

	reason     termination.Reason // for endpoints that tell it; empty: there is no more to tell
	advice     *advice            // set where the endpoint says more; nil: it does not
	challenges []string           // of WWW-Authenticate
	retryAfter time.Duration      // when another request has a chance; 0: not said
}

// refusalCode says why a policy did not let a client in, as far as the client is told.
type refusalCode string

const (
	codeMissing    refusalCode = "missing"     // no certificate was presented
	codeInvalid    refusalCode = "invalid"     // one was, and it does not verify
	codeNotAllowed refusalCode = "not_allowed" // it may be valid, but this client is not wanted

	codeRateLimited refusalCode = "rate_limited" // it may come in, but not as often
)

// forbidden is the refusal of a client for that reason.
func forbidden(reason termination.Reason) *refusal {
	no := &refusal{status: http.StatusForbidden, reason: reason}
	switch reason {
	case termination.ReasonCertMissing:
		no.code, no.detail = codeMissing, "A client certificate is required, and none was presented."
	case termination.ReasonPolicyDenied, termination.ReasonNotListed, termination.ReasonBlocked, termination.ReasonRateLimited,
		termination.ReasonIdentityElsewhere, termination.ReasonExpressionError, termination.ReasonPolicyUnreadable,
		termination.ReasonVersionLow:
		no.code, no.detail = codeNotAllowed, "This client is not allowed here."
	default:
		no.code, no.detail = codeInvalid, "The client certificate is not valid here."
	}
	return no
}

// problem is a problem document (RFC 9457). Its type is about:blank, so its title is that of the status.
type problem struct {
	Type      string      `json:"type"`
	Title     string      `json:"title"`
	Status    int         `json:"status"`
	Detail    string      `json:"detail,omitempty"`
	Code      refusalCode `json:"code,omitempty"`
	Handshake string      `json:"handshake,omitempty"`
	*advice               // of endpoints with verbose_refusals
}

// pages renders what the proxy answers itself.
type pages struct {
	problem *template.Template
	whoami  *template.Template
	policy  string // Content-Security-Policy
}

// pageStyle is the style sheet of all pages; the policy names its hash, so nothing else on a page has a style.
const pageStyle = `
:root{color-scheme:light dark;--ink:#17201c;--soft:#5c6963;--line:#dfe5e1;--paper:#f6f8f6;--card:#fff;--mark:#0b6b4b}
@media(prefers-color-scheme:dark){:root{--ink:#e7ede9;--soft:#9aa8a1;--line:#2c3531;--paper:#111614;--card:#191f1c;--mark:#5fd3a5}}
*{box-sizing:border-box}
body{margin:0;padding:10vh 1.25rem 3rem;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:42rem;margin:0 auto;padding:2rem;background:var(--card);border:1px solid var(--line);border-radius:12px}
h1{margin:0 0 .25rem;font-size:1.35rem;line-height:1.3;overflow-wrap:anywhere}
p{margin:.5rem 0;overflow-wrap:anywhere}
.soft{color:var(--soft)}
.mark{color:var(--mark)}
dl{display:grid;grid-template-columns:minmax(7rem,max-content) 1fr;gap:.4rem 1.25rem;margin:1.5rem 0 0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
code{font:.9em/1.5 ui-monospace,monospace}
@media(max-width:30rem){dl{grid-template-columns:1fr}dd{margin-bottom:.5rem}}
`

const pageHead = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<style>` + pageStyle + `</style>
</head>
<body>
<main>
`

const pageFoot = `</main>
</body>
</html>
`

const problemPage = pageHead + `<h1>{{.Title}}</h1>
<p>{{.Detail}}</p>
<dl>
<dt>Status</dt><dd>{{.Status}}</dd>
{{with .Code}}<dt>Reason</dt><dd><code>{{.}}</code></dd>
{{end}}{{with .Handshake}}<dt>Handshake</dt><dd><code>{{.}}</code></dd>
{{end}}{{if .Reason}}<dt>In detail</dt><dd><code>{{.Reason}}</code>: {{.ReasonTitle}}</dd>
{{with .Explanation}}<dt>What happened</dt><dd>{{.}}</dd>
{{end}}{{with .Fix}}<dt>What to do</dt><dd>{{.}}</dd>
{{end}}{{end}}</dl>
<p class="soft">Whoever runs this service can look the handshake up by its ID.</p>
` + pageFoot

func newPages() *pages {
	sum := sha256.Sum256([]byte(pageStyle))
	return &pages{
		problem: template.Must(template.New("problem").Parse(problemPage)),
		whoami:  template.Must(template.New("whoami").Parse(whoamiPage)),
		policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
			"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	}
}

// setHeaders sets what every answer of ours has: it is for this client at this moment, and for nothing but reading.
func (p *pages) setHeaders(h http.Header, contentType string) {
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", p.policy)
	h.Set("Vary", "Accept")
}

// refuse answers with a problem document, or with a page for those who would rather read that. c may be nil.
func (p *pages) refuse(w http.ResponseWriter, r *http.Request, c *Conn, no refusal) {
	doc := problem{Type: "about:blank", Title: http.StatusText(no.status), Status: no.status, Detail: no.detail, Code: no.code, advice: no.advice}
	if doc.advice == nil {
		doc.advice = new(advice)
	}
	for _, c := range no.challenges {
		w.Header().Add("WWW-Authenticate", c)
	}
	if c != nil {
		doc.Handshake = c.Handshake.ID
	}
	if no.retryAfter > 0 { // in whole seconds (RFC 9110, section 10.2.3), so never too early
		w.Header().Set("Retry-After", strconv.FormatInt(int64((no.retryAfter+time.Second-1)/time.Second), 10))
	}
	if no.close {
		w.Header().Set("Connection", "close") // in HTTP/2, net/http makes a GOAWAY of it
	}
	switch preferred(r.Header["Accept"], "application/problem+json", "text/html", "text/plain") {
	case "text/html":
		p.setHeaders(w.Header(), "text/html; charset=utf-8")
		w.WriteHeader(no.status)
		_ = p.problem.Execute(w, doc) // an error means that the client has left
	case "text/plain":
		p.setHeaders(w.Header(), "text/plain; charset=utf-8")
		w.WriteHeader(no.status)
		_, _ = io.WriteString(w, doc.text()) // likewise
	default:
		p.setHeaders(w.Header(), "application/problem+json")
		w.WriteHeader(no.status)
		_ = json.NewEncoder(w).Encode(doc) // likewise
	}
}

// text is the document for people at a terminal.
func (d *problem) text() string {
	out := fmt.Sprintf("%d %s\n", d.Status, d.Title)
	for _, line := range [...]struct{ label, value string }{
		{"", d.Detail}, {"code: ", string(d.Code)}, {"reason: ", string(d.Reason)}, {"", d.Explanation}, {"", d.Fix}, {"handshake: ", d.Handshake},
	} {
		if line.value != "" {
			out += line.label + line.value + "\n"
		}
	}
	return out
}
