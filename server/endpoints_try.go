package server

import (
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/expression"
	"countersign/termination/verify"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

// uploadedOrPasted reads the file of a form, or what was pasted where there is no file.
func uploadedOrPasted(c echo.Context) ([]byte, error) {
	header, err := c.FormFile("file")
	if err != nil || header.Size == 0 {
		return []byte(c.FormValue("pem")), nil // no file was chosen
	}
	file, err := header.Open()
	if err != nil {
		return nil, fmt.Errorf("open uploaded file: %w", err)
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, termination.MaxUpload+1))
	if err != nil {
		return nil, fmt.Errorf("read uploaded file: %w", err)
	}
	return data, nil
}

// tryInput is whom to try, as it stands in a form.
type tryInput struct {
	pem, handshake, identity, address, method, path string
	draft                                           *policyInput // a policy that is not saved; nil: the one in force
}

func readTryInput(form url.Values, pem []byte) tryInput {
	text := func(key string) string { return strings.TrimSpace(form.Get(key)) }
	in := tryInput{
		pem: string(pem), handshake: text("try_handshake"), identity: text("try_identity"), address: text("try_address"),
		method: strings.ToUpper(text("try_method")), path: text("try_path"),
	}
	if form.Has("mode") {
		draft := readPolicyInput(form)
		in.draft = &draft
	}
	return in
}

// chosen reports whether somebody to try was named.
func (in *tryInput) chosen() bool { return in.pem != "" || in.handshake != "" || in.identity != "" }

// badTry is why nobody could be tried, in a sentence.
type badTry string

func (b badTry) Error() string { return string(b) }

// tried is who is tried: the client, and its request.
type tried struct {
	client  verify.Client
	request *expression.Request
	shown   string // of the input, what may be shown again
}

// whomToTry finds the client. The error is a badTry unless the store failed.
func (s *Server) whomToTry(c echo.Context, e *termination.Endpoint, in *tryInput) (tried, error) {
	out := tried{client: verify.Client{ServerName: e.Host}}
	var err error
	switch {
	case strings.TrimSpace(in.pem) != "" || in.handshake == "" && in.identity == "":
		out.client.Presented, out.shown, err = pastedChain([]byte(in.pem))
	case in.handshake != "":
		out.client, err = s.recordedClient(c, in.handshake)
	default:
		out.client.Presented, err = s.registered(in.identity)
	}
	if err != nil {
		return out, err
	}
	if in.address != "" {
		a, err := netip.ParseAddr(in.address)
		if err != nil {
			return out, badTry(fmt.Sprintf("%q is no address; write it as in 203.0.113.9.", in.address))
		}
		out.client.Peer = netip.AddrPortFrom(a.Unmap(), 0)
	}
	if out.client.Version == 0 {
		out.client.Version = e.TLSPolicy().MaxVersion
	}
	if in.path == "" || e.Scheme != termination.SchemeHTTPS {
		return out, nil
	}
	path, err := url.PathUnescape(in.path)
	if err != nil || !strings.HasPrefix(path, "/") {
		return out, badTry(fmt.Sprintf("%q is no path; begin with a slash.", in.path))
	}
	out.request = &expression.Request{Method: in.method, Path: path, Host: e.Host}
	if out.request.Method == "" {
		out.request.Method = http.MethodGet
	}
	return out, nil
}

func (s *Server) recordedClient(c echo.Context, ref string) (verify.Client, error) {
	r, err := s.store.Handshake(c.Request().Context(), ref)
	if err != nil {
		return verify.Client{}, badTry("That handshake is not in the history: " + err.Error())
	}
	h := r.Handshake
	client := verify.Client{Presented: h.Presented, Peer: h.Peer}
	if h.Hello != nil {
		client.ServerName = h.Hello.ServerName
	}
	if h.Chosen != nil {
		client.Version = h.Chosen.Version
	}
	return client, nil
}

// pastedChain reads the certificates that somebody brings, and returns them as they may be shown again.
func pastedChain(data []byte) ([]*x509.Certificate, string, error) {
	upload, err := termination.ReadUpload(data)
	if err != nil {
		return nil, "", badTry(err.Error())
	}
	if upload.Has(termination.UploadPrivateKey) || upload.Has(termination.UploadPKCS12) {
		return nil, "", badTry("There is a private key in it. Only the certificate is needed here; the key was wiped and not kept.")
	}
	chain := upload.Certificates()
	if len(chain) == 0 {
		return nil, "", badTry(upload.Items[0].Message)
	}
	return chain, string(upload.PEM()), nil
}

// registered returns the certificate of an identity, the one that ends last.
func (s *Server) registered(name string) ([]*x509.Certificate, error) {
	identity := s.current().Identity(name)
	if identity == nil {
		return nil, badTry(fmt.Sprintf("There is no identity %q.", name))
	}
	var best *x509.Certificate
	for _, c := range identity.Certificates {
		if best == nil || c.NotAfter.After(best.NotAfter) {
			best = c
		}
	}
	if best == nil {
		return nil, badTry(fmt.Sprintf("No certificate of %s is kept here: it is known by names or fingerprints alone. Paste its certificate.", name))
	}
	return []*x509.Certificate{best}, nil
}

// scope is where policies are judged beside the gateway.
func (s *Server) scope(endpoint string) verify.Scope {
	if s.gateway == nil {
		return verify.Scope{Endpoint: endpoint}
	}
	return s.gateway.Scope(endpoint)
}

