package server

import (
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"countersign/server/api"
	"countersign/store"
	"countersign/termination"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

// blockRows is how many blocks stand on one page.
const blockRows = 100

// blockRoutes lists the routes of the pages of what is blocked.
func (s *Server) blockRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/blocked", handler: s.blockedPage},
		{method: http.MethodGet, path: "/blocked/new", handler: s.blockFormPage},
		{method: http.MethodPost, path: "/blocked/new", handler: s.block},
		{method: http.MethodGet, path: "/blocked/:id", handler: s.blockPage},
		{method: http.MethodPost, path: "/blocked/:id/unblock", handler: s.unblock},
	}
}

// blockedPage lists what is blocked, newest first.
func (s *Server) blockedPage(c echo.Context) error {
	p := s.view(c, "Blocked")
	p.Keys = append(p.Keys, views.Key{Keys: []string{"n"}, Does: "block a client"})
	all := slices.Clone(s.current().Blocked)
	slices.Reverse(all)
	from := pageStart(c.QueryParam("from"), len(all))
	v := views.Blocked{Tabs: clientTabs("/blocked")}
	for i := range all[from:min(from+blockRows, len(all))] {
		v.Items = append(v.Items, s.blockItem(c, p, &all[from+i]))
	}
	v.Rows = rowsFrom(from, blockRows, len(all), func(from int) string { return listHref("/blocked", from) })
	for _, problem := range *s.problems.Load() {
		if problem.Kind == store.KindBlock {
			v.Problem = append(v.Problem, problem.Error())
		}
	}
	return s.render(c, http.StatusOK, views.BlockedPage(p, v))
}

func (s *Server) blockItem(c echo.Context, p views.Page, b *termination.Block) views.BlockItem {
	item := views.BlockItem{
		ID: b.ID, Href: "/blocked/" + b.ID, What: "Certificate", Why: b.Why, When: p.Relative(b.Since), Exact: p.Exact(b.Since),
		By: b.By, File: b.Origin == termination.OriginFile,
	}
	switch {
	case b.Pin == nil:
		item.What, item.Value = "Serial number", b.Serial+" of "+b.Authority
	case b.Pin.Key:
		item.What, item.Value = "Key", b.Pin.String()
	default:
		item.Value = b.Pin.String()
		seen, err := s.store.SeenCertificates(c.Request().Context(), b.Pin.Fingerprint.String())
		if err != nil {
			s.log.Warn("a blocked certificate was not looked up", "error", err)
		} else if len(seen) == 1 {
			item.Client = titleOf(seen[0])
		}
	}
	return item
}

// blockedCertificate finds the certificate that a form is about: by a handshake's ID, or by a fingerprint. Nil: none was
// named.
func (s *Server) blockedCertificate(c echo.Context, handshake, fingerprint string) (cert *x509.Certificate, unproven bool, err error) {
	switch {
	case handshake != "":
		r, err := s.store.Handshake(c.Request().Context(), handshake)
		if err != nil {
			return nil, false, err
		}
		if len(r.Handshake.Presented) == 0 {
			return nil, false, notFound("certificate of handshake", format.Cut(handshake, 64))
		}
		return r.Handshake.Presented[0], r.Handshake.Verdict.Beat < termination.BeatEstablished, nil
	case fingerprint != "":
		cert, err = api.FindCertificate(c.Request().Context(), s.store, s.current(), fingerprint)
		return cert, false, err
	}
	return nil, false, nil
}

const (
	blockCertificate = "certificate"
	blockKey         = "key"
	blockSerial      = "serial:" // and the name of the authority
)

func (s *Server) blockForm(cert *x509.Certificate, c echo.Context) views.BlockForm {
	f := views.BlockForm{Back: "/blocked"}
	f.Why = parts.Input{Name: "why", Label: "Why", Hint: "For whoever looks at it later. The client is not told.", Value: c.FormValue("why"), Placeholder: "laptop lost", Words: true}
	config := s.current()
	if cert == nil {
		f.Pin = parts.Input{Name: "pin", Label: "Fingerprint", Hint: "SHA-256 of the certificate, also with colons or the beginning of one that was seen here; or spki: and that of its key.", Value: c.FormValue("pin")}
		f.Serial = parts.Input{Name: "serial", Label: "Serial number", Hint: "In hex, as openssl x509 -serial prints it.", Value: c.FormValue("serial")}
		f.Issuer = parts.Input{Name: "authority", Label: "Issued by a CA of"}
		for i := range config.Authorities {
			name := config.Authorities[i].Name
			f.Issuers = append(f.Issuers, parts.Option{Value: name, Label: name, Selected: c.FormValue("authority") == name})
		}
		return f
	}
	f.Hidden = termination.FingerprintOf(cert).String()
	f.From = parts.Fact{Name: "Client", Value: titleOf(cert), Note: "issued by " + orNone(format.Cut(termination.NameText(cert.Issuer), 300))}
	f.What = parts.Input{Name: "what", Label: "What to block", Hint: "The certificate alone; or its key, whatever certificate comes with it; or the serial number under its CA, which also keeps out a copy with another signature."}
	chosen := c.FormValue("what")
	add := func(value, label string) {
		f.Choices = append(f.Choices, parts.Option{Value: value, Label: label, Selected: chosen == value || chosen == "" && value == blockCertificate})
	}
	add(blockCertificate, "Certificate")
	add(blockKey, "Key")
	for i := range config.Authorities {
		a := &config.Authorities[i]
		if slices.ContainsFunc(a.Certificates, func(ca termination.CACertificate) bool {
			return string(ca.Certificate.RawSubject) == string(cert.RawIssuer)
		}) {
			add(blockSerial+a.Name, "Serial of "+a.Name)
		}
	}
	return f
}

