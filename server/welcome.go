package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

// Demo is what the first start made, so that the first handshake needs nothing else.
type Demo struct {
	Dir         string // where the files below are
	CA          string // file names
	Client      string // certificate and key in one file
	Stranger    string // likewise, from a CA that nobody trusts
	P12         string
	P12Apple    string // with the encryption that Apple systems take
	P12Password string
	User        string // whom the client certificate is for
	Endpoint    string // name of the endpoint
	Host        string // demo.localhost:8443
	Listen      string // 127.0.0.1:8443
}

// url is the demo's address.
func (d *Demo) url() string { return "https://" + d.Host + "/" }

func (s *Server) welcomePage(c echo.Context) error {
	return s.showWelcome(c, func(*views.Welcome) {})
}

// showWelcome renders the first-run page; add may put something on it first.
func (s *Server) showWelcome(c echo.Context, add func(*views.Welcome)) error {
	p := s.view(c, "First handshake", "welcome.js")
	w := views.Welcome{Started: p.Relative(s.started)}
	if d := s.opts.Demo; d != nil {
		d.describe(&w)
		first, err := s.lastSince(c.Request().Context(), d.Endpoint, s.started)
		if err != nil {
			return err
		}
		w.First = first
		w.Came = first != nil && first.In
		if !w.Came {
			if w.Came, err = s.everIn(c.Request().Context(), d.Endpoint); err != nil {
				return err
			}
		}
	}
	add(&w)
	return s.render(c, http.StatusOK, views.WelcomePage(p, w))
}

// everIn reports whether somebody was ever let in at an endpoint, as far as is stored.
func (s *Server) everIn(ctx context.Context, endpoint string) (bool, error) {
	filter, err := termination.ParseFilter(`endpoint:"`+endpoint+`" outcome:verified,open`, s.now())
	if err != nil {
		return false, fmt.Errorf("look for those who were let in: %w", err)
	}
	page, err := s.store.Handshakes(ctx, store.HistoryQuery{Filter: filter, Limit: 1})
	return len(page.Records) > 0, err
}

