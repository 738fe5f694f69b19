package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/views"
	"countersign/views/parts"
)

// identityFormOf is the form with an identity's values; nil: a new one.
func identityFormOf(config *termination.Config, i *termination.Identity) views.IdentityForm {
	f := views.IdentityForm{
		Name:  parts.Input{Name: "name", Label: "Name", Hint: "Rules, records and headers call the client so.", Words: true, Required: true},
		Text:  parts.Input{Name: "text", Label: "Or paste it", Rows: 5, Placeholder: "-----BEGIN CERTIFICATE-----"},
		Match: parts.Input{Name: "match", Label: "Known by names too", Hint: `One match a line, each with the authority that issues the certificate, as in authority=devices uri=spiffe://prod/billing`, Rows: 2},
		Rate:  parts.Input{Name: "rate", Label: "Rate", Hint: "As in 50/s, 100/m, 1000/h or 10000/d; empty: no bound.", Placeholder: "none"},
		Burst: parts.Input{Name: "burst", Label: "At once", Hint: "Empty: the number of the rate."},
	}
	var chosen []string
	if i != nil {
		f.Name.Value, f.Rate.Value = i.Name, i.Rate.String()
		if i.Rate.Burst > 0 {
			f.Burst.Value = strconv.Itoa(i.Rate.Burst)
		}
		var lines []string
		for _, m := range i.Matches {
			lines = append(lines, matchText(m))
		}
		f.Match.Value = strings.Join(lines, "\n")
		chosen = i.Endpoints
	}
	f.Endpoints = identityPlacesFor(config, chosen)
	return f
}

// identityPlacesFor are the endpoints that an identity could name.
func identityPlacesFor(config *termination.Config, chosen []string) []views.PreviewEndpoint {
	var out []views.PreviewEndpoint
	for n := range config.Endpoints {
		e := &config.Endpoints[n]
		if e.TerminateAt == termination.AtUpstream || e.Origin == termination.OriginCommand || e.Upstream.Address == termination.BuiltinPortal && e.Upstream.Scheme == termination.UpstreamBuiltin {
			continue
		}
		hint := "mode " + string(e.ClientAuth.Mode)
		if !e.ClientAuth.Mode.Asks() {
			hint = "asks for no certificate now"
		}
		out = append(out, views.PreviewEndpoint{Name: e.Name, Ticked: slices.Contains(chosen, e.Name), Hint: hint})
	}
	return out
}

// readIdentityForm reads what was typed into i, and puts it and what is wrong with it into the form.
func readIdentityForm(form url.Values, f *views.IdentityForm, i *termination.Identity) bool {
	i.Name, i.Endpoints = strings.TrimSpace(form.Get("name")), form["endpoint"]
	f.Name.Value, f.Rate.Value, f.Burst.Value, f.Match.Value, f.Text.Value = i.Name, form.Get("rate"), form.Get("burst"), form.Get("match"), ""
	for n := range f.Endpoints {
		f.Endpoints[n].Ticked = slices.Contains(i.Endpoints, f.Endpoints[n].Name)
	}
	if err := termination.CheckName(i.Name); err != nil {
		f.Name.Error = err.Error()
	}
	rate, err := termination.ParseRate(f.Rate.Value)
	if err != nil {
		f.Rate.Error = err.Error()
	}
	i.Rate = rate
	if text := strings.TrimSpace(f.Burst.Value); text != "" {
		if i.Rate.Burst, err = strconv.Atoi(text); err != nil {
			f.Burst.Error = "Write a whole number, or leave it empty."
		} else if err := termination.CheckRate(i.Rate); err != nil {
			f.Burst.Error = err.Error()
		}
	}
	i.Matches = nil
	for n, line := range strings.Split(f.Match.Value, "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		rules, err := termination.ParseRules("allow " + line)
		if err != nil || len(rules) != 1 {
			f.Match.Error = fmt.Sprintf("Line %d: %s", n+1, strings.TrimPrefix(errorText(err), "rule in line 1: "))
			break
		}
		i.Matches = append(i.Matches, rules[0].Subject)
	}
	return f.Name.Error+f.Rate.Error+f.Burst.Error+f.Match.Error == ""
}

