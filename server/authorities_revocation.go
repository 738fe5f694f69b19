package server

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/termination"
	"countersign/termination/revocation"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

const (
	// crlBody bounds an uploaded revocation list, and what stands around it in the form.
	crlBody = 26 << 20
	// listEndsSoon and listEndsNow are how long before its end a list is warned about.
	listEndsSoon, listEndsNow = 7 * 24 * time.Hour, 24 * time.Hour
)

// revocationRoutes lists the routes of what an authority says about revoked certificates.
func (s *Server) revocationRoutes() []route {
	return []route{
		{method: http.MethodPost, path: "/authorities/:name/revocation", handler: s.saveRevocation},
		{method: http.MethodPost, path: "/authorities/:name/revocation/crl", body: crlBody, handler: s.uploadCRL},
		{method: http.MethodPost, path: "/authorities/:name/revocation/remove", handler: s.removeCRL},
		{method: http.MethodPost, path: "/authorities/:name/revocation/fetch", handler: s.fetchCRLs},
	}
}

// revocationForm is what stands in the form about revocation.
type revocationForm struct{ mode, urls, ocsp, problem string }

// revocationSection puts what an authority says about revocation, and how that is doing, on its page. typed is nil where
// nothing was.
func (s *Server) revocationSection(p views.Page, a *termination.Authority, typed *revocationForm) views.AuthorityRevocation {
	if typed == nil {
		typed = &revocationForm{mode: string(a.Revocation.Mode), urls: strings.Join(a.Revocation.CRLURLs, "\n"), ocsp: a.Revocation.OCSPURL}
	}
	mode := a.Revocation.Effective()
	v := views.AuthorityRevocation{
		Means:   revocationWords(mode, a.Revocation.Sources()),
		Mode:    parts.Input{Name: "revocation", Label: "When it is not known whether a certificate was revoked"},
		Modes:   options(typed.mode, "", "let it in, where there is a source", "soft", "let it in (soft)", "hard", "refuse it (hard)", "off", "do not look (off)"),
		URLs:    parts.Input{Name: "crl_urls", Label: "Addresses of revocation lists", Hint: "One a line; http or https. They are fetched before they end.", Value: typed.urls, Error: typed.problem, Rows: 2},
		OCSP:    parts.Input{Name: "ocsp_url", Label: "OCSP responder", Hint: "Is asked about each client, for two seconds at most. Never taken from a certificate.", Value: typed.ocsp, Placeholder: "http://ocsp.example.com"},
		Upload:  parts.Input{Name: "pem", Label: "Or paste it", Rows: 3, Placeholder: "-----BEGIN X509 CRL-----"},
		Fetches: len(a.Revocation.CRLURLs) > 0,
	}
	if n := len(a.Revocation.Revoked); n > 0 {
		v.TakenBack = format.Count(n, "certificate was", "certificates were") + " taken back here."
	}
	if s.opts.Gateway == nil {
		return v
	}
	all := s.opts.Gateway.RevocationStatus()
	i := slices.IndexFunc(all, func(st revocation.Status) bool { return st.Authority == a.Name })
	if i < 0 {
		return v
	}
	status := all[i]
	for at, source := range status.Sources {
		one := revocationSource(p, source)
		one.At = strconv.Itoa(at) // those that were given come first, in their order
		v.Sources = append(v.Sources, one)
	}
	for _, issuer := range status.Issuers {
		if mode == termination.RevocationHard && !issuer.Fresh && a.Revocation.OCSPURL == "" {
			v.Missing = append(v.Missing, issuer.Name)
		}
	}
	if status.Responder != "" && status.Silent {
		v.Silent = "The responder did not answer the last time; it is asked again in a moment."
	}
	return v
}

func revocationWords(mode termination.RevocationMode, sources bool) string {
	switch {
	case mode == termination.RevocationOff && !sources:
		return "Nobody can tell that a certificate of this authority was taken back: give a revocation list (CRL), its address, or an OCSP responder."
	case mode == termination.RevocationOff:
		return "Nobody looks whether certificates of this authority were taken back."
	case mode == termination.RevocationHard:
		return "Without a fresh answer for a client and every CA below the anchor, the client is refused."
	default:
		return "Only a certificate that is known to be revoked is refused."
	}
}

// revocationSource says how a file, an upload or an address is doing.
func revocationSource(p views.Page, from revocation.SourceStatus) views.RevocationSource {
	v := views.RevocationSource{Name: from.Source, Problem: from.Problem, Removable: !from.Fetched}
	if from.Fetched {
		looked := "never fetched"
		if !from.Checked.IsZero() {
			looked = "fetched " + p.Relative(from.Checked)
		}
		if !from.Next.IsZero() {
			looked += ", again at " + p.Moment(from.Next)
		}
		v.Looked = looked
	}
	for _, l := range from.Lists {
		facts := []parts.Fact{
			{Name: "Of", Value: l.Issuer},
			{Name: "Entries", Value: format.Int(l.Entries), Note: format.Bytes(int64(l.Size))},
		}
		if l.Number != "" {
			facts = append(facts, parts.Fact{Name: "Number", Value: l.Number})
		}
		facts = append(facts, parts.Fact{Name: "Made", Value: p.Moment(l.ThisUpdate)}, listEnd(p, l))
		if l.Scope != "" {
			facts = append(facts, parts.Fact{Name: "Speaks of", Value: l.Scope})
		}
		if !l.InForce {
			v.Problem = strings.TrimPrefix(v.Problem+"; "+l.Problem, "; ")
		}
		v.Lists = append(v.Lists, facts)
	}
	return v
}