// lastSince returns the newest handshake at an endpoint since a moment, or nil.
func (s *Server) lastSince(ctx context.Context, endpoint string, since time.Time) (*views.FirstHandshake, error) {
	filter, err := termination.ParseFilter(`endpoint:"`+endpoint+`"`, s.now())
	if err != nil {
		return nil, fmt.Errorf("look for the first handshake: %w", err)
	}
	page, err := s.store.Handshakes(ctx, store.HistoryQuery{Filter: filter, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(page.Records) == 0 || page.Records[0].Handshake.Time.Before(since) {
		return nil, nil //nolint:nilnil // there was none
	}
	return firstHandshake(page.Records[0].Handshake), nil
}

// firstHandshake puts a handshake into one sentence.
func firstHandshake(h *termination.Handshake) *views.FirstHandshake {
	resumed, version := false, "TLS"
	if h.Chosen != nil {
		resumed, version = h.Chosen.Resumed, tls.VersionName(h.Chosen.Version)
	}
	v := &views.FirstHandshake{
		In: h.Verdict.Outcome.In(), Glyph: parts.GlyphOf(h.Verdict.Outcome, h.Verdict.Beat, resumed), Href: "/handshakes/" + h.ID,
		Sentence: h.Verdict.Explanation.Sentence,
	}
	name := h.Client.Name
	if name == "" {
		name = "A client without a name"
	}
	if v.In {
		v.Sentence = fmt.Sprintf("%s is in. %s, %s.", name, format.Duration(h.Duration), version)
	} else if v.Sentence == "" {
		info, _ := h.Verdict.Reason.Info()
		v.Sentence = name + " was turned away: " + info.Title + "."
	}
	return v
}

// describe puts the demo into words and commands.
func (d *Demo) describe(w *views.Welcome) {
	home, err := os.UserHomeDir()
	if err != nil {
		home = ""
	}
	cd := "cd " + shellPath(d.Dir, home) + "\n"
	curl := func(options ...string) string {
		return cd + "curl " + strings.Join(append(options, d.url()), " \\\n     ")
	}
	ca, client, stranger := "--cacert "+shellQuote(d.CA), "--cert "+shellQuote(d.Client), "--cert "+shellQuote(d.Stranger)
	w.Made, w.User, w.Host, w.Listens, w.Endpoint = true, d.User, d.Host, d.Listen, d.Endpoint
	w.Dir = tilde(d.Dir, home)
	w.Curl = curl(ca, client)
	w.CurlWindows = fmt.Sprintf("cd \"%s\"\ncurl.exe --ssl-revoke-best-effort --cacert %s --cert %s:%s --cert-type P12 %s", d.Dir, d.CA, d.P12, d.P12Password, d.url())
	w.P12, w.P12Apple, w.Password = filepath.Join(d.Dir, d.P12), filepath.Join(d.Dir, d.P12Apple), d.P12Password
	w.Breaks = []views.Break{
		{ID: "break-no-cert", Beat: 4, What: "Leave out", Option: "--cert", Command: curl(ca), Expect: "curl: (56) … tlsv13 alert certificate required"},
		{ID: "break-stranger", Beat: 4, What: "Use a stranger's certificate", Option: stranger, Command: curl(ca, stranger), Expect: "curl: (56) … tlsv1 alert unknown ca"},
		{ID: "break-no-ca", Beat: 3, What: "Leave out", Option: "--cacert", After: ", so the client refuses us", Command: curl(client), Expect: "curl: (60) SSL certificate problem: unable to get local issuer certificate"},
	}
}

var plainPath = regexp.MustCompile(`^[A-Za-z0-9_./+@%:,-]+$`)

// shellQuote quotes a word for a POSIX shell, if it needs that. A word that begins like an option is a path here.
func shellQuote(s string) string {
	if plainPath.MatchString(s) && !strings.HasPrefix(s, "-") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// shellPath is shellQuote with the home directory as ~, which only works outside of quotes.
func shellPath(path, home string) string {
	rest, ok := strings.CutPrefix(path, home+string(filepath.Separator))
	if home == "" || !ok {
		return shellQuote(path)
	}
	return "~/" + shellQuote(rest)
}

// tilde is the same for people.
func tilde(path, home string) string {
	if rest, ok := strings.CutPrefix(path, home+string(filepath.Separator)); ok && home != "" {
		return "~/" + rest
	}
	return path
}

// welcomeTry makes the first handshake from inside this process, over the demo's real address, and says so.
func (s *Server) welcomeTry(c echo.Context) error {
	if s.opts.Demo == nil {
		return &Problem{Status: http.StatusNotFound, Code: "not_found", Title: "This gateway has no demo endpoint", Href: "/endpoints", Link: "To the endpoints"}
	}
	answer, err := s.opts.Demo.try(c.Request().Context())
	return s.showWelcome(c, func(w *views.Welcome) {
		w.Result = answer
		if err != nil {
			s.log.Warn("the demo's handshake from this process failed", "error", err)
			w.Failed = format.Cut(err.Error(), 400)
		}
	})
}

// maxAnswer bounds what is shown of the demo service's answer, in bytes.
const maxAnswer = 8 << 10

// try does what the curl command does: the same files, the same address, the same name.
func (d *Demo) try(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ca, err := os.ReadFile(filepath.Join(d.Dir, d.CA))
	if err != nil {
		return "", fmt.Errorf("read the CA's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return "", errors.New("the CA's file holds no certificate")
	}
	file := filepath.Join(d.Dir, d.Client)
	own, err := tls.LoadX509KeyPair(file, file)
	if err != nil {
		return "", fmt.Errorf("read the client's certificate: %w", err)
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, d.Listen)
		},
		DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url(), nil)
	if err != nil {
		return "", fmt.Errorf("address the demo: %w", err)
	}
	r.Header.Set("Accept", "*/*")
	r.Header.Set("User-Agent", "countersign (from the dashboard)")
	res, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return "", fmt.Errorf("read the demo's answer: %w", err)
	}
	return fmt.Sprintf("%s %s\n\n%s", res.Proto, res.Status, strings.TrimSpace(string(body))), nil
}