func errorText(err error) string {
	if err == nil {
		return "it is not one match"
	}
	return err.Error()
}

// blameIdentity puts an error of the store beside what it is about, and reports whether it could.
func blameIdentity(err error, f *views.IdentityForm) bool {
	var taken store.NameTakenError
	var invalid termination.ValidationError
	switch {
	case errors.As(err, &taken):
		f.Name.Error = taken.Error()
		return true
	case errors.As(err, &invalid):
		field := map[string]*string{"name": &f.Name.Error, "rate": &f.Rate.Error, "match": &f.Match.Error, "endpoints": &f.EndpointErr}
		for _, e := range invalid {
			text := e.Problem
			if e.Advice != "" {
				text += "; " + e.Advice
			}
			if into := field[e.Field]; into != nil && e.Kind == store.KindIdentity {
				*into = text
			} else {
				f.Error = e.Error()
			}
		}
		return true
	}
	return false
}

// ownerOf returns the name of the identity that has a pin.
func ownerOf(config *termination.Config) func(termination.Pin) string {
	return func(pin termination.Pin) string {
		for n := range config.Identities {
			if slices.Contains(config.Identities[n].Pins, pin) {
				return config.Identities[n].Name
			}
		}
		return ""
	}
}

func (s *Server) newIdentityPage(c echo.Context) error {
	f := identityFormOf(s.current(), nil)
	if id := c.QueryParam("handshake"); id != "" {
		from, _, err := s.identityFrom(c, id)
		if err != nil {
			return err
		}
		f.From = from
	}
	return s.render(c, http.StatusOK, views.NewIdentityPage(s.view(c, "New client"), f))
}

// identityFrom shows the certificate of a recorded handshake. Only one whose key was proven can be registered, and never
// one that stands above it: a CA is trusted by upload alone.
func (s *Server) identityFrom(c echo.Context, id string) (*views.IdentityFrom, *termination.Handshake, error) {
	record, err := s.store.Handshake(c.Request().Context(), id)
	if err != nil {
		return nil, nil, err
	}
	h := record.Handshake
	if len(h.Presented) == 0 || !h.Verdict.Outcome.In() || h.Chosen == nil {
		return nil, nil, &Problem{
			Status: http.StatusConflict, Code: "not_proven", Title: "This handshake proves no certificate",
			Detail: "Only in a handshake that was let in did the client prove that it has the key of the certificate that it sent.",
			Advice: "Ask the client's owner for the certificate, and register that.", Href: "/identities/new", Link: "New client",
		}
	}
	leaf := h.Presented[0]
	p := s.view(c, "New client")
	return &views.IdentityFrom{
		Handshake: h.ID, Href: "/handshakes/" + url.PathEscape(h.ID),
		Facts: []parts.Fact{
			{Name: "Subject", Value: termination.NameText(leaf.Subject)},
			{Name: "Issuer", Value: termination.NameText(leaf.Issuer)},
			{Name: "Valid", Value: p.Date(leaf.NotBefore) + " to " + p.Date(leaf.NotAfter)},
			{Name: "Came to", Value: h.Endpoint + ", " + p.Moment(h.Time)},
		},
		// The fingerprint is not shown: whoever compares must have it from somewhere else.
		Compare: parts.Input{Name: "compare", Label: "SHA-256 of the certificate, as its owner reads it", Hint: "As openssl x509 -noout -fingerprint -sha256 prints it.", Required: true},
	}, h, nil
}

