package proxy

import (
	"net/http"
	"strings"

	"countersign/termination"
)

// identityFamilies are the beginnings of the names of headers by which proxies tell services who a client is, where it
// comes from, or what it asked for. From outside none of them may pass, whether or not this endpoint sets some itself.
// They are in the form of [spelling].
var identityFamilies = [...]string{
	"client-cert",                // RFC 9440: Client-Cert, Client-Cert-Chain
	"clientcert", "x-clientcert", // home-grown
	"x-client-",                        // ours (nginx), Google's load balancer, F5, X-Client-IP
	"x-ssl-",                           // nginx, HAProxy: X-SSL-Client-Verify, X-SSL-Client-S-DN
	"ssl-",                             // Apache, ingress-nginx, Tomcat: SSL_CLIENT_CERT, ssl-client-subject-dn
	"x-tls-", "tls-client-", "x-mtls-", // home-grown
	"x-forwarded",                                    // X-Forwarded-*: ours, Envoy's X-Forwarded-Client-Cert, Traefik's X-Forwarded-Tls-Client-Cert, oauth2-proxy's X-Forwarded-User
	"forwarded",                                      // RFC 7239
	"x-real-ip", "x-cluster-client-", "true-client-", // where the client is
	"x-original-", "x-rewrite-url", // a path that some frameworks believe instead of the real one (CVE-2018-14773)
	"x-envoy-",                    // Envoy's internal headers
	"x-amzn-mtls-", "x-amzn-tls-", // AWS load balancers
	"cf-", "cloudfront-viewer-", // Cloudflare, CloudFront
	"fastly-client-", "x-arr-", // Fastly, Azure
	"wl-proxy-", "-ws", // WebLogic; WebSphere's $WSCC
	"x-spiffe-",                      // SPIFFE sidecars
	"countersign-", "x-countersign-", // kept for ourselves
}

// longestSpelling is more than the longest entry of identityFamilies has.
const longestSpelling = 32

// identityHeader reports whether a header of that name must not pass from outside.
func identityHeader(name string) bool {
	if strings.EqualFold(name, "proxy") { // would become HTTP_PROXY in CGI (CVE-2016-5385)
		return true
	}
	var buffer [longestSpelling]byte
	canonical := spelling(buffer[:0], name)
	for i := range identityFamilies {
		f := identityFamilies[i]
		if len(canonical) >= len(f) && string(canonical[:len(f)]) == f {
			return true
		}
	}
	return false
}

// spelling brings the beginning of a header's name to the form in which services cannot tell it from others: CGI, WSGI
// and PHP make an underscore of whatever is no letter or digit, and no case is kept.
func spelling(to []byte, name string) []byte {
	for i := 0; i < len(name) && i < longestSpelling; i++ {
		c := name[i]
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		default:
			c = '-'
		}
		to = append(to, c)
	}
	return to
}

// framesElsewhere reports whether a service could take a header for one that says where the request ends or whom it is
// for: Transfer_Encoding is one to CGI and its heirs, and to us it is none.
func framesElsewhere(name string) bool {
	var buffer [longestSpelling]byte
	switch string(spelling(buffer[:0], name)) {
	case "transfer-encoding":
		return true // net/http has taken the real one out
	case "content-length":
		return name != "Content-Length"
	case "host":
		return true // HTTP/2 lets it pass beside :authority
	}
	return false
}

// ownHeaders are the headers that an endpoint tells of its own, in the form of termination.HeaderSpelling.
type ownHeaders map[string]bool

// forged reports whether a header of that name must not pass from outside: it is an identity header everywhere, or the
// endpoint sets it, or a service could take it for one that the endpoint sets.
func (o ownHeaders) forged(name string) bool {
	return identityHeader(name) || len(o) > 0 && o[termination.HeaderSpelling(name)]
}

// strip removes from the headers of a client what must not reach an upstream.
func strip(h http.Header, own ownHeaders) {
	for name := range h {
		if own.forged(name) || framesElsewhere(name) {
			delete(h, name)
		}
	}
	stripCookies(h)
	// Only WebSocket is tunnelled. An upstream that agreed to h2c would take requests in the tunnel that nobody judges.
	if up := h["Upgrade"]; len(up) != 1 || !strings.EqualFold(up[0], "websocket") {
		delete(h, "Upgrade")
	}
}

// ownCookie begins the names of the dashboard's cookies. Cookies know no ports (RFC 6265, section 8.5), so a browser
// sends them to every endpoint on the same host name.
const ownCookie = "countersign_"

// stripCookies removes the dashboard's cookies and leaves the others as they are.
func stripCookies(h http.Header) {
	lines := h["Cookie"]
	kept := lines[:0]
	for _, line := range lines {
		if line = withoutOwnCookies(line); line != "" {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		delete(h, "Cookie")
		return
	}
	h["Cookie"] = kept
}

func withoutOwnCookies(line string) string {
	if !strings.Contains(strings.ToLower(line), ownCookie) {
		return line
	}
	var out strings.Builder
	for pair := range strings.SplitSeq(line, ";") {
		name, _, _ := strings.Cut(pair, "=")
		if isOwnCookie(name) {
			continue
		}
		if out.Len() > 0 {
			out.WriteByte(';')
		} else {
			pair = strings.TrimLeft(pair, " \t")
		}
		out.WriteString(pair)
	}
	return out.String()
}

// isOwnCookie knows the names also behind the prefixes that browsers give a meaning to.
func isOwnCookie(name string) bool {
	name = strings.ToLower(strings.TrimSpace(name))
	for _, prefix := range [...]string{"__host-http-", "__host-", "__secure-", "__http-"} {
		name = strings.TrimPrefix(name, prefix)
	}
	return strings.HasPrefix(name, ownCookie)
}

// stripSetCookies keeps services from replacing the dashboard's cookies with their own.
func stripSetCookies(h http.Header) {
	lines := h["Set-Cookie"]
	if len(lines) == 0 {
		return
	}
	kept := lines[:0]
	for _, line := range lines {
		name, _, _ := strings.Cut(line, "=")
		if !isOwnCookie(name) {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		delete(h, "Set-Cookie")
		return
	}
	h["Set-Cookie"] = kept
}
