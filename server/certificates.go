package server

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/url"
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

// certificateRows is how many certificates stand on one page.
const certificateRows = 100

// certificateRoutes lists the routes of the Certificates pages. What was issued a moment ago lives as long as they do.
func (s *Server) certificateRoutes() []route {
	issue := &issuing{Server: s, held: newHeldFiles(s.now)}
	return []route{
		{method: http.MethodGet, path: "/certificates", handler: s.certificatesPage},
		{method: http.MethodPost, path: "/certificates", body: uploadBody, handler: s.saveServerCertificate},
		{method: http.MethodPost, path: "/certificates/local", handler: s.makeLocalCA},
		{method: http.MethodPost, path: "/certificates/acme/retry", handler: s.retryACME},
		{method: http.MethodGet, path: "/certificates/issue", handler: issue.page},
		{method: http.MethodPost, path: "/certificates/issue", handler: issue.issue},
		{method: http.MethodGet, path: "/certificates/issue/:id/:file", handler: issue.download},
		{method: http.MethodGet, path: "/certificates/:fingerprint", handler: s.certificatePage},
		{method: http.MethodGet, path: "/certificates/:fingerprint/certificate.pem", handler: s.certificatePEM},
		{method: http.MethodGet, path: "/certificates/:fingerprint/chain.pem", handler: s.certificateChainPEM},
		{method: http.MethodPost, path: "/certificates/:fingerprint/delete", handler: s.deleteServerCertificate},
		{method: http.MethodPost, path: "/certificates/:fingerprint/revoke", handler: s.revokeCertificate},
	}
}

// Kinds of certificates, as [store.Issued] names them too.
const (
	kindServer = "server"
	kindClient = "client"
)

// lifeState says what is left of a certificate's life.
type lifeState string

const (
	stateValid lifeState = "valid"
	stateEarly lifeState = "early"
	stateSoon  lifeState = "soon"
	stateEnded lifeState = "ended"
)

func stateOf(c *x509.Certificate, now time.Time) lifeState {
	switch {
	case now.After(c.NotAfter):
		return stateEnded
	case now.Before(c.NotBefore):
		return stateEarly
	case parts.LifeTone(c.NotBefore, c.NotAfter, now) != parts.OK:
		return stateSoon
	}
	return stateValid
}

// listed is a certificate on its way into the list.
type listed struct {
	cert   *x509.Certificate
	name   string // hostile text
	source []views.TagItem
	usedBy []views.Link
}

func (s *Server) certificatesPage(c echo.Context) error {
	return s.showCertificates(c, http.StatusOK, func(*views.Certificates) {})
}

// showCertificates renders the list; add may put an error on one of its forms first.
func (s *Server) showCertificates(c echo.Context, status int, add func(*views.Certificates)) error {
	ctx := c.Request().Context()
	p := s.view(c, "Certificates")
	servers, err := s.serverCertificates(ctx)
	if err != nil {
		return err
	}
	clients, err := s.clientCertificates(ctx)
	if err != nil {
		return err
	}
	kind, list := kindServer, servers
	if c.QueryParam("kind") == kindClient {
		kind, list = kindClient, clients
	}
	v := views.Certificates{
		Client: kind == kindClient,
		Tabs: []parts.Tab{
			{Label: "Server", Href: "/certificates", Count: format.Int(len(servers)), Current: kind == kindServer},
			{Label: "Client", Href: "/certificates?kind=client", Count: format.Int(len(clients)), Current: kind == kindClient},
		},
		Upload: uploadForm("", ""),
		Make:   views.LocalCAForm{Name: localNameInput("", ""), Constrained: true},
	}
	state := lifeState(c.QueryParam("state"))
	v.States = stateChips(list, kind, state, p.Now)
	list = inState(list, state, p.Now)
	sortByEnd(list, p.Now)
	from := pageStart(c.QueryParam("from"), len(list))
	v.Rows = rowsFrom(from, certificateRows, len(list), func(from int) string { return certificatesHref(kind, state, from) })
	for _, l := range list[from:min(from+certificateRows, len(list))] {
		v.Items = append(v.Items, certificateItem(p, l))
	}
	config := s.current()
	for i := range config.LocalCAs {
		v.LocalCAs = append(v.LocalCAs, localCAItem(p, config, &config.LocalCAs[i]))
	}
	v.ACME = s.acmeShown(p.Clock)
	add(&v)
	return s.render(c, status, views.CertificatesPage(p, v))
}

