package termination

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Scheme says what runs inside TLS.
type Scheme string

// The two schemes of an endpoint's URL.
const (
	SchemeHTTPS Scheme = "https" // HTTP/1.1 and HTTP/2
	SchemeTLS   Scheme = "tls"   // any bytes
)

// TerminateAt says where TLS is decrypted.
type TerminateAt string

// The places where TLS can end.
const (
	AtEdge     TerminateAt = "edge"     // in this process
	AtAgent    TerminateAt = "agent"    // in a Countersign agent beside the service; routed by SNI, no key here
	AtUpstream TerminateAt = "upstream" // in the service itself; routed by SNI, no key here
)

// Origin says where an object was declared, and so where it can be changed.
type Origin string

// The origins of an object.
const (
	OriginDashboard Origin = "dashboard" // made in the dashboard or through the API
	OriginFile      Origin = "file"      // declared in the configuration file: read-only elsewhere
	OriginDemo      Origin = "demo"      // made at first start
	OriginCommand   Origin = "command"   // made by a command for as long as that runs: read-only elsewhere
)

// Words in Endpoint.Certificates that are no names of certificates.
const (
	CertificateLocal = "local" // issued by the local CA when needed
	CertificateACME  = "acme"  // obtained and renewed through ACME (RFC 8555); until one is there, the local CA answers
)

// StartTLS names a protocol in which the client asks for TLS before it speaks it.
type StartTLS string

// The protocols that ask first.
const (
	StartTLSNone     StartTLS = ""         // TLS from the first byte
	StartTLSPostgres StartTLS = "postgres" // an SSLRequest comes first (PostgreSQL, section 54.2.11)
)

// TLSPreset is a named choice of TLS versions, suites and groups.
type TLSPreset string

// The presets. What an endpoint says beside its preset wins over it.
const (
	PresetIntermediate TLSPreset = "intermediate" // TLS 1.2 and 1.3, forward secrecy and AEAD only
	PresetModern       TLSPreset = "modern"       // TLS 1.3 only
)

// Endpoint is a public URL, where its TLS ends, who may come in, and the upstream behind it.
type Endpoint struct {
	ID              string
	Name            string
	Origin          Origin
	Enabled         bool
	Scheme          Scheme
	Host            string     // from the URL, normalised; empty: the explicit fallback of its address
	Aliases         []string   // more server names, normalised, "*." allowed
	Listen          netip.Addr // interface; unspecified addresses listen on all
	Port            uint16
	TerminateAt     TerminateAt
	Certificates    []string       // names of certificates, or "local"; empty at the edge means "local"
	MinVersion      uint16         // tls.VersionTLS12 or tls.VersionTLS13; 0 means what the preset says
	MaxVersion      uint16         // 0 means TLS 1.3
	Preset          TLSPreset      // empty: intermediate
	Suites          []uint16       // for TLS 1.2 only, in no order; empty: those of the preset
	ALPN            []string       // protocols offered inside TLS, in order of preference; empty: h2 and http/1.1 for https, none for tls
	StartTLS        StartTLS       // tls endpoints at the edge or an agent
	ProxyProtocol   []netip.Prefix // sources that must send a PROXY header, and the only ones that may
	Upstream        Upstream
	ClientAuth      ClientAuth
	Also            Also
	ForwardIdentity []IdentityFormat
	ForwardHeaders  []ForwardHeader // beside ForwardIdentity, or instead of it
	VerboseRefusals bool            // tell a refused client the reason and what to do
	Routes          []Route
}

// Fixed reports whether objects of this origin can be changed only where they come from.
func (o Origin) Fixed() bool { return o == OriginFile || o == OriginCommand }

// IdentityFormat names a set of headers that tell the upstream who the client is.
type IdentityFormat string

// The sets of headers.
const (
	IdentityNginx   IdentityFormat = "nginx"   // X-Client-Verify, X-Client-CN, X-Client-DN and so on
	IdentityXFCC    IdentityFormat = "xfcc"    // X-Forwarded-Client-Cert, as of Envoy
	IdentityRFC9440 IdentityFormat = "rfc9440" // Client-Cert, Client-Cert-Chain
	IdentityTraefik IdentityFormat = "traefik" // X-Forwarded-Tls-Client-Cert and its Info
	IdentityALB     IdentityFormat = "alb"     // X-Amzn-Mtls-Clientcert-Serial-Number and so on
)

// ForwardHeader is a header for the upstream whose value is an expression in CEL.
type ForwardHeader struct {
	Name  string
	Value string
}

// ServerNames returns the URL's host and the aliases; none for a fallback.
func (e *Endpoint) ServerNames() []string {
	if e.Host == "" {
		return nil
	}
	return append([]string{e.Host}, e.Aliases...)
}

// Fallback reports whether the endpoint answers unknown and missing server names on its address.
func (e *Endpoint) Fallback() bool { return e.Host == "" }

// Address is where the endpoint listens.
func (e *Endpoint) Address() netip.AddrPort { return netip.AddrPortFrom(e.Listen, e.Port) }

// ListensAt reports whether clients that connect to a local address reach the endpoint's listener.
func (e *Endpoint) ListensAt(local netip.AddrPort) bool {
	at := local.Addr().Unmap()
	return e.Port == local.Port() && (e.Listen == at || e.Listen.IsUnspecified() && (e.Listen.Is6() || at.Is4()))
}

// URL returns the endpoint's public URL; the port is left out where it is the scheme's default.
func (e *Endpoint) URL() string {
	if e.Scheme == SchemeHTTPS && e.Port == 443 {
		return "https://" + e.Host
	}
	return fmt.Sprintf("%s://%s:%d", e.Scheme, e.Host, e.Port)
}

// ParseEndpointURL reads the url of an endpoint: https://name[:port], tls://name:port, tls://:port.
func ParseEndpointURL(s string) (Scheme, string, uint16, error) {
	u, err := url.Parse(s)
	if err != nil {
		return "", "", 0, fmt.Errorf("read url: %w", err)
	}
	scheme := Scheme(strings.ToLower(u.Scheme))
	if scheme != SchemeHTTPS && scheme != SchemeTLS {
		return "", "", 0, fmt.Errorf("url %q must begin with https:// (HTTP inside TLS) or tls:// (any bytes inside TLS)", s)
	}
	if u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return "", "", 0, fmt.Errorf("url %q must hold only scheme, name and port; paths belong under routes", s)
	}
	port := uint64(443)
	if p := u.Port(); p != "" {
		if port, err = strconv.ParseUint(p, 10, 16); err != nil || port == 0 {
			return "", "", 0, fmt.Errorf("url %q: port must be between 1 and 65535", s)
		}
	} else if scheme == SchemeTLS {
		return "", "", 0, fmt.Errorf("url %q needs a port, as in tls://name:8443", s)
	}
	host := u.Hostname()
	if host == "" {
		return scheme, "", uint16(port), nil
	}
	name, err := NormalizeName(host)
	if err != nil {
		return "", "", 0, fmt.Errorf("url %q: %w", s, err)
	}
	if strings.HasPrefix(name, "*.") {
		return "", "", 0, fmt.Errorf("url %q: a wildcard belongs under aliases", s)
	}
	return scheme, name, uint16(port), nil
}

// Route is a path under an https endpoint with its own policy or upstream. Whole segments match; the longest wins.
type Route struct {
	Path        string      // cleaned, begins with a slash, without a final one except for "/"
	ClientAuth  *ClientAuth // nil: the endpoint's
	Also        *Also       // nil: the endpoint's
	Upstream    *Upstream   // nil: the endpoint's
	StripPrefix bool        // the upstream sees the target without Path
}
