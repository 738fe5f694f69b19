package server

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"countersign/termination"
)

// contentPolicy allows nothing but our own files: no inline script or style, no frames, no foreign host. It is the
// second line behind escaping.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"

// secure stands before everything, errors and static files included: it sets the headers of every response and lets
// nothing in that did not address this dashboard by one of its own names, from one of its own pages.
func (s *Server) secure(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		hosts := s.hosts()
		if !slices.Contains(hosts, r.Host) {
			s.refuse(w, r, &Problem{
				Status: http.StatusForbidden, Code: "host", Title: "This dashboard does not answer to that name",
				Detail: fmt.Sprintf("The request was made for %q.", r.Host),
				Advice: "Open it under its own address, which it prints at every start; other names belong under dashboard.hosts.",
			})
			return
		}
		if err := checkOrigin(r, hosts); err != nil {
			s.refuse(w, r, err)
			return
		}
		if err := cross.Check(r); err != nil && !hasBearer(r) {
			s.refuse(w, r, originProblem(r))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	// Not "no-referrer": under that policy browsers send "Origin: null" with every form of our own (Fetch standard,
	// section 3.2, "serializing a request origin"), and the origin could not be checked. Nothing leaves for elsewhere.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cache-Control", "no-store")
}

// checkOrigin refuses requests from pages that are not ours. A page of another site can send a form, a fetch without
// reading its answer, and a WebSocket to a loopback address; and where a name of the attacker's was rebound to
// loopback, Origin and Host agree with each other, so both are compared with the fixed list.
//
// An Origin may be missing where nothing is changed, and with a bearer token, which no browser adds by itself.
func checkOrigin(r *http.Request, hosts []string) *Problem {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		if hasBearer(r) || safeMethod(r.Method) && !isUpgrade(r) {
			return nil
		}
		return originProblem(r)
	}
	u, err := url.Parse(origins[0])
	if len(origins) != 1 || err != nil || u.Scheme != "http" || u.Host != r.Host || !slices.Contains(hosts, u.Host) || origins[0] != "http://"+u.Host {
		return originProblem(r)
	}
	return nil
}

func originProblem(r *http.Request) *Problem {
	return &Problem{
		Status: http.StatusForbidden, Code: "origin", Title: "This request came from another site, and was not carried out",
		Detail: fmt.Sprintf("Its origin is %q.", r.Header.Get("Origin")),
		Advice: "Use the dashboard's own pages. Programs send a bearer token instead: countersign token create.",
	}
}

func safeMethod(m string) bool {
	return m == http.MethodGet || m == http.MethodHead || m == http.MethodOptions
}

func isUpgrade(r *http.Request) bool { return r.Header.Get("Upgrade") != "" }

// fixedHosts lists every value of Host that the dashboard answers to when it listens on address: the loopback names and
// addresses with its port, and the configured names. They are compared as they are, so "localhost.attacker.example" and
// "localhost." are other names.
func fixedHosts(address netip.AddrPort, configured []string) ([]string, error) {
	port := strconv.Itoa(int(address.Port()))
	hosts := []string{"localhost:" + port, "127.0.0.1:" + port, "[::1]:" + port, address.String()}
	for _, h := range configured {
		name, explicit, err := net.SplitHostPort(h)
		if err != nil {
			name, explicit = h, port
		}
		if a, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
			name = a.String()
		} else if name, err = termination.NormalizeName(name); err != nil || strings.HasPrefix(name, "*.") {
			return nil, fmt.Errorf("dashboard host %q is no host name; give a name without wildcard, with or without a port", h)
		}
		if n, err := strconv.ParseUint(explicit, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("dashboard host %q: the port must be a number from 1 to 65535", h)
		}
		hosts = append(hosts, net.JoinHostPort(name, explicit))
		if explicit == "80" {
			hosts = append(hosts, name)
		}
	}
	if port == "80" {
		hosts = append(hosts, "localhost", "127.0.0.1", "[::1]")
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}

// checkLoopback refuses to serve the dashboard to a network: that needs TLS and a credential.
func checkLoopback(listen string) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("dashboard address %q must be host:port, such as 127.0.0.1:7443: %w", listen, err)
	}
	if host == "localhost" {
		return nil
	}
	if a, err := netip.ParseAddr(host); err == nil && a.IsLoopback() {
		return nil
	}
	return fmt.Errorf("the dashboard does not listen on %q: off loopback it would need TLS and a credential, which are not in this version; use 127.0.0.1 and, from elsewhere, an SSH tunnel (ssh -L 7443:127.0.0.1:7443 this-machine)", listen)
}
