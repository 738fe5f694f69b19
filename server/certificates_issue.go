package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/localca"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

// issuing is the form that issues certificates, with the files of those that were issued a moment ago.
type issuing struct {
	*Server
	held *heldFiles
}

// wish is what a person asked for.
type wish struct {
	name, kind, uri, email, ca string
	dns                        []string
	days                       int
	makeCA                     bool // where none may sign this
	makeName                   string
}

// lives are the choices of a certificate's life, in days.
func lives() []int { return []int{1, 7, 30, 90, 365} }

func readWish(get func(string) string) wish {
	w := wish{
		name: strings.TrimSpace(get("name")), kind: get("kind"), uri: strings.TrimSpace(get("uri")), email: strings.TrimSpace(get("email")), ca: get("ca"),
		dns:    strings.FieldsFunc(get("dns"), func(r rune) bool { return strings.ContainsRune(", ;\t\r\n", r) }),
		makeCA: get("make") == "on", makeName: strings.TrimSpace(get("make_name")),
	}
	if w.kind != kindServer {
		w.kind = kindClient
	}
	w.days, _ = strconv.Atoi(get("days"))
	if !slices.Contains(lives(), w.days) {
		w.days = 30
	}
	return w
}

// fit makes a wish of a link's words, which may be the name of any client that ever came: an identity that is a URI
// becomes one, and what no certificate may hold is replaced.
func (w *wish) fit() {
	if u, err := url.Parse(w.name); err == nil && u.Scheme != "" && u.Host != "" && w.uri == "" {
		w.uri = w.name
		w.name = u.Path[strings.LastIndexByte(u.Path, '/')+1:]
		if w.name == "" {
			w.name = u.Host
		}
	}
	if utf8.RuneCountInString(w.name) > 64 || format.Visible(w.name) != w.name {
		w.name = localca.ClientName(w.name)
	}
}

func (i *issuing) page(c echo.Context) error {
	w := readWish(c.QueryParam)
	w.fit()
	form := i.form(w)
	if len(form.CAs) == 0 {
		form.Ask = &views.AskForCA{Why: "There is no local CA yet, so nothing can be issued.", Name: i.makeNameInput(""), Ticked: true}
	}
	return i.render(c, http.StatusOK, views.IssuePage(i.view(c, "Issue a certificate"), form))
}

// form is the form with what a person asked for in it.
func (i *issuing) form(w wish) views.IssueForm {
	f := views.IssueForm{
		Name: parts.Input{Name: "name", Label: "Name", Hint: "A client's name as services will see it, such as billing; a server's host name or IP address.", Value: w.name, Required: true},
		Kinds: []parts.Option{
			{Value: kindClient, Label: "A client", Selected: w.kind == kindClient},
			{Value: kindServer, Label: "A server", Selected: w.kind == kindServer},
		},
		DNS:   parts.Input{Name: "dns", Label: "DNS names", Hint: "For a server, IP addresses too. Several with spaces between.", Value: strings.Join(w.dns, " ")},
		URI:   parts.Input{Name: "uri", Label: "URI", Hint: "For a client: its identity, as in spiffe://example.org/billing.", Value: w.uri},
		Email: parts.Input{Name: "email", Label: "E-mail address", Hint: "For a client.", Value: w.email},
		CA:    parts.Input{Name: "ca", Label: "Issued by"},
	}
	for _, d := range lives() {
		f.Days = append(f.Days, parts.Option{Value: strconv.Itoa(d), Label: format.Count(d, "day", "days"), Selected: d == w.days})
	}
	cas := i.current().LocalCAs
	if len(cas) > 0 {
		f.CAs = append(f.CAs, parts.Option{Label: "The first that may sign it", Selected: w.ca == ""})
	}
	for j := range cas {
		label := cas[j].Name
		if constrained(cas[j].Certificate) {
			label += ", only for localhost"
		}
		f.CAs = append(f.CAs, parts.Option{Value: cas[j].Name, Label: label, Selected: cas[j].Name == w.ca})
	}
	return f
}

// makeNameInput asks for the name of a new local CA, with one that is free.
func (i *issuing) makeNameInput(value string) parts.Input {
	if value == "" {
		value = "Local CA"
		for n := 2; i.current().Authority(value) != nil; n++ {
			value = "Local CA " + strconv.Itoa(n)
		}
	}
	return parts.Input{Name: "make_name", Label: "Its name", Value: value, Words: true}
}

