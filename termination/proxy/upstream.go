package proxy

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"time"

	"countersign/termination"
)

// Bounds of the connections to upstreams.
const (
	idlePerUpstream     = 128
	idleTime            = 60 * time.Second
	continueWait        = time.Second // for the upstream's 100 (RFC 9110, section 10.1.1)
	maxResponseHeader   = 256 << 10
	upstreamPing        = 30 * time.Second // HTTP/2: a connection silent for so long is probed
	upstreamPingTimeout = 15 * time.Second
)

// DialFunc opens a connection, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// upstreamKey is what makes two upstreams the same: as long as it is unchanged, so are the idle connections.
type upstreamKey struct {
	scheme     termination.UpstreamScheme
	address    string
	serverName string
	roots      [sha256.Size]byte // of all root certificates; zero: the system's
}

func keyOf(u termination.Upstream) upstreamKey {
	k := upstreamKey{scheme: u.Scheme, address: u.Address}
	if u.Scheme != termination.UpstreamHTTPS {
		return k
	}
	k.serverName = u.TLS.ServerName
	if len(u.TLS.Roots) > 0 {
		h := sha256.New()
		for _, c := range u.TLS.Roots {
			f := termination.FingerprintOf(c)
			h.Write(f[:])
		}
		h.Sum(k.roots[:0])
	}
	return k
}

// upstream is a service behind, with the connections to it.
type upstream struct {
	name      string // for people
	target    url.URL
	transport *http.Transport
	forward   *httputil.ReverseProxy
}

// newUpstream makes the transport of an upstream. No proxy is taken from the environment, no compression is added, and
// requests that are not idempotent are never sent twice (RFC 9110, section 9.2.2), which net/http sees to.
func (p *Proxy) newUpstream(u termination.Upstream) *upstream {
	up := &upstream{name: u.String(), target: url.URL{Scheme: "http", Host: u.Address}}
	up.transport = &http.Transport{
		DialContext:            p.dialer(up.name),
		TLSHandshakeTimeout:    p.options.DialTimeout,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idlePerUpstream,
		IdleConnTimeout:        idleTime,
		ExpectContinueTimeout:  continueWait,
		MaxResponseHeaderBytes: maxResponseHeader,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: upstreamPing, PingTimeout: upstreamPingTimeout},
		Protocols:              new(http.Protocols),
	}
	switch u.Scheme {
	case termination.UpstreamHTTPS:
		up.target.Scheme = "https"
		up.transport.TLSClientConfig = UpstreamTLS(u)
		up.transport.Protocols.SetHTTP1(true)
		up.transport.Protocols.SetHTTP2(true)
	case termination.UpstreamH2C:
		up.transport.Protocols.SetUnencryptedHTTP2(true)
	default:
		up.transport.Protocols.SetHTTP1(true)
	}
	up.forward = p.reverseProxy(up)
	return up
}

// UpstreamTLS is how a connection to an https or tls upstream is secured. It always verifies. A nil pool means the system's roots here, which is what an upstream without roots of its
// own is documented to get.
func UpstreamTLS(u termination.Upstream) *tls.Config {
	c := &tls.Config{ServerName: u.TLS.ServerName, MinVersion: tls.VersionTLS12}
	if c.ServerName == "" {
		c.ServerName, _, _ = net.SplitHostPort(u.Address) // an address that cannot be split verifies as no name at all
	}
	if len(u.TLS.Roots) > 0 {
		c.RootCAs = x509.NewCertPool()
		for _, r := range u.TLS.Roots {
			c.RootCAs.AddCert(r)
		}
	}
	return c
}

// tunnels reports whether a WebSocket can be carried to the upstream. HTTP/2 has another way to open one (RFC 8441),
// which net/http does not speak as a client.
func (up *upstream) tunnels() bool { return up.transport.Protocols.HTTP1() }

// dialError is a connection to an upstream that could not be had.
type dialError struct {
	took time.Duration
	err  error
}

func (e *dialError) Error() string { return "cannot connect: " + e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// dialer dials under a deadline, and tells the connection that it dials for how long it took.
func (p *Proxy) dialer(name string) DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c := ConnFrom(ctx)
		ctx, cancel := context.WithTimeout(ctx, p.options.DialTimeout)
		defer cancel()
		began := p.options.Now()
		conn, err := p.options.Dial(ctx, network, address)
		took := p.options.Now().Sub(began)
		if err != nil {
			return nil, &dialError{took: took, err: err}
		}
		if c != nil {
			c.noteReached(name, took)
		}
		return conn, nil
	}
}

// noteReached reports the first upstream that the connection reached.
func (c *Conn) noteReached(name string, took time.Duration) {
	if c.reached.CompareAndSwap(false, true) {
		c.note(Note{Upstream: &termination.UpstreamResult{Address: name, Connect: took}})
	}
}

// failureText says in one sentence what went wrong with an upstream, for the operator.
func failureText(name string, err error) string {
	var dial *dialError
	var verification *tls.CertificateVerificationError
	switch {
	case errors.As(err, &verification):
		return fmt.Sprintf("The certificate of %s is not accepted: %v.", name, verification.Err)
	case errors.As(err, &dial):
		return fmt.Sprintf("Cannot connect to %s after %s: %v.", name, dial.took.Round(time.Millisecond), dial.err)
	case isTimeout(err):
		return fmt.Sprintf("%s did not answer in time: %v.", name, err)
	default:
		return fmt.Sprintf("%s broke off: %v.", name, err)
	}
}

// clientAddress is the address of a client as headers tell it: without zone, and IPv4 as IPv4.
func clientAddress(a netip.AddrPort) string { return a.Addr().Unmap().WithZone("").String() }