// serverCertificates are those that are kept here with their keys, those that endpoints present from a local CA right
// now, and those that were issued here for servers elsewhere.
func (s *Server) serverCertificates(ctx context.Context) ([]listed, error) {
	config := s.current()
	var out []listed
	seen := map[termination.Fingerprint]bool{}
	for i := range config.Certificates {
		k := &config.Certificates[i]
		seen[termination.FingerprintOf(k.Leaf())] = true
		out = append(out, listed{cert: k.Leaf(), name: k.Name, source: []views.TagItem{originTag(k.Origin)}, usedBy: presenters(config, k.Name)})
	}
	for _, p := range s.presented() {
		f := termination.FingerprintOf(p.cert)
		if !seen[f] {
			seen[f] = true
			out = append(out, p)
		}
	}
	issued, err := s.store.Issued(ctx, kindServer)
	if err != nil {
		return nil, err
	}
	for _, i := range issued {
		if f := termination.FingerprintOf(i.Certificate); !seen[f] {
			seen[f] = true
			out = append(out, listed{cert: i.Certificate, name: i.Name, source: []views.TagItem{{Text: "issued here"}}})
		}
	}
	return out, nil
}

// presented lists what endpoints present right now, each certificate once.
func (s *Server) presented() []listed {
	var out []listed
	at := map[termination.Fingerprint]int{}
	for _, e := range s.gateway.Status().Endpoints {
		link := views.Link{Label: e.Name, Href: endpointPath(&termination.Endpoint{ID: e.ID, Name: e.Name})}
		for _, leaf := range e.Leaves {
			f := termination.FingerprintOf(leaf)
			i, ok := at[f]
			if !ok {
				i = len(out)
				at[f] = i
				out = append(out, listed{cert: leaf, name: titleOf(leaf), source: []views.TagItem{s.renewedTag(leaf)}})
			}
			out[i].usedBy = append(out[i].usedBy, link)
		}
	}
	return out
}

// renewedTag says who renews a certificate that is kept nowhere by name.
func (s *Server) renewedTag(leaf *x509.Certificate) views.TagItem {
	if s.obtained(leaf) {
		return views.TagItem{Text: "through ACME, renewed by itself"}
	}
	return views.TagItem{Text: "by the local CA, renewed by itself"}
}

// clientCertificates are those that were issued here. An endpoint is named beside one if it asks the CA that issued it.
func (s *Server) clientCertificates(ctx context.Context) ([]listed, error) {
	issued, err := s.store.Issued(ctx, kindClient)
	if err != nil {
		return nil, err
	}
	config := s.current()
	users := map[string][]views.Link{}
	for i := range config.Authorities {
		users[config.Authorities[i].ID] = s.usersOf(config, config.Authorities[i].Name)
	}
	var out []listed
	for _, i := range issued {
		out = append(out, listed{cert: i.Certificate, name: i.Name, source: []views.TagItem{{Text: "issued here"}}, usedBy: users[i.AuthorityID]})
	}
	return out, nil
}

// presenters lists the endpoints that are given a server certificate by its name.
func presenters(config *termination.Config, name string) []views.Link {
	var out []views.Link
	for i := range config.Endpoints {
		if e := &config.Endpoints[i]; slices.Contains(e.Certificates, name) {
			out = append(out, views.Link{Label: e.Name, Href: endpointPath(e)})
		}
	}
	return out
}

func originTag(o termination.Origin) views.TagItem {
	switch o {
	case termination.OriginFile:
		return views.TagItem{Text: "from the file"}
	case termination.OriginDemo:
		return views.TagItem{Text: "from the first start"}
	case termination.OriginCommand:
		return views.TagItem{Text: "made by a command, ends with it"}
	case termination.OriginDashboard:
	}
	return views.TagItem{Text: "uploaded"}
}

// titleOf names a certificate; the result is hostile text, and never empty.
func titleOf(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return c.Subject.CommonName
	}
	if names := namesOf(c); len(names) > 0 {
		return names[0]
	}
	if name := termination.NameText(c.Subject); name != "" {
		return name
	}
	return format.ShortFingerprint(termination.FingerprintOf(c))
}

// namesOf lists the subject alternative names; they are hostile text.
func namesOf(c *x509.Certificate) []string {
	out := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	for _, u := range c.URIs {
		out = append(out, u.String())
	}
	return append(out, c.EmailAddresses...)
}

// maxNamesShown is how many names stand in a row of the list.
const maxNamesShown = 6

func certificateItem(p views.Page, l listed) views.CertificateItem {
	c := l.cert
	names := namesOf(c)
	if len(names) == 1 && names[0] == l.name {
		names = nil
	}
	if more := len(names) - maxNamesShown; more > 0 {
		names = append(names[:maxNamesShown:maxNamesShown], "and "+format.Int(more)+" more")
	}
	item := views.CertificateItem{
		Name: format.Cut(l.name, 120), Href: "/certificates/" + termination.FingerprintOf(c).String(),
		Names: format.Cut(strings.Join(names, ", "), 300), Issuer: format.Cut(issuerOf(c), 120),
		Tags: slices.Clone(l.source), UsedBy: l.usedBy,
		Life: parts.Life{From: c.NotBefore, Until: c.NotAfter, Now: p.Now},
	}
	item.LifeText = p.Date(c.NotAfter) + " · " + p.Left(c.NotBefore, c.NotAfter)
	if tag, ok := stateTag(c, p.Now); ok {
		item.Tags = append(item.Tags, tag)
	}
	return item
}

