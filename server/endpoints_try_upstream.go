package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"countersign/termination"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

// tryTimeout bounds one try to reach an upstream.
const tryTimeout = 2 * time.Second

// maxTried bounds how many targets of an upstream one try reaches for.
const maxTried = 5

// tryUpstream reaches for an upstream once, on demand, and says what answers: of several targets, the first that does
// not answer as it should, or else the first.
func tryUpstream(ctx context.Context, e *termination.Endpoint) views.Tried {
	if e.Upstream.Scheme == termination.UpstreamBuiltin {
		return views.Tried{Tone: parts.OK, Text: "The built-in " + e.Upstream.Address + " is part of this process and always answers."}
	}
	if e.TerminateAt == termination.AtAgent {
		return views.Tried{Tone: parts.Warn, Text: "The agent reaches the upstream, from where it runs. From here a try would say nothing."}
	}
	var first views.Tried
	targets := e.Upstream.Targets()
	for i, address := range targets[:min(len(targets), maxTried)] {
		one := *e
		one.Upstream.Address, one.Upstream.More = address, nil
		tried := tryTarget(ctx, &one)
		if tried.Tone != parts.OK {
			return tried
		}
		if i == 0 {
			first = tried
		}
	}
	if len(targets) > 1 {
		first.Text += fmt.Sprintf(" So do the other targets that were tried: %d.", min(len(targets), maxTried)-1)
	}
	return first
}

// tryTarget reaches for one target.
func tryTarget(ctx context.Context, e *termination.Endpoint) views.Tried {
	u := e.Upstream
	begun := time.Now()
	conn, err := dialFor(ctx, u)
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
	case !u.HTTP() || e.Scheme == termination.SchemeTLS:
		return views.Tried{Tone: parts.OK, Text: u.Address + " takes connections, in " + took + "."}
	}
	return triedHTTP(ctx, u, took)
}

func dialFor(ctx context.Context, u termination.Upstream) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	network := "tcp"
	if u.Scheme == termination.UpstreamUnix {
		network = "unix"
	}
	return (&net.Dialer{}).DialContext(ctx, network, u.Address)
}

// dialWords says why nobody could be reached.
func dialWords(address string, err error) string {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ENOENT):
		return "There is no socket " + address + ". Start the service, or correct the path."
	case errors.Is(err, syscall.EACCES):
		return "The socket " + address + " may not be opened by this process. Correct its mode or its group."
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
	conn, err := dialFor(ctx, u)
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
	config := &tls.Config{ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS12}
	if own := u.TLS.Client; own != nil {
		config.Certificates = []tls.Certificate{{PrivateKey: own.Key}}
		for _, c := range own.Chain {
			config.Certificates[0].Certificate = append(config.Certificates[0].Certificate, c.Raw)
		}
	}
	client := tls.Client(conn, config)
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
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dialFor(ctx, u) }
	host := u.Address
	if u.Scheme == termination.UpstreamUnix {
		host = "localhost"
	}
	spoken := "HTTP/1.1"
	if u.Scheme == termination.UpstreamH2C {
		spoken = "HTTP/2"
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://"+host+"/", http.NoBody)
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