// listEnd counts down to the end of a list.
func listEnd(p views.Page, l revocation.ListStatus) parts.Fact {
	until := l.NextUpdate
	f := parts.Fact{Name: "Next one due", Value: "it does not say"}
	if until.IsZero() {
		until = l.FreshUntil
	} else {
		f.Value = p.Moment(until)
	}
	switch left := until.Sub(p.Now); {
	case left <= 0:
		f.Note, f.Tone = "ended "+p.Relative(until), parts.Bad
	case left < listEndsNow:
		f.Note, f.Tone = "in "+format.Span(left), parts.Bad
	case left < listEndsSoon:
		f.Note, f.Tone = "in "+format.Span(left), parts.Warn
	default:
		f.Note = "in " + format.Span(left)
	}
	return f
}

// saveRevocation takes the mode, the addresses and the responder.
func (s *Server) saveRevocation(c echo.Context) error {
	typed := revocationForm{mode: c.FormValue("revocation"), urls: c.FormValue("crl_urls"), ocsp: strings.TrimSpace(c.FormValue("ocsp_url"))}
	err := s.updateAuthority(c, func(a *termination.Authority) error {
		a.Revocation.Mode = termination.RevocationMode(typed.mode)
		a.Revocation.CRLURLs, a.Revocation.OCSPURL = words(typed.urls), typed.ocsp
		return nil
	})
	wrong := fieldProblems{}
	if err != nil && wrong.understood(err, "") {
		typed.problem = wrong.of("")
		a, err := s.findAuthority(c)
		if err != nil {
			return err
		}
		return s.showAuthority(c, http.StatusUnprocessableEntity, func(v *views.Authority) { v.Revocation = s.revocationSection(s.view(c, ""), a, &typed) })
	}
	if err != nil {
		return err
	}
	s.say(c, "ok", "Saved. It holds for every handshake from now on, and for who is in.")
	return s.redirect(c, revocationPath(c))
}

func revocationPath(c echo.Context) string { return "/authorities/" + c.Param("name") + "#revocation" }

// uploadCRL gives an authority one more revocation list, in the place of an older one of the same CA.
func (s *Server) uploadCRL(c echo.Context) error {
	a, err := s.findAuthority(c)
	if err != nil {
		return err
	}
	refuse := func(problem string) error {
		return s.showAuthority(c, http.StatusUnprocessableEntity, func(v *views.Authority) { v.Revocation.Upload.Error = problem })
	}
	name, data, err := uploadedCRL(c)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return refuse("there is nothing in it; choose a file, or paste a revocation list")
	}
	if s.opts.Gateway == nil {
		return refuse("nothing is served here that could check it")
	}
	read, err := s.opts.Gateway.ReadRevocation(a.Name, data)
	if err != nil {
		return refuse(err.Error())
	}
	err = s.updateAuthority(c, func(a *termination.Authority) error {
		for _, l := range read {
			a.Revocation.CRLs = slices.DeleteFunc(a.Revocation.CRLs, func(old termination.CRL) bool {
				lists, err := termination.ReadCRLs(old.DER)
				return err == nil && len(lists) == 1 && l.TakesPlaceOf(lists[0])
			})
			a.Revocation.CRLs = append(a.Revocation.CRLs, termination.CRL{DER: l.Raw, Source: name})
		}
		return nil
	})
	wrong := fieldProblems{}
	if err != nil && wrong.understood(err, "") {
		return refuse(wrong.of(""))
	}
	if err != nil {
		return err
	}
	s.say(c, "ok", "The list is in force. Whom it names is refused, and cut off where it is in.")
	return s.redirect(c, revocationPath(c))
}

// uploadedCRL returns the chosen file, or else what was pasted, and a name for it.
func uploadedCRL(c echo.Context) (name string, data []byte, err error) {
	header, err := c.FormFile("file")
	if err != nil || header.Size == 0 {
		return "pasted", []byte(c.FormValue("pem")), nil // no file was chosen
	}
	file, err := header.Open()
	if err != nil {
		return "", nil, fmt.Errorf("open uploaded file: %w", err)
	}
	defer func() { _ = file.Close() }()
	if data, err = io.ReadAll(io.LimitReader(file, crlBody)); err != nil {
		return "", nil, fmt.Errorf("read uploaded file: %w", err)
	}
	return format.Cut(format.Visible(header.Filename), 100), data, nil
}

// removeCRL takes an uploaded list away again.
func (s *Server) removeCRL(c echo.Context) error {
	at, err := strconv.Atoi(c.FormValue("at"))
	source := c.FormValue("source")
	if err != nil {
		return &Problem{Status: http.StatusBadRequest, Code: "form", Title: "That form is damaged"}
	}
	err = s.updateAuthority(c, func(a *termination.Authority) error {
		if at < 0 || at >= len(a.Revocation.CRLs) || a.Revocation.CRLs[at].Source != source {
			return notFound("revocation list", source)
		}
		a.Revocation.CRLs = slices.Delete(a.Revocation.CRLs, at, at+1)
		return nil
	})
	if err != nil {
		return err
	}
	s.say(c, "ok", "The list is gone.")
	return s.redirect(c, revocationPath(c))
}

// fetchCRLs has the lists of an authority fetched soon.
func (s *Server) fetchCRLs(c echo.Context) error {
	a, err := s.findAuthority(c)
	if err != nil {
		return err
	}
	if s.opts.Gateway != nil {
		s.opts.Gateway.FetchRevocation(a.Name)
	}
	s.say(c, "ok", "The lists are being fetched.")
	return s.redirect(c, revocationPath(c))
}