// withDraft is the configuration with another policy for an endpoint, checked as if it were saved.
func (s *Server) withDraft(e *termination.Endpoint, in *policyInput, wrong fieldProblems) (*termination.Config, *termination.Endpoint) {
	config := *s.current()
	config.Endpoints = append([]termination.Endpoint(nil), config.Endpoints...)
	drafted := *e
	drafted.ClientAuth = in.clientAuth(e.ClientAuth, wrong)
	for i := range config.Endpoints {
		if config.Endpoints[i].ID == e.ID {
			config.Endpoints[i] = drafted
		}
	}
	err := config.Validate()
	if err == nil {
		err = expression.Validate(&config)
	}
	if err != nil && !wrong.understood(err, e.Name) {
		wrong.add("", err.Error())
	}
	return &config, &drafted
}

// judgeCertificate says whether a client would pass, without a handshake and without saving anything.
func (s *Server) judgeCertificate(c echo.Context) error {
	e, err := s.findEndpoint(c)
	if err != nil {
		return err
	}
	data, err := uploadedOrPasted(c)
	if err != nil {
		return err
	}
	in := readTryInput(c.Request().PostForm, data)
	if form := c.Request().MultipartForm; form != nil {
		in = readTryInput(form.Value, data)
	}
	shown := endpointShown{try: in}
	config, judgedBy, wrong := s.current(), e, fieldProblems{}
	if in.draft != nil {
		shown.policy = in.draft
		config, judgedBy = s.withDraft(e, in.draft, wrong)
	}
	status := http.StatusUnprocessableEntity
	switch {
	case len(wrong) > 0:
		shown.wrong = wrong
		shown.judged = &views.Judged{Error: "The policy above cannot be saved as it is, so nobody was judged by it."}
	case in.draft != nil && !in.chosen():
		shown.judged, status = &views.Judged{Draft: true, Choose: true}, http.StatusOK
	default:
		var who tried
		if shown.judged, who, err = s.judged(c, config, judgedBy, &in); err != nil {
			return err
		}
		shown.judged.Draft = in.draft != nil
		shown.try.pem = who.shown
		if shown.judged.Error == "" {
			status = http.StatusOK
		}
	}
	return s.showEndpoint(c, status, e, shown)
}

// judged tries a client under a configuration, at the endpoint and at each of its routes.
func (s *Server) judged(c echo.Context, config *termination.Config, e *termination.Endpoint, in *tryInput) (*views.Judged, tried, error) {
	if e.TerminateAt == termination.AtUpstream {
		return &views.Judged{Error: "Decided by the service behind. We cannot check what we do not open."}, tried{}, nil
	}
	who, err := s.whomToTry(c, e, in)
	if bad := badTry(""); err != nil && asBadTry(err, &bad) {
		return &views.Judged{Error: string(bad)}, who, nil
	}
	if err != nil {
		return nil, who, err
	}
	policy, err := verify.Compile(config, e.PolicyFor(nil), s.scope(e.Name))
	if err != nil {
		return &views.Judged{Error: err.Error()}, who, nil //nolint:nilerr // the page says it
	}
	t := policy.Try(who.client, who.request, s.now())
	out := judgedOf(config, e, who.client, t)
	for i := range e.Routes {
		r := &e.Routes[i]
		if r.ClientAuth == nil {
			continue
		}
		line := views.JudgedRoute{Path: r.Path, Asked: who.request != nil && (who.request.Path == r.Path || strings.HasPrefix(who.request.Path, strings.TrimSuffix(r.Path, "/")+"/"))}
		own, err := verify.Compile(config, e.PolicyFor(r), s.scope(e.Name))
		if err != nil {
			line.Why = err.Error()
		} else {
			rt := own.Try(who.client, who.request, s.now())
			line.In, line.Undecided, line.Why = rt.Judgement.In, rt.Judgement.Undecided, whyNot(rt.Judgement)
		}
		out.Routes = append(out.Routes, line)
	}
	return out, who, nil
}

// recentPatience is how long the page waits for the handshakes that it offers.
const recentPatience = 200 * time.Millisecond

// recentHandshakes are those of an endpoint that can be tried again, newest first.
func (s *Server) recentHandshakes(c echo.Context, p views.Page, e *termination.Endpoint, chosen string) []parts.Option {
	filter, err := termination.ParseFilter(`endpoint:"`+e.Name+`"`, s.now())
	if err != nil {
		return nil
	}
	page, err := s.store.Handshakes(c.Request().Context(), store.HistoryQuery{Filter: filter, Limit: 50, Patience: recentPatience})
	if err != nil {
		s.log.Warn("the handshakes to try again cannot be read", "error", err)
		return nil
	}
	var out []parts.Option
	seen := map[termination.Fingerprint]bool{}
	for i := range page.Records {
		h := page.Records[i].Handshake
		if h.Client.Fingerprint == (termination.Fingerprint{}) || seen[h.Client.Fingerprint] || len(out) == 20 {
			continue
		}
		seen[h.Client.Fingerprint] = true
		name := h.Client.Name
		if name == "" {
			name = h.Client.Fingerprint.Short()
		}
		out = append(out, parts.Option{Value: h.ID, Label: p.Clock.Time(h.Time) + " " + format.Cut(name, 60) + ", " + string(h.Verdict.Outcome), Selected: h.ID == chosen})
	}
	return out
}
