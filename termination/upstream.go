package termination

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
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

// BuiltinWhoami answers with what the gateway knows about the caller.
const BuiltinWhoami = "whoami"

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
	ResponseTimeout time.Duration // until an HTTP response begins; 0: none
	Host            HostHeader    // empty: client
	ProxyProtocol   ProxyProtocol
}

// UpstreamTLSConfig says how an https or tls upstream is verified. It is never left unverified.
type UpstreamTLSConfig struct {
	Roots      []*x509.Certificate // empty: the system's
	ServerName string              // sent as SNI and verified; empty: the address's host
	Client     *KeyPair            // our own client certificate towards it; nil: none
}

// KeyPair is a certificate chain with its private key.
type KeyPair struct {
	Chain []*x509.Certificate // leaf first
	Key   crypto.Signer
}

// ParseUpstream reads http://host:port, https://, h2c://, tcp://, tls:// or the name of a built-in.
func ParseUpstream(s string) (Upstream, error) {
	s = strings.TrimSpace(s)
	switch s {
	case BuiltinWhoami:
		return Upstream{Scheme: UpstreamBuiltin, Address: s}, nil
	case "portal", "pki":
		return Upstream{}, fmt.Errorf("the built-in upstream %q is not in this version", s)
	case "":
		return Upstream{}, fmt.Errorf("an upstream is needed, as in http://127.0.0.1:8080")
	}
	if strings.HasPrefix(s, "unix:") {
		return Upstream{}, fmt.Errorf("unix socket upstreams are not in this version")
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
		return Upstream{}, fmt.Errorf("upstream %q: the scheme must be http, https, h2c, tcp or tls", s)
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

// HTTP reports whether HTTP is spoken to the upstream.
func (u Upstream) HTTP() bool {
	switch u.Scheme {
	case UpstreamHTTP, UpstreamHTTPS, UpstreamH2C, UpstreamBuiltin:
		return true
	default:
		return false
	}
}

// String is the form that [ParseUpstream] reads.
func (u Upstream) String() string {
	if u.Scheme == UpstreamBuiltin {
		return u.Address
	}
	return string(u.Scheme) + "://" + u.Address
}

func orDefault(s, d string) string {
	if s == "" {
		return d
	}
	return s
}
