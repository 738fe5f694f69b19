package server

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/verify"
	"countersign/views"
)

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
	if ca := s.clientsNeed(e, status); ca != nil {
		f.ca, f.caDownload, local = endpointCAFile(e), true, true
		if s.demoHas(func(d *Demo) string { return d.CA }, func(c *x509.Certificate) bool { return c.Equal(ca.Certificate) }) {
			f.dir, f.ca, f.caDownload = s.opts.Demo.Dir, s.opts.Demo.CA, false
		}
	}
	if !asks || e.TerminateAt == termination.AtUpstream {
		return f
	}
	f.client, f.p12, f.password, f.needsClient = "client.pem", "client.p12", "PASSWORD", true
	policy, err := verify.Compile(s.current(), e.PolicyFor(nil), verify.Scope{Endpoint: e.Name})
	fits := func(c *x509.Certificate) bool {
		j := policy.Judge(verify.Showing(c), s.now())
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
	if e.StartTLS == termination.StartTLSPostgres {
		t.Panels = append(t.Panels, views.TryPanel{ID: "try-psql", Name: "psql", Command: cd + psql(f, host, address, port)})
	}
	openssl := []string{"openssl s_client -connect " + net.JoinHostPort(address.String(), port), when(e.StartTLS == termination.StartTLSPostgres, "-starttls postgres"), when(e.Host != "", "-servername "+host), option("-CAfile ", f.ca), option("-cert ", f.client)}
	t.Panels = append(t.Panels, views.TryPanel{ID: "try-openssl", Name: "openssl", Command: cd + joined(openssl, " \\\n     ")})
	if e.StartTLS == termination.StartTLSNone {
		t.Panels = append(t.Panels, views.TryPanel{ID: "try-go", Name: "Go", Command: goProgram(e, f, net.JoinHostPort(address.String(), port), host)})
	}
	if e.Scheme == termination.SchemeHTTPS {
		t.Panels = append(t.Panels, views.TryPanel{ID: "try-browser", Name: "Browser", Steps: browserSteps(f, "https://"+at+"/")})
	}
	return t
}

// browserSteps say how a browser gets in.
func browserSteps(f tryFiles, url string) []string {
	var steps []string
	if f.ca != "" {
		steps = append(steps, "Import "+f.ca+" where the browser keeps certificate authorities, for websites.")
	}
	if f.p12 != "" {
		steps = append(steps, "Import "+f.p12+" where it keeps your own certificates; the password is "+f.password+".")
	}
	if f.client == "" {
		return append(steps, "Open "+url)
	}
	return append(steps, "Open "+url+" and choose the certificate. A browser asks once, until it is closed.")
}

// psql connects to a PostgreSQL behind an endpoint; it sends the host as the server name.
func psql(f tryFiles, host string, address netip.Addr, port string) string {
	options := []string{"host=" + host, "hostaddr=" + address.String(), "port=" + port, "dbname=postgres", "sslmode=verify-full", when(f.ca != "", "sslrootcert="+f.ca), when(f.client != "", "sslcert="+f.client), when(f.client != "", "sslkey="+f.client)}
	return `psql "` + joined(options, " ") + `"`
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