func (i *issuing) issue(c echo.Context) error {
	w := readWish(c.FormValue)
	form := i.form(w)
	again := func() error {
		return i.render(c, http.StatusUnprocessableEntity, views.IssuePage(i.view(c, "Issue a certificate"), form))
	}
	if w.kind == kindServer && i.refuseForServers(&form, w) {
		return again()
	}
	issued, ca, err := i.fromExisting(w)
	made := false
	var cannot errNoCA
	if errors.As(err, &cannot) {
		form.Ask = &views.AskForCA{Why: cannot.why, Name: i.makeNameInput(w.makeName), Ticked: w.makeCA}
		if !w.makeCA {
			return again()
		}
		issued, ca, err = i.fromNew(c, w, &form)
		made = true
	}
	if err != nil {
		return err
	}
	if issued == nil {
		i.blame(&form, w, ca)
		return again()
	}
	if err := i.store.AddIssued(c.Request().Context(), actorOf(c), ca.Name, w.kind, w.name, issued.Leaf()); err != nil {
		return fmt.Errorf("record what was issued: %w", err)
	}
	return i.handOver(c, w, issued, ca, made)
}

// refuseForServers refuses the names that only clients have.
func (i *issuing) refuseForServers(form *views.IssueForm, w wish) bool {
	const only = "Only client certificates have this here. Take it out, or issue for a client."
	if w.uri != "" {
		form.URI.Error = only
	}
	if w.email != "" {
		form.Email.Error = only
	}
	return w.uri != "" || w.email != ""
}

// errNoCA says that no local CA can issue what was asked for, but a new one could.
type errNoCA struct{ why string }

func (e errNoCA) Error() string { return e.why }

// fromExisting issues from the chosen CA, or from the first that may. An issued of nil with a CA means that the wish
// itself is wrong.
func (i *issuing) fromExisting(w wish) (*localca.Issued, *termination.LocalCA, error) {
	cas := i.current().LocalCAs
	var why error
	for j := range cas {
		ca := &cas[j]
		if w.ca != "" && ca.Name != w.ca {
			continue
		}
		issued, err := w.issueFrom(ca, i)
		var limit *localca.ConstraintError
		switch {
		case err == nil:
			return issued, ca, nil
		case errors.As(err, &limit), errors.Is(err, localca.ErrEnded):
			why = err
		default:
			return nil, ca, nil
		}
	}
	switch {
	case why != nil:
		return nil, nil, errNoCA{sentence(innermost(why))}
	case w.ca != "":
		return nil, nil, errNoCA{fmt.Sprintf("There is no local CA %q any more.", w.ca)}
	}
	return nil, nil, errNoCA{"There is no local CA yet, so nothing can be issued."}
}

// fromNew makes a local CA without limits and issues from it. Nothing is stored if that fails.
func (i *issuing) fromNew(c echo.Context, w wish, form *views.IssueForm) (*localca.Issued, *termination.LocalCA, error) {
	name := form.Ask.Name.Value
	if err := termination.CheckName(name); err != nil {
		form.Ask.Name.Error = sentence(err)
		return nil, nil, nil
	}
	ca, err := localca.Create(localca.Options{Name: name, Now: i.now()})
	if err != nil {
		return nil, nil, err
	}
	issued, err := w.issueFrom(ca, i)
	if err != nil {
		return nil, ca, nil //nolint:nilerr // blame says what is wrong with the wish
	}
	_, err = i.change(c, func(tx *store.Tx) error { return WriteLocalCA(tx, ca) })
	var taken store.NameTakenError
	if errors.As(err, &taken) {
		form.Ask.Name.Error = sentence(taken)
		return nil, nil, nil
	}
	return issued, ca, err
}

func (w wish) issueFrom(ca *termination.LocalCA, i *issuing) (*localca.Issued, error) {
	if w.kind == kindServer {
		return localca.IssueServer(ca, append([]string{w.name}, w.dns...), i.now(), w.days)
	}
	return localca.IssueClient(ca, localca.ClientRequest{Name: w.name, URI: w.uri, DNS: w.dns, Email: w.email, Days: w.days, Now: i.now()})
}

// blame finds the field that keeps a certificate from being issued, and says why there: it tries with one more field
// at a time. A CA of nil means that the error stands in the form already.
func (i *issuing) blame(form *views.IssueForm, w wish, ca *termination.LocalCA) {
	if ca == nil {
		return
	}
	try := w
	try.uri, try.dns, try.email = "", nil, ""
	steps := []struct {
		field *parts.Input
		add   func()
	}{
		{&form.Name, func() {}},
		{&form.DNS, func() { try.dns = w.dns }},
		{&form.URI, func() { try.uri = w.uri }},
		{&form.Email, func() { try.email = w.email }},
	}
	for _, s := range steps {
		s.add()
		if _, err := try.issueFrom(ca, i); err != nil {
			s.field.Error = sentence(innermost(err))
			return
		}
	}
	form.Error = "It could not be issued. Try again."
}

// innermost takes away what only says that issuing failed, which the page says itself.
func innermost(err error) error {
	for _, prefix := range []string{"issue a client certificate: ", "issue a server certificate: "} {
		if strings.HasPrefix(err.Error(), prefix) {
			if inner := errors.Unwrap(err); inner != nil {
				return inner
			}
		}
	}
	return err
}

