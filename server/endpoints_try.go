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
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/verify"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

// tryTimeout bounds one try to reach an upstream.
const tryTimeout = 2 * time.Second

// tryUpstream reaches for an upstream once, on demand, and says what answers.
func tryUpstream(ctx context.Context, e *termination.Endpoint) views.Tried {
	u := e.Upstream
	if u.Scheme == termination.UpstreamBuiltin {
		return views.Tried{Tone: parts.OK, Text: "The built-in " + u.Address + " is part of this process and always answers."}
	}
	begun := time.Now()
	conn, err := dialFor(ctx, u.Address)
	if err != nil {
		return views.Tried{Tone: parts.Bad, Text: dialWords(u.Address, err)}
	}
	_ = conn.Close()
	took := format.Duration(time.Since(begun))
	sealed, secure := e.TerminateAt == termination.AtUpstream, u.Scheme == termination.UpstreamHTTPS || u.Scheme == termination.UpstreamTLS
	name := u.TLS.ServerName
	if sealed && e.Host != "" {
		name = e.Host
	}
	speaks, problem := speaksTLS(ctx, u, name)
	switch {
	case secure && problem == "":
		return views.Tried{Tone: parts.OK, Text: u.Address + " speaks TLS with a certificate that holds, connected in " + took + "."}
	case secure && speaks:
		return views.Tried{Tone: parts.Bad, Text: u.Address + " speaks TLS, but " + problem + ". Give its CA or its server name under more options."}
	case secure:
		return views.Tried{Tone: parts.Bad, Text: u.Address + " does not speak TLS: " + problem + "."}
	case sealed && speaks:
		return views.Tried{Tone: parts.OK, Text: u.Address + " speaks TLS itself, connected in " + took + ". " + problem}
	case sealed:
		return views.Tried{Tone: parts.Bad, Text: u.Address + " answers, but does not speak TLS. With TLS that ends at the upstream no client could talk to it: choose the edge."}
	case speaks:
		return views.Tried{Tone: parts.Warn, Text: u.Address + " speaks TLS itself: let TLS end at the upstream, or write https:// (for any bytes tls://) to seal again."}
	case u.Scheme == termination.UpstreamTCP:
		return views.Tried{Tone: parts.OK, Text: u.Address + " takes connections, in " + took + "."}
	}
	return triedHTTP(ctx, u, took)
}

func dialFor(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

// dialWords says why nobody could be reached.
func dialWords(address string, err error) string {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return address + " refused the connection: nothing listens there. Start the service, or correct the port."
	case errors.As(err, &dns):
		return "The name in " + address + " cannot be found. Correct it, or use an address."
	case errors.As(err, &timeout) && timeout.Timeout():
		return address + " did not answer within 2 seconds."
	}
	return address + " cannot be reached: " + err.Error() + "."
}

