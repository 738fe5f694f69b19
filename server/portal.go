package server

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"html/template"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/localca"
	"countersign/termination/proxy"
)

// PortalPath begins the path of an invitation; its secret follows.
const PortalPath = "/i/"

const (
	portalDays     = 90 // of a certificate that the local CA signs for an invited client
	portalPerMin   = 30 // requests of one address
	portalAllPerMn = 600
)

// Portal answers at endpoints whose upstream is the built-in portal: strangers, who have nothing but the link of an
// invitation. It is given to the gateway first, and to the [Server] that is built on that gateway; in between it
// answers that it is not ready.
type Portal struct {
	server atomic.Pointer[Server]
	once   sync.Once
	page   *template.Template
	policy string
	pace   portalPace
}

// portalPace bounds requests, so that strangers cannot keep the store busy. What it remembers is bounded by itself.
type portalPace struct {
	mu     sync.Mutex
	minute int64
	all    int
	by     map[netip.Prefix]int
}

// allow reports whether one more request of an address is answered in this minute.
func (p *portalPace) allow(from netip.Addr, now time.Time) bool {
	from = from.Unmap()
	bits := 64 // a site has that much of IPv6 at least
	if from.Is4() {
		bits = 32
	}
	network, err := from.WithZone("").Prefix(bits)
	p.mu.Lock()
	defer p.mu.Unlock()
	if minute := now.Unix() / 60; minute != p.minute || p.by == nil {
		p.minute, p.all, p.by = minute, 0, map[netip.Prefix]int{}
	}
	if err != nil || !from.IsValid() || p.all >= portalAllPerMn || p.by[network] >= portalPerMin {
		return false
	}
	p.all++
	p.by[network]++
	return true
}

// portalAnswer is what a page of the portal says. Names in it are hostile text.
type portalAnswer struct {
	status   int
	Title    string
	Lines    []string
	Problem  string
	Form     bool
	Requests bool
	Facts    [][2]string
	Commands []string
	PEM      string
}

const portalStyle = `
:root{color-scheme:light dark;--ink:#17201c;--soft:#4b5a53;--line:#dfe5e1;--paper:#f6f8f6;--card:#fff;--mark:#0b6b4b;--bad:#a3260f}
@media(prefers-color-scheme:dark){:root{--ink:#e7ede9;--soft:#a9b5af;--line:#2c3531;--paper:#111614;--card:#191f1c;--mark:#5fd3a5;--bad:#ff9b82}}
*{box-sizing:border-box}
body{margin:0;padding:8vh 1.25rem 3rem;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:44rem;margin:0 auto;padding:2rem;background:var(--card);border:1px solid var(--line);border-radius:12px}
h1{margin:0 0 .5rem;font-size:1.35rem;line-height:1.3;overflow-wrap:anywhere}
p{margin:.5rem 0;overflow-wrap:anywhere}
.bad{color:var(--bad)}
label{display:block;margin:1rem 0 .25rem}
textarea,input[type=file]{width:100%;font:.85em/1.4 ui-monospace,monospace;color:inherit;background:var(--paper);border:1px solid var(--soft);border-radius:6px;padding:.5rem}
button{margin-top:1rem;font:inherit;padding:.5rem 1.1rem;border:0;border-radius:6px;background:var(--mark);color:var(--card);cursor:pointer}
dl{display:grid;grid-template-columns:minmax(6rem,max-content) 1fr;gap:.4rem 1.25rem;margin:1rem 0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
pre{overflow:auto;padding:.75rem;background:var(--paper);border-radius:6px;font:.85em/1.45 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
@media(max-width:30rem){dl{grid-template-columns:1fr}main{padding:1.25rem}}
`

const portalPage = `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{{.Title}}</title><style>` + portalStyle + `</style></head>
<body><main>
<h1>{{.Title}}</h1>
{{with .Problem}}<p class="bad" role="alert">{{.}}</p>
{{end}}{{range .Lines}}<p>{{.}}</p>
{{end}}{{with .Facts}}<dl>{{range .}}<dt>{{index . 0}}</dt><dd>{{index . 1}}</dd>{{end}}</dl>
{{end}}{{range .Commands}}<pre>{{.}}</pre>
{{end}}{{with .PEM}}<p>This is your certificate. Keep it with your key:</p><pre>{{.}}</pre>
{{end}}{{if .Form}}<form method="post" enctype="multipart/form-data">
<label for="file">Certificate from a file{{if .Requests}}, or a signing request (CSR){{end}}</label>
<input id="file" type="file" name="file">
<label for="text">Or paste it</label>
<textarea id="text" name="text" rows="8" spellcheck="false" autocomplete="off" placeholder="-----BEGIN CERTIFICATE-----"></textarea>
<button type="submit">Register it</button>
</form>
{{end}}</main></body></html>
`

func (p *Portal) prepare() {
	p.page = template.Must(template.New("portal").Parse(portalPage))
	sum := sha256.Sum256([]byte(portalStyle))
	p.policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
}

