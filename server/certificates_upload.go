package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/localca"
	"countersign/termination/unlock"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

// uploadForm is the form for a server certificate; replace is the ID of the one that it takes the place of.
func uploadForm(replace, name string) views.CertificateUpload {
	v := views.CertificateUpload{
		Replace: replace, Button: "Save the certificate",
		Name: parts.Input{Name: "name", ID: "upload-name" + replace, Label: "Name", Hint: "As endpoints will call it. Empty: the first name in the certificate.", Value: name, Words: true},
		Cert: parts.Input{Name: "cert", ID: "upload-cert" + replace, Label: "Or paste the certificate", Rows: 4, Placeholder: "-----BEGIN CERTIFICATE-----"},
		Key:  parts.Input{Name: "key", ID: "upload-key" + replace, Label: "Or paste the key", Rows: 3, Hint: "It is sealed before it is stored, and never shown again."},
	}
	v.Passphrase = parts.Input{
		Name: "passphrase", ID: "upload-passphrase" + replace, Label: "Passphrase", Type: "password",
		Hint: "Only for an encrypted key or a PKCS #12 file. It is used once, and not kept.", Autocomplete: "off",
	}
	if replace != "" {
		v.Button = "Replace " + name
		v.Name.Hint = "Endpoints follow a new one."
	}
	return v
}

// tooLargeError says that a file cannot be what it is taken for.
type tooLargeError struct{ size int64 }

func (e tooLargeError) Error() string {
	return fmt.Sprintf("The file is too large: it has %s, where %s are allowed. This is probably another file.", format.Bytes(e.size), format.Limit(termination.MaxUpload))
}