func stateTag(c *x509.Certificate, now time.Time) (views.TagItem, bool) {
	switch stateOf(c, now) {
	case stateEnded:
		return views.TagItem{Tone: parts.Bad, Text: "ended"}, true
	case stateEarly:
		return views.TagItem{Tone: parts.Bad, Text: "not valid yet"}, true
	case stateSoon:
		return views.TagItem{Tone: parts.LifeTone(c.NotBefore, c.NotAfter, now), Text: "ends soon"}, true
	case stateValid:
	}
	return views.TagItem{}, false
}

func issuerOf(c *x509.Certificate) string {
	if string(c.RawIssuer) == string(c.RawSubject) {
		return "itself"
	}
	if c.Issuer.CommonName != "" {
		return c.Issuer.CommonName
	}
	return termination.NameText(c.Issuer)
}

// stateChips counts by what is left. There are none for an empty list.
func stateChips(list []listed, kind string, chosen lifeState, now time.Time) []views.StateChip {
	if len(list) == 0 {
		return nil
	}
	counts := map[lifeState]int{}
	for _, l := range list {
		counts[stateOf(l.cert, now)]++
	}
	chips := []views.StateChip{{Label: "all", Count: format.Int(len(list)), Href: certificatesHref(kind, "", 0), Current: !slices.Contains([]lifeState{stateValid, stateSoon, stateEnded, stateEarly}, chosen)}}
	for _, st := range []struct {
		state lifeState
		label string
	}{{stateValid, "valid"}, {stateSoon, "ends soon"}, {stateEnded, "ended"}, {stateEarly, "not valid yet"}} {
		if st.state == stateEarly && counts[stateEarly] == 0 {
			continue
		}
		chips = append(chips, views.StateChip{Label: st.label, Count: format.Int(counts[st.state]), Href: certificatesHref(kind, st.state, 0), Current: chosen == st.state})
	}
	return chips
}

func inState(list []listed, state lifeState, now time.Time) []listed {
	if !slices.Contains([]lifeState{stateValid, stateSoon, stateEnded, stateEarly}, state) {
		return list
	}
	return slices.DeleteFunc(list, func(l listed) bool { return stateOf(l.cert, now) != state })
}

// sortByEnd puts first what ends first. What has ended comes last, unless an endpoint still presents it.
func sortByEnd(list []listed, now time.Time) {
	over := func(l listed) bool { return now.After(l.cert.NotAfter) && len(l.usedBy) == 0 }
	slices.SortStableFunc(list, func(a, b listed) int {
		if overA, overB := over(a), over(b); overA != overB {
			if overA {
				return 1
			}
			return -1
		} else if overA {
			return b.cert.NotAfter.Compare(a.cert.NotAfter)
		}
		return a.cert.NotAfter.Compare(b.cert.NotAfter)
	})
}

func certificatesHref(kind string, state lifeState, from int) string {
	if kind == kindServer {
		kind = "" // of the page without a choice
	}
	return listHref("/certificates", from, "kind", kind, "state", string(state))
}

func localCAItem(p views.Page, config *termination.Config, ca *termination.LocalCA) views.LocalCAItem {
	item := views.LocalCAItem{
		Name: ca.Name, Href: "/authorities", Issue: "/certificates/issue?" + url.Values{"ca": {ca.Name}}.Encode(),
		Limits: "any name", Life: p.Left(ca.Certificate.NotBefore, ca.Certificate.NotAfter),
	}
	if a := config.Authority(ca.Name); a != nil {
		item.Href = "/authorities/" + a.ID
	}
	if constrained(ca.Certificate) {
		item.Limits = "only localhost and loopback"
	}
	return item
}

// constrained reports whether a CA is limited to localhost and loopback addresses.
func constrained(ca *x509.Certificate) bool {
	return len(ca.PermittedDNSDomains) == 1 && ca.PermittedDNSDomains[0] == "localhost"
}

func localNameInput(value, problem string) parts.Input {
	return parts.Input{Name: "name", ID: "local-name", Label: "Name", Hint: "Of the CA, and of the authority under Trust.", Value: value, Error: problem, Placeholder: "Local CA", Words: true}
}

// WriteLocalCA keeps a fresh local CA, and its certificate as an authority that no endpoint asks before it is told to.
func WriteLocalCA(tx *store.Tx, ca *termination.LocalCA) error {
	_, err := tx.CreateAuthority(termination.Authority{
		Name: ca.Name, Certificates: []termination.CACertificate{{Certificate: ca.Certificate, Role: termination.RoleAnchor}},
	})
	if err != nil {
		return err
	}
	return tx.CreateLocalCA(ca.Name, ca.Key, constrained(ca.Certificate))
}