// ServeHTTP implements http.Handler, behind the gateway's proxy.
func (p *Portal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.once.Do(p.prepare)
	s, conn := p.server.Load(), proxy.ConnFrom(r.Context())
	if s == nil || conn == nil {
		p.write(w, r, portalAnswer{status: http.StatusServiceUnavailable, Title: "Not ready yet", Lines: []string{"Try again in a moment."}})
		return
	}
	if !p.pace.allow(conn.Handshake.Peer.Addr(), s.now()) {
		w.Header().Set("Retry-After", "60")
		p.write(w, r, portalAnswer{status: http.StatusTooManyRequests, Title: "Too many tries", Lines: []string{"Wait a minute, and try again."}})
		return
	}
	secret, ok := strings.CutPrefix(r.URL.Path, PortalPath)
	if !ok || secret == "" || strings.Contains(secret, "/") {
		p.write(w, r, portalAnswer{status: http.StatusNotFound, Title: "Nothing is here", Lines: []string{"Here invited clients register their certificates. The link of an invitation leads to it."}})
		return
	}
	visit := &portalVisit{Portal: p, server: s, secret: secret, endpointID: conn.Handshake.EndpointID}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		p.write(w, r, visit.show(r))
	case http.MethodPost:
		p.write(w, r, visit.register(r))
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		p.write(w, r, portalAnswer{status: http.StatusMethodNotAllowed, Title: "That is not possible here", Lines: []string{"Send the certificate with POST."}})
	}
}

// write answers with a page for browsers, and with text for everybody else.
func (p *Portal) write(w http.ResponseWriter, r *http.Request, a portalAnswer) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer") // the secret is in the address
	h.Set("Content-Security-Policy", p.policy)
	h.Set("Vary", "Accept")
	h.Set("X-Robots-Tag", "noindex")
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		h.Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(a.status)
		_ = p.page.Execute(w, a) // an error means that the client has left
		return
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.text())
}

// text is the answer for terminals. Everything but a certificate is a comment, so that the whole can be kept as a PEM file.
func (a portalAnswer) text() string {
	var b strings.Builder
	line := func(s string) { b.WriteString("# " + visibleText(s) + "\n") }
	line(a.Title)
	if a.Problem != "" {
		line(a.Problem)
	}
	for _, l := range a.Lines {
		line(l)
	}
	for _, f := range a.Facts {
		line(f[0] + ": " + f[1])
	}
	for _, c := range a.Commands {
		line(c)
	}
	b.WriteString(a.PEM)
	return b.String()
}

// visibleText keeps a terminal from obeying.
func visibleText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '\uFFFD'
		}
		return r
	}, s)
}

// portalVisit is one request to the portal.
type portalVisit struct {
	*Portal
	server     *Server
	secret     string
	endpointID string
}

// refusal says why an invitation does not work; the store's other errors stay in the log.
func (v *portalVisit) refusal(err error) portalAnswer {
	for known, status := range map[error]int{
		store.ErrRegistrationUnknown: http.StatusNotFound, store.ErrRegistrationUsed: http.StatusGone,
		store.ErrRegistrationExpired: http.StatusGone, store.ErrRegistrationStale: http.StatusGone,
	} {
		if errors.Is(err, known) {
			return portalAnswer{status: status, Title: "This invitation does not work", Problem: sentence(known), Lines: []string{"Ask whoever sent it for a new one."}}
		}
	}
	v.server.log.Error("an invitation could not be read", "error", err)
	return portalAnswer{status: http.StatusInternalServerError, Title: "Something failed here", Lines: []string{"Nothing was registered. Try again, or ask whoever sent the invitation."}}
}

func (v *portalVisit) show(r *http.Request) portalAnswer {
	reg, err := v.server.store.Registration(r.Context(), v.secret, v.endpointID)
	if err != nil {
		return v.refusal(err)
	}
	return v.form(r, reg, http.StatusOK, "")
}

// form asks for the certificate.
func (v *portalVisit) form(r *http.Request, reg store.Registration, status int, problem string) portalAnswer {
	a := portalAnswer{
		status: status, Title: "Register the certificate of " + reg.Name, Problem: problem, Form: true, Requests: reg.CA != "",
		Lines: []string{"Send the certificate alone, never its key: a file as PEM or DER. It may be one that you signed yourself."},
	}
	if reg.CA != "" {
		a.Lines = append(a.Lines, "Or send a signing request (CSR): then the local CA "+reg.CA+" makes the certificate for your key.")
	}
	a.Lines = append(a.Lines, "This link works once, until "+reg.Expires.UTC().Format("2 Jan 2006 15:04")+" UTC.")
	a.Commands = []string{"curl --data-binary @certificate.pem https://" + r.Host + r.URL.Path}
	return a
}

