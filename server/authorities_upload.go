package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

// previewAuthority says what is in an upload. Nothing is saved.
func (s *Server) previewAuthority(c echo.Context) error {
	data, source, err := readUploadForm(c)
	if err != nil {
		return err
	}
	text := c.FormValue("text")
	upload, err := termination.ReadUpload(data)
	if err != nil {
		return s.showAuthorities(c, http.StatusUnprocessableEntity, views.Authorities{Upload: err.Error()})
	}
	if upload.Has(termination.UploadEmpty) {
		return s.showAuthorities(c, http.StatusUnprocessableEntity, views.Authorities{Upload: "Choose a file, or paste text.", Pasted: text})
	}
	preview := s.preview(c, upload, c.FormValue("into"), nil)
	preview.Source = source
	status := http.StatusOK
	if preview.Button == "" {
		status = http.StatusUnprocessableEntity
	}
	return s.showAuthorities(c, status, views.Authorities{Preview: preview})
}

// readUploadForm returns the bytes of the file, or else of the text, and what they are called. No more is read than an
// upload may hold, and one byte, so that what is larger is known to be.
func readUploadForm(c echo.Context) (data []byte, source string, err error) {
	if header, err := c.FormFile("file"); err == nil && header.Size > 0 {
		f, err := header.Open()
		if err != nil {
			return nil, "", fmt.Errorf("open the upload: %w", err)
		}
		defer func() { _ = f.Close() }()
		data, err = io.ReadAll(io.LimitReader(f, termination.MaxUpload+1))
		if err != nil {
			return nil, "", fmt.Errorf("read the upload: %w", err)
		}
		return data, format.Cut(filepath.Base(header.Filename), 100) + " · " + format.Bytes(header.Size), nil
	}
	text := c.FormValue("text")
	return []byte(text), "pasted text · " + format.Bytes(int64(len(text))), nil
}

// preview plans an upload with the choices that a person has made so far.
func (s *Server) preview(c echo.Context, upload termination.Upload, into string, choices map[termination.Fingerprint]termination.UploadUse) *views.TrustPreview {
	config := s.current()
	plan := termination.PlanAuthority(upload, termination.PlanOptions{
		Known: config.KnownCertificates(), Into: into, Choices: choices, Now: s.now(),
	})
	v := &views.TrustPreview{
		Headline: plan.Headline(), PEM: string(upload.PEM()), Into: into,
		Name: parts.Input{Name: "name", Label: "Name", Hint: "As endpoints will call it.", Value: suggestName(config, plan), Words: true},
	}
	for _, i := range plan.Items {
		v.Items = append(v.Items, previewItem(i))
	}
	savable := slices.ContainsFunc(plan.Items, func(i termination.PlannedItem) bool {
		return len(i.Choices) > 0 || i.Use == termination.UseAnchor || i.Use == termination.UseHelper || i.Use == termination.UsePin
	})
	if !savable {
		return v
	}
	chosen := c.Request().Form["endpoint"]
	for i := range config.Endpoints {
		e := &config.Endpoints[i]
		if e.TerminateAt != termination.AtEdge || e.Origin.Fixed() {
			continue
		}
		v.Endpoints = append(v.Endpoints, views.PreviewEndpoint{Name: e.Name, Ticked: slices.Contains(chosen, e.Name), Hint: trustHint(e)})
	}
	v.Periods = periodOptions(c.FormValue("period"))
	v.Button = "Trust it"
	if into != "" {
		v.Button = "Add to " + into
	}
	return v
}

func trustHint(e *termination.Endpoint) string {
	if e.ClientAuth.Mode == termination.ModeOff {
		return "lets anyone in now; will require a certificate"
	}
	return "mode " + string(e.ClientAuth.Mode)
}

