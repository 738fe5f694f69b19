package termination

import (
	"fmt"
	"slices"
	"strings"
)

const (
	mostForwardHeaders = 32
	longestHeaderName  = 100
)

// forwardIdentity checks what the upstream is told about the client.
func (v *validation) forwardIdentity(e *Endpoint) {
	const field = "forward_identity"
	add := func(problem, advice string) { v.add("endpoint", e.Name, field, problem, advice) }
	seen := map[IdentityFormat]bool{}
	for _, f := range e.ForwardIdentity {
		if len(f.Headers()) == 0 {
			add(fmt.Sprintf("%q is unknown", f), "use nginx, xfcc, rfc9440, traefik, alb, or a map of headers")
		}
		if seen[f] {
			add(fmt.Sprintf("%q stands there twice", f), "remove one")
		}
		seen[f] = true
	}
	if len(e.ForwardIdentity)+len(e.ForwardHeaders) > 0 && e.Scheme != SchemeHTTPS {
		add("headers need an https endpoint", "remove it, or use an https:// url")
	}
	if n := len(e.ForwardHeaders); n > mostForwardHeaders {
		add(fmt.Sprintf("%d headers of your own are too many", n), fmt.Sprintf("tell at most %d", mostForwardHeaders))
	}
	names := map[string]string{}
	for _, f := range e.ForwardIdentity {
		for _, name := range f.Headers() {
			names[HeaderSpelling(name)] = "the header set " + string(f)
		}
	}
	for _, h := range e.ForwardHeaders {
		add := func(problem, advice string) { v.add("endpoint", e.Name, field+"."+cutName(h.Name), problem, advice) }
		if err := CheckForwardHeader(h.Name); err != nil {
			add(err.Error(), "choose another name, as in X-Team")
			continue
		}
		spelled := HeaderSpelling(h.Name)
		if by, taken := names[spelled]; taken {
			add(fmt.Sprintf("the header %s is set by %s already", h.Name, by), "choose another name, or remove one of the two; services often cannot tell - from _, nor upper from lower case")
		}
		names[spelled] = "another line"
		if strings.TrimSpace(h.Value) == "" {
			add(fmt.Sprintf("the header %s has no expression", h.Name), "write one, as in client.subject.common_name")
		}
	}
}

// cutName bounds a name that may be anything.
func cutName(name string) string { return name[:min(len(name), longestHeaderName)] }

// Headers returns the names of the headers that a set may set; none: it is no set.
func (f IdentityFormat) Headers() []string {
	switch f {
	case IdentityNginx:
		return []string{"X-Client-Verify", "X-Client-CN", "X-Client-DN", "X-Client-Issuer-DN", "X-Client-Serial", "X-Client-Fingerprint", "X-Client-Cert"}
	case IdentityXFCC:
		return []string{"X-Forwarded-Client-Cert"}
	case IdentityRFC9440:
		return []string{"Client-Cert", "Client-Cert-Chain"}
	case IdentityTraefik:
		return []string{"X-Forwarded-Tls-Client-Cert", "X-Forwarded-Tls-Client-Cert-Info"}
	case IdentityALB:
		return []string{
			"X-Amzn-Mtls-Clientcert-Serial-Number", "X-Amzn-Mtls-Clientcert-Issuer", "X-Amzn-Mtls-Clientcert-Subject",
			"X-Amzn-Mtls-Clientcert-Validity", "X-Amzn-Mtls-Clientcert-Leaf",
		}
	default:
		return nil
	}
}

// HeaderSpelling brings the name of a header to the form in which services cannot tell it from others: CGI, WSGI and PHP
// make an underscore of whatever is no letter or digit, and no case is kept.
func HeaderSpelling(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		default:
			return '-'
		}
	}, name)
}

// CheckForwardHeader refuses names of headers that may not carry an expression: those that are none, those that frame a
// request or belong to the connection (RFC 9110, section 7.6.1), and those that the gateway sets or a service takes for
// something else.
func CheckForwardHeader(name string) error {
	if name == "" || len(name) > longestHeaderName {
		return fmt.Errorf("the name of a header has 1 to %d characters", longestHeaderName)
	}
	for i := range len(name) {
		if c := name[i]; !isAlphanumeric(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 { // a token (RFC 9110, section 5.6.2)
			return fmt.Errorf("%q is no name of a header: it may hold letters, digits and !#$%%&'*+-.^_`|~", name)
		}
	}
	spelled := HeaderSpelling(name)
	switch {
	case slices.Contains([]string{
		"host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length", "content-encoding",
		"content-type", "content-range", "content-location", "expect", "range", "via", "date", "http2-settings", "max-forwards", "alt-used", "priority",
	}, spelled):
		return fmt.Errorf("%q belongs to the request itself", name)
	case slices.Contains([]string{"cookie", "set-cookie", "authorization"}, spelled) || strings.HasPrefix(spelled, "proxy"):
		return fmt.Errorf("%q carries credentials, or what clients ask of proxies", name)
	case slices.Contains([]string{
		"forwarded", "x-forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-forwarded-prefix", "x-real-ip",
	}, spelled):
		return fmt.Errorf("%q tells where a request came from, and is always set", name)
	case strings.HasPrefix(spelled, "sec-"), strings.HasPrefix(spelled, "access-control-"), spelled == "origin", spelled == "referer":
		return fmt.Errorf("%q is what browsers tell of a page", name)
	case strings.HasPrefix(spelled, "countersign-"), strings.HasPrefix(spelled, "x-countersign-"):
		return fmt.Errorf("%q is kept for the gateway", name)
	case strings.Trim(spelled, "-") == "":
		return fmt.Errorf("%q holds no letter", name)
	}
	return nil
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