func (s *Server) createIdentity(c echo.Context) error {
	config := s.current()
	f := identityFormOf(config, nil)
	again := func() error {
		return s.render(c, http.StatusUnprocessableEntity, views.NewIdentityPage(s.view(c, "New client"), f))
	}
	var i termination.Identity
	data, _, err := readUploadForm(c)
	if err != nil {
		return err
	}
	ok := readIdentityForm(c.Request().Form, &f, &i)
	var warnings []termination.UploadWarning
	if id := c.FormValue("handshake"); id != "" {
		from, h, err := s.identityFrom(c, id)
		if err != nil {
			return err
		}
		f.From = from
		from.Compare.Value = c.FormValue("compare")
		got, err := termination.ParseFingerprint(from.Compare.Value)
		switch leaf := h.Presented[0]; {
		case err != nil:
			from.Compare.Error = err.Error()
		case got != termination.FingerprintOf(leaf):
			from.Compare.Error = "That is not the fingerprint of the certificate of this handshake: it belongs to somebody else, or the owner read another file."
		default:
			warnings, from.Compare.Error = registerInto(&i, leaf.Raw, s, config)
		}
		ok = ok && from.Compare.Error == ""
	} else if len(strings.TrimSpace(string(data))) > 0 {
		warnings, f.Text.Error = registerInto(&i, data, s, config)
		ok = ok && f.Text.Error == ""
	} else if len(i.Matches) == 0 {
		f.Text.Error, ok = "Choose a file or paste the certificate, or say below by which names it is known.", false
	}
	if !ok {
		return again()
	}
	if _, err := s.change(c, func(tx *store.Tx) error { _, err := tx.CreateIdentity(i); return err }); err != nil {
		if blameIdentity(err, &f) {
			return again()
		}
		return err
	}
	s.sayRegistered(c, i.Name+" is registered.", warnings)
	return s.redirect(c, identityPath(&i))
}

// registerInto reads a certificate for an identity; problem is why it cannot.
func registerInto(i *termination.Identity, data []byte, s *Server, config *termination.Config) (warnings []termination.UploadWarning, problem string) {
	r, err := termination.ReadRegistration(data, termination.RegistrationOptions{Now: s.now(), Owner: ownerOf(config)})
	var field termination.FieldError
	if errors.As(err, &field) {
		return nil, sentence(errors.New(field.Problem + "; " + field.Advice))
	}
	if err != nil {
		return nil, sentence(err)
	}
	i.Pins, i.Certificates = append(i.Pins, r.Pin()), append(i.Certificates, r.Certificate)
	for _, issuer := range r.Issuers {
		if !slices.ContainsFunc(i.Issuers, issuer.Equal) {
			i.Issuers = append(i.Issuers, issuer)
		}
	}
	return r.Warnings, ""
}

func (s *Server) sayRegistered(c echo.Context, what string, warnings []termination.UploadWarning) {
	s.say(c, "ok", what)
	for _, w := range warnings {
		s.say(c, "warn", w.Text)
	}
}

// changeIdentity changes the identity of a page's address.
func (s *Server) changeIdentity(c echo.Context, edit func(*termination.Identity) error) (*termination.Identity, error) {
	found, err := s.findIdentity(c)
	if err != nil {
		return nil, err
	}
	var changed termination.Identity
	_, err = s.change(c, func(tx *store.Tx) error {
		if changed, err = tx.Identity(found.ID); err != nil {
			return err
		}
		if err := edit(&changed); err != nil {
			return err
		}
		return tx.UpdateIdentity(changed)
	})
	return &changed, err
}

func (s *Server) addIdentityCertificate(c echo.Context) error {
	data, _, err := readUploadForm(c)
	if err != nil {
		return err
	}
	fail := func(problem string) error {
		return s.showIdentity(c, http.StatusUnprocessableEntity, func(v *views.Identity) { v.Upload.Error = problem })
	}
	var warnings []termination.UploadWarning
	var problem string
	i, err := s.changeIdentity(c, func(i *termination.Identity) error {
		if warnings, problem = registerInto(i, data, s, s.current()); problem != "" {
			return errors.New(problem)
		}
		return nil
	})
	var invalid termination.ValidationError
	switch {
	case problem != "":
		return fail(problem)
	case errors.As(err, &invalid):
		return fail(invalid.Error())
	case err != nil:
		return err
	}
	s.sayRegistered(c, i.Name+" has one more certificate.", warnings)
	return s.redirect(c, identityPath(i))
}