func (v *portalVisit) register(r *http.Request) portalAnswer {
	reg, err := v.server.store.Registration(r.Context(), v.secret, v.endpointID)
	if err != nil {
		return v.refusal(err)
	}
	data, err := portalBody(r)
	if err != nil {
		return v.form(r, reg, http.StatusUnprocessableEntity, sentence(err))
	}
	defer clear(data)
	read, err := termination.ReadRegistration(data, termination.RegistrationOptions{
		Now: v.server.now(), Owner: ownerOf(v.server.current()), Self: true, Requests: reg.CA != "",
	})
	if err != nil {
		return v.form(r, reg, http.StatusUnprocessableEntity, portalProblem(err))
	}
	cert, signed := read.Certificate, ""
	if read.Request != nil {
		if cert, err = v.sign(reg, read.Request); err != nil {
			return v.form(r, reg, http.StatusUnprocessableEntity, sentence(err))
		}
		signed = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	}
	var made termination.Identity
	actor := store.Actor{Name: "invitation " + reg.ID, Via: "portal"}
	config, err := v.server.Change(r.Context(), actor, func(tx *store.Tx) error {
		made, err = tx.UseRegistration(v.secret, v.endpointID, cert)
		return err
	})
	var invalid termination.ValidationError
	switch {
	case errors.As(err, &invalid):
		return v.form(r, reg, http.StatusUnprocessableEntity, sentence(invalid[:1]))
	case err != nil:
		return v.refusal(err)
	}
	if signed != "" {
		if err := v.server.store.AddIssued(r.Context(), actor, reg.CA, kindClient, made.Name, cert); err != nil {
			v.server.log.Error("what was issued is not in the list of issued certificates", "error", err)
		}
	}
	return registered(config, &made, cert, signed)
}

// portalProblem leaves out what only the operator may know: whose a certificate is.
func portalProblem(err error) string {
	var field termination.FieldError
	if !errors.As(err, &field) {
		return sentence(err)
	}
	problem, _, _ := strings.Cut(field.Problem, ", for the identity ")
	return sentence(errors.New(problem + "; " + field.Advice))
}

// sign makes a certificate for the key of a request.
func (v *portalVisit) sign(reg store.Registration, request []byte) (*x509.Certificate, error) {
	cas := v.server.current().LocalCAs
	for n := range cas {
		if cas[n].Name == reg.CA {
			cert, err := localca.SignClient(&cas[n], request, reg.Name, v.server.now(), portalDays)
			var limit *localca.ConstraintError
			if errors.As(err, &limit) {
				return nil, fmt.Errorf("the local CA %s may not sign this: %w; send a certificate that you signed yourself, or ask for an invitation with another CA", reg.CA, limit)
			}
			return cert, err
		}
	}
	return nil, fmt.Errorf("the local CA %s cannot sign any more; send a certificate that you signed yourself", reg.CA)
}

// registered says what was registered, and how to try it.
func registered(config *termination.Config, i *termination.Identity, cert *x509.Certificate, signed string) portalAnswer {
	a := portalAnswer{
		status: http.StatusCreated, Title: i.Name + " is registered", PEM: signed,
		Facts: [][2]string{
			{"Name", i.Name},
			{"SHA-256", opensslFingerprint(termination.FingerprintOf(cert))},
			{"Valid until", cert.NotAfter.UTC().Format("2 Jan 2006")},
			{"Comes in at", strings.Join(i.Endpoints, ", ")},
		},
	}
	for _, name := range i.Endpoints {
		e := config.Endpoint(name)
		if e != nil && e.Scheme == termination.SchemeHTTPS && len(a.Commands) < 3 {
			a.Commands = append(a.Commands, "curl --cert certificate.pem --key key.pem "+e.URL()+"/")
		}
	}
	if len(a.Commands) > 0 {
		a.Lines = append(a.Lines, "Try it with your key, which stays with you:")
	}
	return a
}

// portalBody reads what was sent: a form, or the file itself, as curl --data-binary sends it, whatever it is called. It is
// read into memory alone, and no further than an upload may be long.
func portalBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 2*termination.MaxUpload))
	if err != nil {
		return nil, errors.New("what was sent did not come through whole")
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return body, nil // curl and scripts say what they like
	}
	switch kind {
	case "multipart/form-data":
		defer clear(body)
		return formFile(multipart.NewReader(bytes.NewReader(body), params["boundary"]))
	case "application/x-www-form-urlencoded":
		if bytes.HasPrefix(body, []byte("text=")) {
			defer clear(body)
			values, err := url.ParseQuery(string(body))
			if err != nil {
				return nil, errors.New("the form is damaged")
			}
			return []byte(values.Get("text")), nil
		}
	}
	return body, nil
}

// formFile returns the first part of a form that holds something.
func formFile(parts *multipart.Reader) ([]byte, error) {
	for n := 0; n < 8; n++ {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errors.New("the form is damaged")
		}
		data, err := io.ReadAll(io.LimitReader(part, 2*termination.MaxUpload))
		if err != nil {
			return nil, errors.New("the form is damaged")
		}
		if name := part.FormName(); (name == "file" || name == "text") && len(bytes.TrimSpace(data)) > 0 {
			return data, nil
		}
	}
	return nil, nil
}
