package termination

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// UpstreamScheme says how the gateway speaks to the service behind an endpoint.
type UpstreamScheme string

// The upstream schemes of this version.
const (
	UpstreamHTTP    UpstreamScheme = "http"
	UpstreamHTTPS   UpstreamScheme = "https"
	UpstreamH2C     UpstreamScheme = "h2c" // HTTP/2 without TLS (RFC 9113, section 3.3)
	UpstreamTCP     UpstreamScheme = "tcp"
	UpstreamTLS     UpstreamScheme = "tls"
	UpstreamUnix    UpstreamScheme = "unix"    // a Unix socket, HTTP/1.1 or raw bytes as the endpoint has it; Address is its path
	UpstreamBuiltin UpstreamScheme = "builtin" // Address names it
)

// The built-in services.
const (
	BuiltinWhoami = "whoami" // answers with what the gateway knows about the caller
	BuiltinPortal = "portal" // serves invitations to register a certificate
)

// Upstream is the service behind an endpoint: one target, or several that are alike.
type Upstream struct {
	Scheme  UpstreamScheme
	Address string   // host:port, the path of a Unix socket, or the name of a built-in
	More    []string // further targets, of the same scheme and TLS
	TLS     UpstreamTLSConfig
	Policy  UpstreamPolicy
}

// Targets returns the addresses of all targets.
func (u Upstream) Targets() []string { return append([]string{u.Address}, u.More...) }

// Balance says how connections or requests are spread over several targets.
type Balance string

// The ways to spread.
const (
	BalanceRoundRobin       Balance = "round_robin"
	BalanceLeastConnections Balance = "least_connections"
)

// HostHeader says which Host an HTTP upstream sees.
type HostHeader string

// Whose Host it is.
const (
	HostClient   HostHeader = "client"   // as the client sent it
	HostUpstream HostHeader = "upstream" // the target's address
)

// ProxyProtocol is a version of the PROXY protocol that is spoken to an upstream.
type ProxyProtocol string

// The versions.
const (
	ProxyProtocolNone ProxyProtocol = ""
	ProxyProtocolV1   ProxyProtocol = "v1"
	ProxyProtocolV2   ProxyProtocol = "v2" // with the TLS fields where TLS ends here
)

// UpstreamPolicy says how targets are chosen, watched and spoken to. Zero values mean the defaults.
type UpstreamPolicy struct {
	Balance         Balance       // empty: round_robin
	Health          string        // path of an HTTP health check, or "tcp" for a connection; empty: none, only failures seen in passing count
	HealthInterval  time.Duration // 0: 10 s
	ConnectTimeout  time.Duration // to connect, TLS included; 0: 5 s
	ResponseTimeout time.Duration // until an HTTP response begins, gRPC excepted; 0: 5 min
	Host            HostHeader    // empty: client
	ProxyProtocol   ProxyProtocol
}

// UpstreamTLSConfig says how an https or tls upstream is verified. It is never left unverified.
type UpstreamTLSConfig struct {
	Roots      []*x509.Certificate // empty: the system's
	ServerName string              // sent as SNI and verified; empty: the address's host
	// Certificate is the name of the certificate with which we show ourselves to it, and Client that certificate with its
	// key. Whoever puts a Config together sets both, or Client alone.
	Certificate string
	Client      *KeyPair // nil: none
}

// KeyPair is a certificate chain with its private key.
type KeyPair struct {
	Chain []*x509.Certificate // leaf first
	Key   crypto.Signer
}

// maxUnixPath is how long the path of a Unix socket may be, in bytes: sun_path of Linux without its final NUL. Some
// systems take fewer.
const maxUnixPath = 107

// parseUnix reads the path after unix:, with or without two slashes before it.
func parseUnix(rest string) (Upstream, error) {
	p := strings.TrimPrefix(rest, "//")
	switch {
	case !strings.HasPrefix(p, "/") || path.Clean(p) != p || p == "/":
		return Upstream{}, fmt.Errorf("upstream %q needs the absolute path of a socket, as in unix:/run/app.sock", "unix:"+rest)
	case len(p) > maxUnixPath:
		return Upstream{}, fmt.Errorf("upstream %q: the path of a Unix socket has %d bytes at most", "unix:"+rest, maxUnixPath)
	case strings.ContainsRune(p, 0):
		return Upstream{}, fmt.Errorf("upstream %q: a path holds no NUL", "unix:"+rest)
	}
	return Upstream{Scheme: UpstreamUnix, Address: p}, nil
}