// handOver shows what was issued, once, and keeps its files for a few minutes.
func (i *issuing) handOver(c echo.Context, w wish, issued *localca.Issued, ca *termination.LocalCA, made bool) error {
	password := localca.NewPassword()
	base := localca.FileName(w.name)
	files, order, err := i.files(issued, base, password)
	if err != nil {
		return err
	}
	roots := []*termination.LocalCA{ca} // whose certificates are handed out too
	var try []views.TryEndpoint
	config := i.current()
	for j := range config.Endpoints {
		if w.kind != kindClient {
			break
		}
		if t, root, ok := i.tryOut(config, &config.Endpoints[j], ca, base, password); ok {
			try = append(try, t)
			if root != nil && !slices.ContainsFunc(roots, func(r *termination.LocalCA) bool { return r.Name == root.Name }) {
				roots = append(roots, root)
			}
		}
	}
	for j, root := range roots {
		key, what := "ca-"+strconv.Itoa(j), "The CA that issued it, for whoever has to trust it."
		if j > 0 {
			what = "The CA of an endpoint's own certificate, for the commands below."
		}
		files[key] = heldFile{rootFile(root, base), pemType, localca.EncodePEM(root.Certificate)}
		order = append(order, views.IssuedFile{Name: files[key].name, Href: key, What: what})
	}
	id, until := i.held.add(userOf(c).id, files)
	p := i.view(c, "Issued")
	leaf := issued.Leaf()
	v := views.IssuedNow{
		Name: w.name, Title: w.name + " has a certificate", Client: w.kind == kindClient, CA: ca.Name, CAHref: "/authorities", MadeCA: made,
		Until: p.Moment(leaf.NotAfter), Cut: i.now().Add(time.Duration(w.days)*day).Sub(leaf.NotAfter) > time.Hour, Gone: p.Time(until)[:len("15:04")], Password: password, Try: try,
		Detail: "/certificates/" + termination.FingerprintOf(leaf).String(),
	}
	if a := config.Authority(ca.Name); a != nil {
		v.CAHref = "/authorities/" + a.ID
	}
	for _, f := range order {
		f.Href = "/certificates/issue/" + id + "/" + f.Href
		v.Files = append(v.Files, f)
	}
	return i.render(c, http.StatusOK, views.IssuedPage(p, v))
}

// Media types of the files.
const (
	pemType = "application/x-pem-file"
	p12Type = "application/x-pkcs12"
)

// rootFile names the file of a CA's certificate beside those of a certificate with that base.
func rootFile(ca *termination.LocalCA, base string) string {
	name := localca.FileName(ca.Name)
	if name == base {
		name += "-ca"
	}
	return name + ".pem"
}

// files writes the files of a fresh certificate, and says in which order they stand on the page.
func (i *issuing) files(issued *localca.Issued, base, password string) (map[string]heldFile, []views.IssuedFile, error) {
	bundle, err := issued.BundlePEM()
	if err != nil {
		return nil, nil, err
	}
	key, err := issued.KeyPEM()
	if err != nil {
		return nil, nil, err
	}
	modern, err := issued.P12(localca.FlavourModern, password)
	if err != nil {
		return nil, nil, err
	}
	apple, err := issued.P12(localca.FlavourApple, password)
	if err != nil {
		return nil, nil, err
	}
	files := map[string]heldFile{
		"bundle":      {base + ".pem", pemType, bundle},
		"certificate": {base + "-certificate.pem", pemType, issued.CertificatePEM()},
		"key":         {base + "-key.pem", pemType, key},
		"p12":         {base + ".p12", p12Type, modern},
		"p12-apple":   {base + "-apple.p12", p12Type, apple},
	}
	order := []views.IssuedFile{
		{Href: "bundle", What: "Certificate and key in one file, as curl --cert takes it.", Key: true},
		{Href: "certificate", What: "The certificate alone."},
		{Href: "key", What: "The private key alone, PKCS #8, not encrypted.", Key: true},
		{Href: "p12", What: "For browsers, Windows, Java and curl. AES-256; needs the password.", Key: true},
		{Href: "p12-apple", What: "For the keychains of macOS and iOS, which call the other one's password wrong. Weakly encrypted: the password protects it.", Key: true},
	}
	for j := range order {
		order[j].Name = files[order[j].Href].name
	}
	return files, order, nil
}

// download hands out a file of a fresh certificate.
func (i *issuing) download(c echo.Context) error {
	f, ok := i.held.get(userOf(c).id, c.Param("id"), c.Param("file"))
	if !ok {
		return &Problem{
			Status: http.StatusGone, Code: "gone", Title: "That file is gone",
			Detail: "The files of a fresh certificate can be downloaded for ten minutes, by whoever issued it. Its private key is not kept.",
			Advice: "Issue the certificate anew.", Href: "/certificates/issue", Link: "Issue a certificate",
		}
	}
	attach(c, f.name)
	defer clear(f.data)
	return c.Blob(http.StatusOK, f.mediaType, f.data)
}