func previewItem(i termination.PlannedItem) views.PreviewItem {
	v := views.PreviewItem{Title: i.Title, Label: i.Label, Message: i.Message, Fingerprint: i.Fingerprint.String(), Symbol: parts.ChainGood, Tone: parts.OK}
	switch i.Use {
	case termination.UseAnchor:
		v.Symbol = parts.ChainAnchor
	case termination.UseHelper, termination.UsePin:
		v.Tone = parts.Plain
	case termination.UseAsk, termination.UseSkip:
		v.Symbol, v.Tone = parts.ChainWarn, parts.Warn
	case termination.UseRefuse:
		v.Symbol, v.Tone = parts.ChainBroken, parts.Bad
	}
	if cert := i.Certificate; cert != nil {
		usages := termination.UsageNames(cert)
		v.Facts = append(v.Facts,
			"subject "+termination.NameText(cert.Subject), "issuer "+termination.NameText(cert.Issuer),
			fmt.Sprintf("%s to %s · %s · %s", cert.NotBefore.UTC().Format(time.DateOnly), cert.NotAfter.UTC().Format(time.DateOnly), termination.KeyName(cert.PublicKey), strings.Join(usages, ", ")),
			"SHA-256 "+format.Fingerprint(i.Fingerprint))
	}
	for _, w := range i.Warnings {
		tone := parts.Warn
		if w.Strong {
			tone = parts.Bad
		}
		v.Warnings = append(v.Warnings, views.PreviewWarning{Tone: tone, Text: w.Text})
	}
	for _, choice := range i.Choices {
		v.Choices = append(v.Choices, parts.Option{Value: string(choice), Label: useLabel(choice), Selected: choice == i.Use})
	}
	return v
}

func useLabel(u termination.UploadUse) string {
	switch u {
	case termination.UseAnchor:
		return "issuer: chains may end here"
	case termination.UseHelper:
		return "helper for chains"
	case termination.UsePin:
		return "pin: exactly this certificate"
	case termination.UseRefuse, termination.UseSkip, termination.UseAsk:
		return "leave it out"
	}
	return string(u)
}

// suggestName takes the name of the first anchor, made fit to be a name.
func suggestName(config *termination.Config, plan *termination.AuthorityPlan) string {
	for _, i := range plan.Items {
		if i.Certificate == nil || i.Use == termination.UseSkip || i.Use == termination.UseRefuse {
			continue
		}
		name := fitName(i.Title)
		for n := 2; config.Authority(name) != nil; n++ {
			name = fmt.Sprintf("%s %d", fitName(i.Title), n)
		}
		return name
	}
	return ""
}

// fitName makes a name of hostile text: what may not stand in one becomes a space.
func fitName(s string) string {
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= 56 {
			break
		}
		if r < 0x80 && termination.CheckName("a"+string(r)+"a") == nil {
			b.WriteRune(r)
		} else {
			b.WriteByte(' ')
		}
	}
	name := strings.Join(strings.Fields(b.String()), " ")
	name = strings.TrimLeft(name, "-_. ")
	if termination.CheckName(name) != nil {
		return "authority"
	}
	return name
}