// maxTargets bounds the targets of one upstream.
const maxTargets = 100

// ParseUpstreams reads one upstream or several targets, which must be of one scheme. A built-in stands alone.
func ParseUpstreams(texts []string) (Upstream, error) {
	if len(texts) > maxTargets {
		return Upstream{}, fmt.Errorf("an upstream has %d targets at most, these are %d", maxTargets, len(texts))
	}
	if len(texts) == 0 {
		return ParseUpstream("")
	}
	first, err := ParseUpstream(texts[0])
	if err != nil {
		return first, err
	}
	for _, s := range texts[1:] {
		u, err := ParseUpstream(s)
		switch {
		case err != nil:
			return first, err
		case u.Scheme == UpstreamBuiltin || first.Scheme == UpstreamBuiltin:
			return first, fmt.Errorf("a built-in upstream stands alone")
		case u.Scheme != first.Scheme:
			return first, fmt.Errorf("the targets %s and %s differ in their scheme; all of an endpoint are spoken to alike", first.target(first.Address), s)
		case slices.Contains(first.Targets(), u.Address):
			return first, fmt.Errorf("the target %s stands there twice", s)
		}
		first.More = append(first.More, u.Address)
	}
	return first, nil
}

// ParseUpstream reads http://host:port, https://, h2c://, tcp://, tls://, unix:/path or the name of a built-in.
func ParseUpstream(s string) (Upstream, error) {
	s = strings.TrimSpace(s)
	switch s {
	case BuiltinWhoami, BuiltinPortal:
		return Upstream{Scheme: UpstreamBuiltin, Address: s}, nil
	case "pki":
		return Upstream{}, fmt.Errorf("the built-in upstream %q is not in this version", s)
	case "":
		return Upstream{}, fmt.Errorf("an upstream is needed, as in http://127.0.0.1:8080")
	}
	if rest, ok := strings.CutPrefix(s, "unix:"); ok {
		return parseUnix(rest)
	}
	if !strings.Contains(s, "://") {
		return Upstream{}, fmt.Errorf("upstream %q needs a scheme, as in http://127.0.0.1:8080", s)
	}
	u, err := url.Parse(s)
	if err != nil {
		return Upstream{}, fmt.Errorf("read upstream: %w", err)
	}
	scheme := UpstreamScheme(strings.ToLower(u.Scheme))
	port := u.Port()
	switch scheme {
	case UpstreamHTTP, UpstreamH2C:
		port = orDefault(port, "80")
	case UpstreamHTTPS:
		port = orDefault(port, "443")
	case UpstreamTCP, UpstreamTLS:
		if port == "" {
			return Upstream{}, fmt.Errorf("upstream %q needs a port", s)
		}
	default:
		return Upstream{}, fmt.Errorf("upstream %q: the scheme must be http, https, h2c, tcp, tls or unix", s)
	}
	if u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return Upstream{}, fmt.Errorf("upstream %q must hold only scheme, host and port", s)
	}
	if u.Hostname() == "" {
		return Upstream{}, fmt.Errorf("upstream %q needs a host", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Upstream{}, fmt.Errorf("upstream %q: port must be between 1 and 65535", s)
	}
	return Upstream{Scheme: scheme, Address: net.JoinHostPort(u.Hostname(), port)}, nil
}

// Portal reports whether the upstream is the built-in portal.
func (u Upstream) Portal() bool { return u.Scheme == UpstreamBuiltin && u.Address == BuiltinPortal }

// HTTP reports whether HTTP can be spoken to the upstream.
func (u Upstream) HTTP() bool {
	switch u.Scheme {
	case UpstreamHTTP, UpstreamHTTPS, UpstreamH2C, UpstreamUnix, UpstreamBuiltin:
		return true
	default:
		return false
	}
}

// String is the form that [ParseUpstream] reads; of several targets the first.
func (u Upstream) String() string { return u.target(u.Address) }

// Texts are the forms of all targets that [ParseUpstreams] reads.
func (u Upstream) Texts() []string {
	out := make([]string, 0, 1+len(u.More))
	for _, t := range u.Targets() {
		out = append(out, u.target(t))
	}
	return out
}

func (u Upstream) target(address string) string {
	switch u.Scheme {
	case "": // there is none, as where an agent alone knows it
		return ""
	case UpstreamBuiltin:
		return address
	case UpstreamUnix:
		return "unix:" + address
	default:
		return string(u.Scheme) + "://" + address
	}
}

func orDefault(s, d string) string {
	if s == "" {
		return d
	}
	return s
}