// readUploaded returns the bytes of the file of that field, or else of its text.
func readUploaded(c echo.Context, field string) ([]byte, error) {
	header, err := c.FormFile(field + "_file")
	if err != nil || header.Size == 0 {
		text := c.FormValue(field)
		if len(text) > termination.MaxUpload {
			return nil, tooLargeError{int64(len(text))}
		}
		return []byte(text), nil // no file was chosen
	}
	if header.Size > termination.MaxUpload {
		return nil, tooLargeError{header.Size}
	}
	f, err := header.Open()
	if err != nil {
		return nil, fmt.Errorf("open the upload: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, termination.MaxUpload+1))
	if err != nil {
		return nil, fmt.Errorf("read the upload: %w", err)
	}
	return data, nil
}

// saveServerCertificate adds a server certificate, or replaces one.
func (s *Server) saveServerCertificate(c echo.Context) error {
	form := uploadForm(c.FormValue("replace"), "")
	form.Name.Value = strings.TrimSpace(c.FormValue("name"))
	again := func(status int) error { return s.showUpload(c, status, form) }

	cert, err := readUploaded(c, "cert")
	var large tooLargeError
	if errors.As(err, &large) {
		form.Cert.Error = large.Error()
		return again(http.StatusUnprocessableEntity)
	} else if err != nil {
		return err
	}
	form.Cert.Value = onlyCertificates(cert)
	key, err := readUploaded(c, "key")
	if errors.As(err, &large) {
		form.Key.Error = large.Error()
		return again(http.StatusUnprocessableEntity)
	} else if err != nil {
		return err
	}
	defer clear(key)
	defer clear(cert)
	read, err := unlock.ReadServerCertificate(cert, key, c.FormValue("passphrase"), s.now())
	if err != nil {
		explainUpload(&form, err)
		return again(http.StatusUnprocessableEntity)
	}
	read.Complete(s.current().KnownIssuers(), s.now())
	wanted := read.Certificate("", form.Name.Value, termination.OriginDashboard)
	if wanted.Name == "" && form.Replace == "" {
		wanted.Name = s.freeCertificateName(read)
	}
	if err := termination.CheckName(wanted.Name); err != nil && (wanted.Name != "" || form.Replace == "") {
		form.Name.Error = sentence(err)
		return again(http.StatusUnprocessableEntity)
	}
	config, err := s.change(c, func(tx *store.Tx) error { return writeCertificate(tx, form.Replace, &wanted) })
	var taken store.NameTakenError
	var invalid termination.ValidationError
	switch {
	case errors.As(err, &taken):
		form.Name.Error = sentence(taken)
		return again(http.StatusUnprocessableEntity)
	case errors.As(err, &invalid):
		form.Error = invalid.Error()
		return again(http.StatusUnprocessableEntity)
	case err != nil:
		return err
	}
	s.sayCertificate(c, config, &wanted, form.Replace != "", read.Notes)
	return s.redirect(c, "/certificates/"+termination.FingerprintOf(wanted.Leaf()).String())
}

func writeCertificate(tx *store.Tx, replace string, wanted *termination.Certificate) error {
	if replace == "" {
		_, err := tx.CreateCertificate(*wanted, store.SourceUpload)
		return err
	}
	before, err := tx.Certificate(replace)
	if err != nil {
		return err
	}
	wanted.ID, wanted.Origin = before.ID, before.Origin
	if wanted.Name == "" {
		wanted.Name = before.Name
	}
	return tx.UpdateCertificate(*wanted)
}

// onlyCertificates is what may be shown again of what was typed: the certificates in it, written anew. A key that
// stood beside them never comes back.
func onlyCertificates(data []byte) string {
	upload, err := termination.ReadUpload(bytes.Clone(data)) // which wipes the keys that it finds
	if err != nil {
		return ""
	}
	return string(upload.PEM())
}

// explainUpload puts the error of a reader at the field that it is about.
func explainUpload(form *views.CertificateUpload, err error) {
	var field termination.FieldError
	if !errors.As(err, &field) {
		form.Error = sentence(err)
		return
	}
	text := fullStop(capital(field.Problem)) + " " + fullStop(capital(field.Advice))
	switch field.Field {
	case unlock.FieldPassphrase:
		form.Passphrase.Error = text + " Choose the files again: they are not kept."
	case "key_file":
		form.Key.Error = text
	default:
		form.Cert.Error = text
	}
}

// showUpload renders the page on which the form stands, with what is wrong in it.
func (s *Server) showUpload(c echo.Context, status int, form views.CertificateUpload) error {
	config := s.current()
	for i := range config.Certificates {
		if k := &config.Certificates[i]; form.Replace != "" && k.ID == form.Replace {
			form.Button = "Replace " + k.Name
			return s.showCertificate(c, status, termination.FingerprintOf(k.Leaf()), func(v *views.Certificate) {
				for j := range v.Kept {
					if v.Kept[j].ID == form.Replace {
						v.Kept[j].Upload = form
					}
				}
			})
		}
	}
	if form.Replace != "" {
		return notFound(store.KindCertificate, form.Replace)
	}
	return s.showCertificates(c, status, func(v *views.Certificates) { v.Upload = form })
}

// freeCertificateName makes a name of the first one in the certificate.
func (s *Server) freeCertificateName(read *termination.ServerCertificate) string {
	base := "certificate"
	if len(read.Names) > 0 {
		if name := strings.TrimSpace(strings.ReplaceAll(read.Names[0], "*.", "wildcard.")); termination.CheckName(name) == nil && len(name) <= 56 {
			base = name
		}
	}
	config := s.current()
	name := base
	for n := 2; config.Certificate(name) != nil; n++ {
		name = fmt.Sprintf("%s %d", base, n)
	}
	return name
}

// sayCertificate tells what became of an upload, and what was noticed in it.
func (s *Server) sayCertificate(c echo.Context, config *termination.Config, saved *termination.Certificate, replaced bool, notes []termination.UploadWarning) {
	what := saved.Name + " is saved. No endpoint presents it yet."
	users := presenters(config, saved.Name)
	switch {
	case replaced && len(users) > 0:
		what = fmt.Sprintf("%s is replaced. %s it from now on.", saved.Name, format.Count(len(users), "endpoint presents", "endpoints present"))
	case replaced:
		what = saved.Name + " is replaced."
	}
	s.say(c, "ok", what)
	for i := range config.Endpoints {
		e := &config.Endpoints[i]
		if names := config.UncoveredNames(e); len(names) > 0 && slices.Contains(e.Certificates, saved.Name) {
			s.say(c, "warn", fmt.Sprintf("%s: none of its certificates is for %s. Clients that ask for that name refuse it.", e.Name, strings.Join(names, ", ")))
		}
	}
	for _, n := range notes {
		tone := "ok"
		if n.Strong {
			tone = "warn"
		}
		s.say(c, tone, n.Text)
	}
}

// deleteServerCertificate deletes a certificate that is kept here, and its key.
func (s *Server) deleteServerCertificate(c echo.Context) error {
	id := c.Param("fingerprint")
	config := s.current()
	var found *termination.Certificate
	for i := range config.Certificates {
		if config.Certificates[i].ID == id {
			found = &config.Certificates[i]
		}
	}
	if found == nil {
		return notFound(store.KindCertificate, id)
	}
	_, err := s.change(c, func(tx *store.Tx) error { return tx.DeleteCertificate(id) })
	var used store.InUseError
	var invalid termination.ValidationError
	if errors.As(err, &used) || errors.As(err, &invalid) {
		return s.showCertificate(c, http.StatusConflict, termination.FingerprintOf(found.Leaf()), func(v *views.Certificate) { v.Problem = sentence(err) })
	}
	if err != nil {
		return err
	}
	s.say(c, "ok", found.Name+" and its private key are deleted.")
	return s.redirect(c, "/certificates")
}

// makeLocalCA makes a CA that can issue, and the authority that holds its certificate.
func (s *Server) makeLocalCA(c echo.Context) error {
	name, limited := strings.TrimSpace(c.FormValue("name")), c.FormValue("constrained") == "on"
	fail := func(problem string) error {
		return s.showCertificates(c, http.StatusUnprocessableEntity, func(v *views.Certificates) {
			v.Make = views.LocalCAForm{Name: localNameInput(name, problem), Constrained: limited}
		})
	}
	if err := termination.CheckName(name); err != nil {
		return fail(sentence(err))
	}
	ca, err := localca.Create(localca.Options{Name: name, Constrained: limited, Now: s.now()})
	if err != nil {
		return fail(sentence(err))
	}
	_, err = s.change(c, func(tx *store.Tx) error { return WriteLocalCA(tx, ca) })
	var taken store.NameTakenError
	if errors.As(err, &taken) {
		return fail(sentence(taken))
	}
	if err != nil {
		return err
	}
	s.say(c, "ok", name+" can issue certificates now. No endpoint asks it for clients yet.")
	return s.redirect(c, "/certificates#local")
}

// sentence writes an error as a page does: with a capital letter and a full stop.
func sentence(err error) string { return fullStop(capital(err.Error())) }

func fullStop(s string) string {
	if strings.HasSuffix(s, ".") {
		return s
	}
	return s + "."
}

// capital makes the first letter a capital one, if it is an ASCII letter.
func capital(s string) string {
	if s != "" && s[0] >= 'a' && s[0] <= 'z' {
		return string(s[0]-'a'+'A') + s[1:]
	}
	return s
}
