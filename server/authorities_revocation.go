package server

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/revocation"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

const (
	// crlBody bounds an uploaded revocation list, and what stands around it in the form.
	crlBody = 26 << 20
	// listEndsSoon and listEndsNow are how long before its end a list is warned about, where a fifth or a twentieth of
	// its life is not less.
	listEndsSoon, listEndsNow = 7 * 24 * time.Hour, 24 * time.Hour
	// takenBackShown bounds the list of what was taken back here.
	takenBackShown = 100
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

// revocationForm is what stands in the form about revocation, and what is wrong with it.
type revocationForm struct {
	mode, urls, ocsp string
	wrong            fieldProblems
}

func revocationFormOf(a *termination.Authority) *revocationForm {
	r := a.Revocation
	return &revocationForm{mode: string(r.Mode), urls: strings.Join(r.CRLURLs, "\n"), ocsp: r.OCSPURL, wrong: fieldProblems{}}
}

// revocationSection puts what an authority says about revocation, and how that is doing, on its page. typed is nil where
// nothing was.
func (s *Server) revocationSection(p views.Page, a *termination.Authority, typed *revocationForm) views.AuthorityRevocation {
	if typed == nil {
		typed = revocationFormOf(a)
	}
	mode := a.Revocation.Effective()
	v := views.AuthorityRevocation{
		Means:   revocationWords(mode, a.Revocation.Sources()),
		Mode:    parts.Input{Name: "revocation", Label: "When it is not known whether a certificate was revoked", Error: typed.wrong.of("revocation")},
		Modes:   options(typed.mode, "", "let it in, where there is a source", "soft", "let it in (soft)", "hard", "refuse it (hard)", "off", "do not look (off)"),
		URLs:    parts.Input{Name: "crl_urls", Label: "Addresses of revocation lists", Hint: "One a line; http or https. They are fetched before they end.", Value: typed.urls, Error: typed.wrong.of("crl_urls"), Rows: 2},
		OCSP:    parts.Input{Name: "ocsp_url", Label: "OCSP responder", Hint: "Is asked about each client, for two seconds at most. Never taken from a certificate.", Value: typed.ocsp, Error: typed.wrong.of("ocsp_url"), Placeholder: "http://ocsp.example.com"},
		Upload:  parts.Input{Name: "pem", Label: "Or paste it", Rows: 3, Placeholder: "-----BEGIN X509 CRL-----"},
		Fetches: len(a.Revocation.CRLURLs) > 0,
		Problem: typed.wrong.of(""), Open: len(typed.wrong) > 0,
		Label: string(mode),
	}
	if n := len(a.Revocation.Revoked); n > 0 {
		v.TakenBack = format.Count(n, "certificate was", "certificates were") + " taken back here"
		newest := slices.SortedFunc(slices.Values(a.Revocation.Revoked), func(x, y termination.RevokedCertificate) int { return y.Time.Compare(x.Time) })
		for _, r := range newest[:min(n, takenBackShown)] {
			v.Taken = append(v.Taken, parts.Fact{Name: p.Moment(r.Time), Value: "serial " + r.Serial, Note: r.Reason})
		}
		if n > takenBackShown {
			v.TakenBack += fmt.Sprintf("; the newest %d:", takenBackShown)
		}
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
		if at < len(a.Revocation.CRLs) && !source.Fetched { // those that were given come first, in their order
			one.Digest = digestOfList(a.Revocation.CRLs[at])
		}
		v.Sources = append(v.Sources, one)
	}
	if status.Responder != "" {
		v.Sources = append(v.Sources, responderSource(status, mode))
	}
	for _, issuer := range status.Issuers {
		if mode == termination.RevocationHard && !issuer.Fresh && a.Revocation.OCSPURL == "" {
			v.Missing = append(v.Missing, issuer.Name)
		}
	}
	return v
}

// responderSource says how the OCSP responder is doing.
func responderSource(status revocation.Status, mode termination.RevocationMode) views.RevocationSource {
	v := views.RevocationSource{Name: status.Responder, Looked: "OCSP responder; asked about each client, and again from half of an answer's life on"}
	if status.Silent {
		v.Problem, v.Tone = "It did not answer the last time, and is asked again in a moment.", parts.Warn
		if mode == termination.RevocationHard {
			v.Problem += " Until then clients are refused of whom no answer is known."
		}
	}
	return v
}

// digestOfList names a list that was given: by what it is, since others may come and go while somebody looks at the page.
func digestOfList(l termination.CRL) string {
	return termination.Fingerprint(sha256.Sum256(l.DER)).String()
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
	v := views.RevocationSource{Name: from.Source, Problem: from.Problem, Tone: parts.Bad}
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
	life := until.Sub(l.ThisUpdate) // one that lives a day must not cry all day
	switch left := until.Sub(p.Now); {
	case left <= 0:
		f.Note, f.Tone = "ended "+p.Relative(until), parts.Bad
	case left < min(listEndsNow, life/20):
		f.Note, f.Tone = "in "+format.Span(left), parts.Bad
	case left < min(listEndsSoon, life/5):
		f.Note, f.Tone = "in "+format.Span(left), parts.Warn
	default:
		f.Note = "in " + format.Span(left)
	}
	return f
}

// saveRevocation takes the mode, the addresses and the responder.
func (s *Server) saveRevocation(c echo.Context) error {
	typed := revocationForm{wrong: fieldProblems{}, mode: c.FormValue("revocation"), urls: c.FormValue("crl_urls"), ocsp: strings.TrimSpace(c.FormValue("ocsp_url"))}
	err := s.updateAuthority(c, func(a *termination.Authority) error {
		a.Revocation.Mode = termination.RevocationMode(typed.mode)
		a.Revocation.CRLURLs, a.Revocation.OCSPURL = words(typed.urls), typed.ocsp
		return nil
	})
	if err != nil && typed.wrong.ofAuthority(err) {
		return s.showRevocation(c, &typed)
	}
	if err != nil {
		return err
	}
	s.say(c, "ok", "Saved. It holds for every handshake from now on, and for who is in.")
	return s.redirect(c, revocationPath(c))
}

// showRevocation shows the authority's page again, with what was typed and what is wrong with it.
func (s *Server) showRevocation(c echo.Context, typed *revocationForm) error {
	a, err := s.findAuthority(c)
	if err != nil {
		return err
	}
	return s.showAuthority(c, http.StatusUnprocessableEntity, func(v *views.Authority) { v.Revocation = s.revocationSection(s.view(c, ""), a, typed) })
}

// ofAuthority takes from an error what is wrong with what an authority says about revocation, by field. It is false for
// errors of another kind, which the caller returns.
func (p fieldProblems) ofAuthority(err error) bool {
	var invalid termination.ValidationError
	if !errors.As(err, &invalid) {
		return false
	}
	for _, f := range invalid {
		text := f.Problem + "; " + f.Advice
		switch {
		case f.Kind != store.KindAuthority:
			p.add("", f.Error())
		case f.Field == "revocation", f.Field == "crl_urls", f.Field == "ocsp_url":
			p.add(f.Field, text)
		default:
			p.add("", text)
		}
	}
	return true
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
	if wrong := (fieldProblems{}); err != nil && wrong.ofAuthority(err) {
		return refuse(wrong.all())
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
	digest := c.FormValue("digest")
	before := &revocationForm{wrong: fieldProblems{}}
	err := s.updateAuthority(c, func(a *termination.Authority) error {
		before = revocationFormOf(a)
		at := slices.IndexFunc(a.Revocation.CRLs, func(l termination.CRL) bool { return digestOfList(l) == digest })
		if at < 0 {
			return notFound("revocation list", format.Cut(digest, 12))
		}
		a.Revocation.CRLs = slices.Delete(slices.Clone(a.Revocation.CRLs), at, at+1)
		return nil
	})
	if err != nil && before.wrong.ofAuthority(err) {
		return s.showRevocation(c, before)
	}
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