func (s *Server) removeIdentityCertificate(c echo.Context) error {
	pin, err := termination.ParsePin(c.FormValue("pin"))
	if err != nil {
		return &Problem{Status: http.StatusBadRequest, Code: "form", Title: "That form is damaged"}
	}
	i, err := s.changeIdentity(c, func(i *termination.Identity) error {
		n := slices.Index(i.Pins, pin)
		if n < 0 {
			return notFound("pin", pin.Fingerprint.Short())
		}
		if cert := i.Certificate(pin); cert != nil {
			i.Certificates = slices.DeleteFunc(slices.Clone(i.Certificates), cert.Equal)
		}
		i.Pins = slices.Delete(slices.Clone(i.Pins), n, n+1)
		return nil
	})
	var invalid termination.ValidationError
	if errors.As(err, &invalid) {
		return s.showIdentity(c, http.StatusConflict, func(v *views.Identity) { v.Error = invalid.Error() })
	}
	if err != nil {
		return err
	}
	s.say(c, "ok", "The certificate is removed. Live connections that came in by it are closed.")
	return s.redirect(c, identityPath(i))
}

func (s *Server) saveIdentity(c echo.Context) error {
	found, err := s.findIdentity(c)
	if err != nil {
		return err
	}
	form, err := c.FormParams()
	if err != nil {
		return &Problem{Status: http.StatusBadRequest, Code: "form", Title: "That form is damaged", Err: err}
	}
	f := identityFormOf(s.current(), found)
	again := func() error {
		return s.showIdentity(c, http.StatusUnprocessableEntity, func(v *views.Identity) { v.Form, v.Error = f, f.Error })
	}
	var typed termination.Identity
	if !readIdentityForm(form, &f, &typed) {
		return again()
	}
	i, err := s.changeIdentity(c, func(i *termination.Identity) error {
		i.Name, i.Endpoints, i.Rate, i.Matches = typed.Name, typed.Endpoints, typed.Rate, typed.Matches
		return nil
	})
	if err != nil {
		if blameIdentity(err, &f) {
			return again()
		}
		return err
	}
	s.say(c, "ok", "Saved. It holds from now on, also for connections that are open.")
	return s.redirect(c, identityPath(i))
}

func (s *Server) blockIdentity(blocked bool) echo.HandlerFunc {
	return func(c echo.Context) error {
		i, err := s.changeIdentity(c, func(i *termination.Identity) error { i.Blocked = blocked; return nil })
		if err != nil {
			return err
		}
		if blocked {
			s.say(c, "ok", i.Name+" is blocked everywhere, and its open connections are closed.")
		} else {
			s.say(c, "ok", i.Name+" may come in again.")
		}
		return s.redirect(c, identityPath(i))
	}
}

func (s *Server) deleteIdentity(c echo.Context) error {
	i, err := s.findIdentity(c)
	if err != nil {
		return err
	}
	if c.FormValue("do") == "simulate" {
		would, err := s.wouldChange(c, func(tx *store.Tx) error { return tx.DeleteIdentity(i.ID) })
		var invalid termination.ValidationError
		switch {
		case errors.As(err, &invalid):
			return s.showIdentity(c, http.StatusConflict, func(v *views.Identity) { v.Error = invalid.Error() })
		case err != nil:
			return err
		}
		return s.showIdentity(c, http.StatusOK, func(v *views.Identity) { v.Would = would })
	}
	if strings.TrimSpace(c.FormValue("confirm")) != i.Name {
		return s.showIdentity(c, http.StatusUnprocessableEntity, func(v *views.Identity) {
			v.Confirm.Error = "Type the name exactly: clients that come in as it may be turned away."
		})
	}
	_, err = s.change(c, func(tx *store.Tx) error { return tx.DeleteIdentity(i.ID) })
	var invalid termination.ValidationError
	if errors.As(err, &invalid) {
		return s.showIdentity(c, http.StatusConflict, func(v *views.Identity) { v.Error = invalid.Error() })
	}
	if err != nil {
		return err
	}
	s.say(c, "ok", i.Name+" is forgotten.")
	return s.redirect(c, "/identities")
}
