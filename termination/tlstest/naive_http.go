package tlstest

import (
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
)

// handler is what happens to each request of a connection that was let in.
func (n *naive) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn := r.Context().Value(admittedKey{}).(*peeked)
		endpoint, status := n.route(conn, r)
		if status == 0 && !n.has(JudgesOnce) && !n.has(RoutesByHost) && !n.has(ComparesHostRaw) && !conn.fallback &&
			n.admit(endpoint, r.TLS.PeerCertificates) != nil {
			status = http.StatusForbidden
		}
		if status == 0 && endpoint == OpenName {
			status = n.private(r)
		}
		if status != 0 {
			http.Error(w, http.StatusText(status), status)
			return
		}
		if !n.has(BelievesHeaders) {
			removeIdentity(r.Header)
			r.Trailer = nil
		}
		n.identify(endpoint, r)
		upstream, err := url.Parse(n.world.Upstream(endpoint).URL)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		transport := &http.Transport{DisableKeepAlives: true}
		(&httputil.ReverseProxy{
			Transport: transport,
			Rewrite: func(p *httputil.ProxyRequest) {
				p.Out.URL.Scheme, p.Out.URL.Host = upstream.Scheme, upstream.Host
				p.Out.Host = p.In.Host
				if n.has(BelievesHeaders) && len(p.In.Trailer) > 0 { // else the trailers get lost
					p.Out.Trailer, p.Out.ContentLength = p.In.Trailer, -1
				}
			},
			ErrorLog: quiet(),
		}).ServeHTTP(w, r)
	})
}

// route finds the endpoint of a request: that of its connection, and no other.
func (n *naive) route(conn *peeked, r *http.Request) (endpoint string, status int) {
	host := normal(r.Host)
	switch known := n.world.Upstream(host) != nil; {
	case known && (n.has(RoutesByHost) || conn.fallback):
		return host, 0
	case conn.fallback:
		return conn.endpoint, 0
	case n.has(ComparesHostRaw):
		if n.world.Upstream(r.Host) != nil && r.Host != conn.endpoint || !known {
			return "", http.StatusMisdirectedRequest
		}
		return host, 0
	case host != conn.endpoint:
		return "", http.StatusMisdirectedRequest
	}
	return conn.endpoint, 0
}

// normal is the one normaliser of a careful server: no port, no trailing dot,
// lower case.
func normal(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// private guards PrivatePath of the open endpoint.
func (n *naive) private(r *http.Request) (status int) {
	target := r.URL.Path
	if n.has(RawPrefix) {
		target = r.RequestURI
	} else if ambiguous(r) {
		return http.StatusBadRequest
	}
	within := target == PrivatePath || strings.HasPrefix(target, PrivatePath+"/")
	if within && (len(r.TLS.PeerCertificates) == 0 || n.chains(r.TLS.PeerCertificates) != nil) {
		return http.StatusForbidden
	}
	return 0
}

// ambiguous finds request targets that a server behind may read otherwise.
func ambiguous(r *http.Request) bool {
	target := strings.ToLower(r.URL.EscapedPath())
	for _, odd := range []string{"//", "%2e", "%2f", "%5c", `\`, ";"} {
		if strings.Contains(target, odd) {
			return true
		}
	}
	return !strings.HasPrefix(target, "/") || strings.Contains(target+"/", "/./") || strings.Contains(target+"/", "/../")
}

// IdentityHeaders are the headers by which proxies tell services who a client is.
func IdentityHeaders() []string {
	return []string{
		// Ours, and what users of nginx chose most.
		"X-Client-Verify", "X-Client-CN", "X-Client-DN", "X-Client-Issuer-DN", "X-Client-Serial", "X-Client-Fingerprint", "X-Client-Cert",
		"X-SSL-Client-Verify", "X-SSL-Client-S-DN", "X-SSL-Client-I-DN", "X-SSL-Client-Serial", "X-SSL-Client-Fingerprint", "X-SSL-Client-Cert",
		"X-Forwarded-Client-Cert",          // Envoy
		"Client-Cert", "Client-Cert-Chain", // RFC 9440
		"X-Forwarded-Tls-Client-Cert", "X-Forwarded-Tls-Client-Cert-Info", // Traefik
		"X-Amzn-Mtls-Clientcert", "X-Amzn-Mtls-Clientcert-Serial-Number", "X-Amzn-Mtls-Clientcert-Issuer",
		"X-Amzn-Mtls-Clientcert-Subject", "X-Amzn-Mtls-Clientcert-Validity", "X-Amzn-Mtls-Clientcert-Leaf",
	}
}

// identify tells the service who the client is.
func (n *naive) identify(endpoint string, r *http.Request) {
	presented := r.TLS.PeerCertificates
	if len(presented) == 0 || !n.has(AssertsUnverified) && endpoint == LobbyName && !n.verified(presented) || endpoint == OpenName {
		return
	}
	r.Header.Set("X-Client-CN", presented[0].Subject.CommonName)
}

// removeIdentity removes identity headers in every spelling: services that turn
// headers into variables (CGI, WSGI) cannot tell a dash from an underscore.
func removeIdentity(h http.Header) {
	for name := range h {
		dashed := strings.ReplaceAll(name, "_", "-")
		if slices.ContainsFunc(IdentityHeaders(), func(known string) bool { return strings.EqualFold(known, dashed) }) {
			delete(h, name)
		}
	}
}