// saveAuthority saves what a preview showed. What travelled through the form is read and planned again.
func (s *Server) saveAuthority(c echo.Context) error {
	upload, err := termination.ReadUpload([]byte(c.FormValue("pem")))
	if err != nil {
		return s.showAuthorities(c, http.StatusUnprocessableEntity, views.Authorities{Upload: err.Error()})
	}
	into, choices := c.FormValue("into"), choicesOf(c.Request().Form)
	plan := termination.PlanAuthority(upload, termination.PlanOptions{Known: s.current().KnownCertificates(), Into: into, Choices: choices, Now: s.now()})
	again := func(field, problem string) error {
		v := s.preview(c, upload, into, choices)
		v.Source, v.Name.Value = c.FormValue("source"), c.FormValue("name")
		if field == "name" {
			v.Name.Error = problem
		} else {
			v.Error = problem
		}
		return s.showAuthorities(c, http.StatusUnprocessableEntity, views.Authorities{Preview: v})
	}
	if err := plan.Err(); err != nil {
		return again("", err.Error())
	}
	saved := &trustChange{
		name: strings.TrimSpace(c.FormValue("name")), into: into, certificates: plan.Certificates(),
		endpoints: c.Request().Form["endpoint"],
	}
	for _, pin := range plan.Pins() {
		saved.pins = append(saved.pins, termination.Pin{Fingerprint: termination.FingerprintOf(pin)})
	}
	if len(saved.pins) > 0 && len(saved.endpoints) == 0 {
		return again("", "A pin lets one client into chosen endpoints: choose at least one.")
	}
	if into == "" && len(saved.certificates) > 0 {
		if err := termination.CheckName(saved.name); err != nil {
			return again("name", err.Error())
		}
	}
	var would *views.Rehearsal
	if c.FormValue("do") == "simulate" {
		would, err = s.wouldChange(c, saved.write)
	} else {
		_, err = s.change(c, saved.write)
	}
	if err != nil {
		var taken store.NameTakenError
		var invalid termination.ValidationError
		switch {
		case errors.As(err, &taken):
			return again("name", taken.Error())
		case errors.As(err, &invalid):
			return again("", invalid.Error())
		}
		return err
	}
	if would != nil {
		v := s.preview(c, upload, into, choices)
		v.Source, v.Name.Value, v.Would = c.FormValue("source"), c.FormValue("name"), would
		return s.showAuthorities(c, http.StatusOK, views.Authorities{Preview: v})
	}
	s.say(c, "ok", saved.sentence())
	return s.redirect(c, "/authorities")
}

// choicesOf reads what a person chose for each certificate.
func choicesOf(form url.Values) map[termination.Fingerprint]termination.UploadUse {
	out := map[termination.Fingerprint]termination.UploadUse{}
	for key, values := range form {
		hex, ok := strings.CutPrefix(key, "use-")
		if !ok || len(values) == 0 {
			continue
		}
		if f, err := termination.ParseFingerprint(hex); err == nil {
			out[f] = termination.UploadUse(values[0])
		}
	}
	return out
}

// trustChange is an upload on its way into the configuration.
type trustChange struct {
	name, into   string
	certificates []termination.CACertificate
	pins         []termination.Pin
	endpoints    []string
}

func (t *trustChange) write(tx *store.Tx) error {
	if len(t.certificates) > 0 {
		if err := t.writeAuthority(tx); err != nil {
			return err
		}
	}
	for _, name := range t.endpoints {
		e, err := tx.Endpoint(name)
		if err != nil {
			return err
		}
		a := &e.ClientAuth
		if len(t.certificates) > 0 && !slices.Contains(a.Authorities, t.authority()) {
			a.Authorities = append(a.Authorities, t.authority())
		}
		for _, pin := range t.pins {
			if !slices.Contains(a.Pins, pin) {
				a.Pins = append(a.Pins, pin)
			}
		}
		if a.Mode == termination.ModeOff {
			a.Mode = termination.ModeRequire // whoever chooses a CA means that it counts
		}
		if err := tx.UpdateEndpoint(e); err != nil {
			return err
		}
	}
	return nil
}

func (t *trustChange) authority() string {
	if t.into != "" {
		return t.into
	}
	return t.name
}

func (t *trustChange) writeAuthority(tx *store.Tx) error {
	if t.into == "" {
		_, err := tx.CreateAuthority(termination.Authority{Name: t.name, Certificates: t.certificates})
		return err
	}
	a, err := tx.Authority(t.into)
	if err != nil {
		return err
	}
	for _, c := range t.certificates {
		if !slices.ContainsFunc(a.Certificates, func(k termination.CACertificate) bool { return k.Certificate.Equal(c.Certificate) }) {
			a.Certificates = append(a.Certificates, c)
		}
	}
	return tx.UpdateAuthority(a)
}

func (t *trustChange) sentence() string {
	what := t.authority() + " is trusted"
	if len(t.certificates) == 0 {
		what = "The pin is set"
	} else if t.into != "" {
		what = "The certificates were added to " + t.into
	}
	if len(t.endpoints) == 0 {
		return what + ". No endpoint asks it yet."
	}
	return what + " for " + strings.Join(t.endpoints, ", ") + "."
}