func (s *Server) blockFormPage(c echo.Context) error {
	cert, unproven, err := s.blockedCertificate(c, c.QueryParam("handshake"), c.QueryParam("certificate"))
	if err != nil {
		return err
	}
	f := s.blockForm(cert, c)
	f.Unproven = unproven
	if c.QueryParam("handshake") != "" {
		f.Back = "/handshakes/" + url.PathEscape(c.QueryParam("handshake"))
	}
	return s.render(c, http.StatusOK, views.BlockFormPage(s.view(c, "Block a client"), f))
}

// block keeps a client out, and shows what comes of it.
func (s *Server) block(c echo.Context) error {
	cert, _, err := s.blockedCertificate(c, "", c.FormValue("certificate"))
	if err != nil {
		return err
	}
	f := s.blockForm(cert, c)
	b := termination.Block{Why: strings.TrimSpace(c.FormValue("why"))}
	if cert == nil {
		if err := s.typedBlock(c, &b, &f); err != nil {
			return err
		}
	} else {
		b = chosenBlock(cert, c.FormValue("what"), b.Why)
	}
	if f.Pin.Error == "" && f.Serial.Error == "" {
		_, err = s.change(c, func(tx *store.Tx) (err error) {
			b, err = tx.Block(b)
			return err
		})
		if err == nil {
			s.say(c, "ok", "It is blocked. What that has cut shows here.")
			return s.redirect(c, "/blocked/"+b.ID)
		}
		invalid, ok := errors.AsType[termination.ValidationError](err)
		if !ok {
			return err
		}
		for _, wrong := range invalid {
			text := strings.TrimSuffix(wrong.Problem+"; "+wrong.Advice, "; ")
			if wrong.Field == "why" {
				f.Why.Error = text
				continue
			}
			f.Problems = append(f.Problems, text)
		}
	}
	return s.render(c, http.StatusUnprocessableEntity, views.BlockFormPage(s.view(c, "Block a client"), f))
}

func chosenBlock(cert *x509.Certificate, what, why string) termination.Block {
	b := termination.Block{Why: why}
	if authority, ok := strings.CutPrefix(what, blockSerial); ok {
		b.Serial, b.Authority = termination.SerialOf(cert), authority
		return b
	}
	b.Pin = &termination.Pin{Fingerprint: termination.FingerprintOf(cert)}
	if what == blockKey {
		b.Pin = &termination.Pin{Fingerprint: termination.KeyFingerprintOf(cert), Key: true}
	}
	return b
}

// typedBlock reads what was typed in; what is wrong stands at its field.
func (s *Server) typedBlock(c echo.Context, b *termination.Block, f *views.BlockForm) error {
	typed := strings.TrimSpace(c.FormValue("pin"))
	if serial := strings.TrimSpace(c.FormValue("serial")); serial != "" && typed == "" {
		plain, err := termination.ParseSerial(serial)
		if err != nil {
			f.Serial.Error = err.Error()
		}
		b.Serial, b.Authority = plain, c.FormValue("authority")
		return nil
	}
	pin, err := termination.ParsePin(typed)
	if err == nil {
		b.Pin = &pin
		return nil
	}
	if typed == "" {
		f.Pin.Error = "Say whom to block: give a fingerprint, or a serial number below."
		return nil
	}
	found, err := api.FindCertificate(c.Request().Context(), s.store, s.current(), typed)
	var missing store.NotFoundError
	var ambiguous store.AmbiguousError
	switch {
	case errors.As(err, &missing):
		f.Pin.Error = "This is no whole SHA-256, and no certificate that was seen here begins with it. Give all 64 hex digits."
	case errors.As(err, &ambiguous):
		f.Pin.Error = "Several certificates begin with it. Give more of it."
	case err != nil:
		return err
	default:
		b.Pin = &termination.Pin{Fingerprint: termination.FingerprintOf(found)}
	}
	return nil
}

func (s *Server) findBlock(c echo.Context) (*termination.Block, error) {
	config := s.current()
	for i := range config.Blocked {
		if config.Blocked[i].ID == c.Param("id") {
			return &config.Blocked[i], nil
		}
	}
	p := notFound("block", format.Cut(c.Param("id"), 64))
	p.Href, p.Link = "/blocked", "What is blocked"
	return nil, p
}

func (s *Server) unblock(c echo.Context) error {
	// One that cannot be read is in no configuration, and is removed all the same.
	if _, err := s.change(c, func(tx *store.Tx) error { return tx.Unblock(c.Param("id")) }); err != nil {
		return err
	}
	s.say(c, "ok", "It is unblocked, and may come in again.")
	return s.redirect(c, "/blocked")
}