// speaksTLS reports whether a TLS server answers, and what is wrong with its certificate by the upstream's own rules.
func speaksTLS(ctx context.Context, u termination.Upstream, name string) (speaks bool, problem string) {
	conn, err := dialFor(ctx, u.Address)
	if err != nil {
		return false, dialWords(u.Address, err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(tryTimeout)); err != nil {
		return false, err.Error()
	}
	host, _, _ := net.SplitHostPort(u.Address)
	if name == "" {
		name = host
	}
	var roots *x509.CertPool
	if len(u.TLS.Roots) > 0 {
		roots = x509.NewCertPool()
		for _, c := range u.TLS.Roots {
			roots.AddCert(c)
		}
	}
	client := tls.Client(conn, &tls.Config{ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS12})
	err = client.HandshakeContext(ctx)
	var alert tls.AlertError
	var invalid *tls.CertificateVerificationError
	switch {
	case err == nil:
		return true, ""
	case errors.As(err, &invalid):
		return true, "its certificate does not hold: " + format.Cut(invalid.Err.Error(), 300)
	case errors.As(err, &alert) || strings.Contains(err.Error(), "remote error: tls:"):
		return true, "it ended the handshake: " + format.Cut(err.Error(), 200)
	}
	return false, format.Cut(err.Error(), 200)
}

// triedHTTP asks for the headers of / and says what came.
func triedHTTP(ctx context.Context, u termination.Upstream, took string) views.Tried {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 32 << 10}
	spoken := "HTTP/1.1"
	if u.Scheme == termination.UpstreamH2C {
		spoken = "HTTP/2"
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://"+u.Address+"/", http.NoBody)
	if err != nil {
		return views.Tried{Tone: parts.Bad, Text: err.Error()}
	}
	res, err := transport.RoundTrip(r)
	if err != nil {
		return views.Tried{Tone: parts.Bad, Text: u.Address + " takes connections, but does not answer " + spoken + ": " + format.Cut(err.Error(), 200) + "."}
	}
	_ = res.Body.Close()
	return views.Tried{Tone: parts.OK, Text: fmt.Sprintf("%s answers %s with status %d, connected in %s.", u.Address, res.Proto, res.StatusCode, took)}
}

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

// judgement says whether the holder of a certificate would come in, and returns what of the input may be shown again.
func (s *Server) judgement(e *termination.Endpoint, data []byte) (*views.Judged, string, int) {
	refuse := func(text string) (*views.Judged, string, int) {
		return &views.Judged{Error: text}, "", http.StatusUnprocessableEntity
	}
	if e.TerminateAt == termination.AtUpstream {
		return refuse("Decided by the service behind. We cannot check what we do not open.")
	}
	upload, err := termination.ReadUpload(data)
	if err != nil {
		return refuse(err.Error())
	}
	if upload.Has(termination.UploadPrivateKey) || upload.Has(termination.UploadPKCS12) {
		return refuse("There is a private key in it. Only the certificate is needed here; the key was wiped and not kept.")
	}
	chain := upload.Certificates()
	if len(chain) == 0 {
		return refuse(upload.Items[0].Message)
	}
	policy, err := verify.Compile(s.current(), e.ClientAuth)
	if err != nil {
		return refuse(err.Error())
	}
	j := policy.Judge(chain, s.now())
	name := verify.BestName(chain[0])
	out := &views.Judged{Who: name.Name, In: j.In}
	if j.Reason != "" {
		if info, ok := j.Reason.Info(); ok {
			out.Reason = info.Title
		}
	}
	switch {
	case j.Verified && j.Authority != "":
		out.By = "signed for by " + j.Authority
	case j.Verified && j.Pin != "":
		out.By = "its pin is listed"
	case j.In:
		out.By = "although nothing about it was verified: this endpoint lets in " + lowerFirst(modeWords(s.current().Effective(e.ClientAuth)))
	}
	for _, check := range j.Checks {
		out.Checks = append(out.Checks, check.Detail)
	}
	for _, r := range e.Routes {
		if r.ClientAuth == nil {
			continue
		}
		own, err := verify.Compile(s.current(), *r.ClientAuth)
		out.Routes = append(out.Routes, views.JudgedRoute{Path: r.Path, In: err == nil && own.Judge(chain, s.now()).In})
	}
	return out, string(upload.PEM()), http.StatusOK
}

// isLocalhost reports whether a name always means this machine (RFC 6761, section 6.3).
func isLocalhost(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// tryFiles are the files that a command to try an endpoint names.
type tryFiles struct {
	dir                     string // where they are; empty: not known
	ca, client              string // empty: not needed
	p12, password           string
	caDownload, needsClient bool
}

// filesFor finds the files for a try: those of the first start where they really fit, else names to save under.
func (s *Server) filesFor(e *termination.Endpoint, status gateway.EndpointStatus) tryFiles {
	asks := e.ClientAuth.Mode.Asks()
	for _, r := range e.Routes {
		asks = asks || r.ClientAuth != nil && r.ClientAuth.Mode.Asks()
	}
	var f tryFiles
	local := false
	for _, leaf := range status.Leaves {
		if ca := s.localIssuer(leaf); ca != nil {
			f.ca, f.caDownload, local = endpointCAFile(e), true, true
			if s.demoHas(func(d *Demo) string { return d.CA }, func(c *x509.Certificate) bool { return c.Equal(ca.Certificate) }) {
				f.dir, f.ca, f.caDownload = s.opts.Demo.Dir, s.opts.Demo.CA, false
			}
		}
	}
	if !asks || e.TerminateAt == termination.AtUpstream {
		return f
	}
	f.client, f.p12, f.password, f.needsClient = "client.pem", "client.p12", "PASSWORD", true
	policy, err := verify.Compile(s.current(), e.ClientAuth)
	fits := func(c *x509.Certificate) bool {
		j := policy.Judge([]*x509.Certificate{c}, s.now())
		return j.Verified
	}
	if err == nil && s.demoHas(func(d *Demo) string { return d.Client }, fits) && (f.dir != "" || !local) {
		d := s.opts.Demo
		f.dir, f.client, f.p12, f.password, f.needsClient = d.Dir, d.Client, d.P12, d.P12Password, false
	}
	return f
}

// demoHas reports whether the first certificate in a file of the first start is as wanted.
func (s *Server) demoHas(file func(*Demo) string, wanted func(*x509.Certificate) bool) bool {
	if s.opts.Demo == nil {
		return false
	}
	data, err := os.ReadFile(filepath.Join(s.opts.Demo.Dir, file(s.opts.Demo)))
	if err != nil {
		return false
	}
	upload, err := termination.ReadUpload(data)
	if err != nil || len(upload.Certificates()) == 0 {
		return false
	}
	return wanted(upload.Certificates()[0])
}

// tryIt are commands that reach an endpoint from this machine, with the true names, port and files.
func (s *Server) tryIt(e *termination.Endpoint, status gateway.EndpointStatus) views.TryIt {
	f := s.filesFor(e, status)
	address := e.Listen
	if address.IsUnspecified() {
		address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	host := e.Host
	if host == "" {
		host = address.String()
		if address.IsLoopback() {
			host = "localhost"
		}
	}
	port := strconv.Itoa(int(e.Port))
	home, err := os.UserHomeDir()
	if err != nil {
		home = ""
	}
	t := views.TryIt{Dir: tilde(f.dir, home), NeedsClient: f.needsClient, CAHref: when(f.caDownload, endpointPath(e)+"/ca.pem"), CAFile: when(f.caDownload, f.ca), ClientFile: f.client}
	cd := ""
	if f.dir != "" {
		cd = "cd " + shellPath(f.dir, home) + "\n"
	}
	// A name below localhost is this machine to every curl since 7.77; any other may lead elsewhere, or nowhere.
	resolve := ""
	if !isLocalhost(host) && e.Host != "" || isLocalhost(host) && !address.IsLoopback() {
		resolve = "--resolve " + net.JoinHostPort(host, port) + ":" + bracketed(address)
	}
	at := net.JoinHostPort(host, port)
	if e.Scheme == termination.SchemeHTTPS {
		url := "https://" + at + "/"
		unix := []string{resolve, option("--cacert ", f.ca), option("--cert ", f.client), url}
		t.Panels = append(t.Panels, views.TryPanel{ID: "try-curl", Name: "curl", Command: cd + "curl " + joined(unix, " \\\n     ")})
		cert := ""
		if f.p12 != "" {
			cert = "--cert " + f.p12 + ":" + f.password + " --cert-type P12"
		}
		windows := []string{"curl.exe --ssl-revoke-best-effort", resolve, when(f.ca != "", "--cacert "+f.ca), cert, url}
		t.Panels = append(t.Panels, views.TryPanel{ID: "try-windows", Name: "Windows", Command: when(f.dir != "", `cd "`+f.dir+"\"\n") + joined(windows, " ")})
	}
	openssl := []string{"openssl s_client -connect " + net.JoinHostPort(address.String(), port), when(e.Host != "", "-servername "+host), option("-CAfile ", f.ca), option("-cert ", f.client)}
	t.Panels = append(t.Panels, views.TryPanel{ID: "try-openssl", Name: "openssl", Command: cd + joined(openssl, " \\\n     ")})
	t.Panels = append(t.Panels, views.TryPanel{ID: "try-go", Name: "Go", Command: goProgram(e, f, net.JoinHostPort(address.String(), port), host)})
	return t
}

func bracketed(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

func option(name, file string) string {
	if file == "" {
		return ""
	}
	return name + shellQuote(file)
}

func joined(list []string, between string) string {
	var out []string
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return strings.Join(out, between)
}

// goProgram is a whole program that makes one handshake and says who answered.
func goProgram(e *termination.Endpoint, f tryFiles, address, host string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	path := func(name string) string { return strconv.Quote(filepath.Join(f.dir, name)) }
	line("package main\n\nimport (\n\t\"crypto/tls\"%s\n\t\"log\"%s\n)\n\nfunc main() {", when(f.ca != "", "\n\t\"crypto/x509\""), when(f.ca != "", "\n\t\"os\""))
	line("\tconfig := &tls.Config{ServerName: %q}", host)
	if f.ca != "" {
		line("\tpem, err := os.ReadFile(%s)\n\tif err != nil {\n\t\tlog.Fatal(err)\n\t}", path(f.ca))
		line("\tconfig.RootCAs = x509.NewCertPool()\n\tconfig.RootCAs.AppendCertsFromPEM(pem)")
	}
	if f.client != "" {
		line("\town, err := tls.LoadX509KeyPair(%[1]s, %[1]s)\n\tif err != nil {\n\t\tlog.Fatal(err)\n\t}\n\tconfig.Certificates = []tls.Certificate{own}", path(f.client))
	}
	if e.Scheme == termination.SchemeHTTPS {
		line("\tconfig.NextProtos = []string{\"http/1.1\"}")
	}
	line("\tconn, err := tls.Dial(\"tcp\", %q, config)\n\tif err != nil {\n\t\tlog.Fatal(err)\n\t}\n\tdefer conn.Close()", address)
	// With TLS 1.3 a server refuses a certificate only after the client has finished: reading shows it.
	if e.Scheme == termination.SchemeHTTPS {
		line("\tlog.Println(conn.Write([]byte(\"GET / HTTP/1.1\\r\\nHost: %s\\r\\nConnection: close\\r\\n\\r\\n\")))", net.JoinHostPort(host, strconv.Itoa(int(e.Port))))
		line("\tanswer := make([]byte, 1024)\n\tn, err := conn.Read(answer)\n\tlog.Println(string(answer[:n]), err)")
	} else {
		line("\tlog.Println(conn.ConnectionState().PeerCertificates[0].Subject)")
	}
	b.WriteString("}\n")
	return b.String()
}
