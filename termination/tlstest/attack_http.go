package tlstest

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// fronting: a connection that was let in for the open endpoint asks for another.
func (r *raid) fronting() {
	for _, endpoint := range []string{StaffName, VaultName} {
		upper := strings.ToUpper(endpoint)
		for _, host := range []string{
			endpoint, upper, endpoint + ".", upper + ".", endpoint + ":443", upper + ":8443", endpoint + ".:443",
		} {
			for _, protocol := range protocols() {
				r.attempt(fmt.Sprintf("Host %s, %s", host, protocol), at(endpoint), func() {
					r.get(r.client(OpenName, tls.VersionTLS13, protocol, nil), host, "/")
				})
			}
		}
		for name, request := range map[string]string{
			"absolute target":       "GET https://" + endpoint + "/ HTTP/1.1\r\nHost: " + OpenName + "\r\n\r\n",
			"absolute, upper case":  "GET HTTPS://" + upper + "/ HTTP/1.1\r\nHost: " + OpenName + "\r\n\r\n",
			"host in the target":    "GET https://" + OpenName + "/ HTTP/1.1\r\nHost: " + endpoint + "\r\n\r\n",
			"two Hosts":             "GET / HTTP/1.1\r\nHost: " + OpenName + "\r\nHost: " + endpoint + "\r\n\r\n",
			"two Hosts, other way":  "GET / HTTP/1.1\r\nHost: " + endpoint + "\r\nHost: " + OpenName + "\r\n\r\n",
			"spaced":                "GET / HTTP/1.1\r\nHost:   " + endpoint + "  \r\n\r\n",
			"user info":             "GET https://x@" + endpoint + "/ HTTP/1.1\r\nHost: " + OpenName + "\r\n\r\n",
			"X-Forwarded-Host":      "GET / HTTP/1.1\r\nHost: " + OpenName + "\r\nX-Forwarded-Host: " + endpoint + "\r\n\r\n",
			"Forwarded":             "GET / HTTP/1.1\r\nHost: " + OpenName + "\r\nForwarded: host=" + endpoint + "\r\n\r\n",
			"HTTP/1.0":              "GET / HTTP/1.0\r\nHost: " + endpoint + "\r\n\r\n",
			"second on connection":  "GET / HTTP/1.1\r\nHost: " + OpenName + "\r\n\r\nGET / HTTP/1.1\r\nHost: " + endpoint + "\r\nConnection: close\r\n\r\n",
			"CONNECT":               "CONNECT " + endpoint + ":443 HTTP/1.1\r\nHost: " + endpoint + ":443\r\n\r\n",
			"list of hosts":         "GET / HTTP/1.1\r\nHost: " + OpenName + ", " + endpoint + "\r\n\r\n",
			"certificate for other": "GET / HTTP/1.1\r\nHost: " + endpoint + "\r\nX-Client-Verify: SUCCESS\r\n\r\n",
		} {
			r.attempt(name+" "+endpoint, at(endpoint), func() { r.send(request) })
		}
	}
}

// send sends an HTTP/1.1 request as it stands to the open endpoint, without a
// certificate, and reads until the connection ends or an answer has come for each
// request in it.
func (r *raid) send(request string) {
	s, err := r.open(r.client(OpenName, tls.VersionTLS13, "http/1.1", nil), nil)
	if err != nil {
		r.t.Errorf("the open endpoint refuses: %v", err)
		return
	}
	defer s.close()
	if _, err := s.raw(request); err != nil {
		return
	}
	if strings.Count(request, "GET ") > 1 {
		s.raw("")
	}
}

// paths: without a certificate, targets that a lenient application takes for
// PrivatePath.
func (r *raid) paths() {
	for _, target := range []string{
		PrivatePath, PrivatePath + "/", PrivatePath + "/x", PrivatePath + "?x", PrivatePath + "#x",
		"/public/..", // harmless, and a check that the next ones do not pass by luck
		"/public/../private", "/./private", "//private", "///private", "/public//..//private", "/private/.", "/private/x/..",
		"/%70rivate", "/privat%65/x", "/public/%2e%2e/private", "/public/.%2E/private", "/public/..%2fprivate", "/public%2f..%2fprivate",
		"/%2fprivate", "/%2e/private", "/private%2fx", "/public/..;/private", "/public/..;x=1/private", "/;/private", "/private;x", "/private;/x", "/;x/private",
		`/public\..\private`, `/\private`, "/public/..%5cprivate", "/%5cprivate",
	} {
		for _, protocol := range protocols() {
			if protocol == "h2" && strings.ContainsAny(target, "?#") {
				continue
			}
			r.attempt(target+" "+protocol, visit.inPrivate, func() {
				r.get(r.client(OpenName, tls.VersionTLS13, protocol, nil), OpenName, target)
			})
		}
	}
	for _, target := range []string{"https://" + OpenName + PrivatePath, "https://" + OpenName + "/x/.." + PrivatePath, "https://" + OpenName + "//private", "private", "x/../private"} {
		r.attempt("target "+target, visit.inPrivate, func() {
			r.send("GET " + target + " HTTP/1.1\r\nHost: " + OpenName + "\r\n\r\n")
		})
	}
	for _, method := range []string{"POST", "OPTIONS", "HEAD", "TRACE", "PROPFIND"} {
		r.attempt(method, visit.inPrivate, func() {
			r.send(method + " " + PrivatePath + " HTTP/1.1\r\nHost: " + OpenName + "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		})
	}
	for _, header := range []string{"X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "X-HTTP-Method-Override"} {
		r.attempt(header, visit.inPrivate, func() {
			r.send("GET / HTTP/1.1\r\nHost: " + OpenName + "\r\n" + header + ": " + PrivatePath + "\r\n\r\n")
		})
	}
}

// headers: without a certificate, identity headers of the client's own making.
func (r *raid) headers() {
	spellings := map[string]func(string) string{
		"as usual":    func(name string) string { return name },
		"lower case":  strings.ToLower,
		"upper case":  strings.ToUpper,
		"underscores": func(name string) string { return strings.ReplaceAll(name, "-", "_") },
		"mixed":       func(name string) string { return strings.Replace(strings.ToLower(name), "-", "_", 1) },
	}
	for spelling, spell := range spellings {
		for _, protocol := range protocols() {
			var s *session // kept as long as the server keeps it
			for _, name := range IdentityHeaders() {
				r.attempt(fmt.Sprintf("%s, %s, %s", name, spelling, protocol), visit.carriesForged, func() {
					if s == nil {
						var err error
						if s, err = r.open(r.client(OpenName, tls.VersionTLS13, protocol, nil), nil); err != nil {
							r.t.Errorf("the open endpoint refuses: %v", err)
							return
						}
					}
					if _, err := s.get(OpenName, "/", http.Header{spell(name): {forged, forged}}); err != nil {
						s.close()
						s = nil
					}
				})
			}
			if s != nil {
				s.close()
			}
		}
	}
	for _, name := range IdentityHeaders() {
		for variant, request := range map[string]string{
			"named in Connection": "GET / HTTP/1.1\r\nHost: %[1]s\r\nConnection: close, %[2]s\r\n%[2]s: %[3]s\r\n\r\n",
			"folded":              "GET / HTTP/1.1\r\nHost: %[1]s\r\nX-Other: x\r\n %[2]s: %[3]s\r\n\r\n",
			"space before colon":  "GET / HTTP/1.1\r\nHost: %[1]s\r\n%[2]s : %[3]s\r\n\r\n",
			"in the trailer": "POST / HTTP/1.1\r\nHost: %[1]s\r\nTransfer-Encoding: chunked\r\nTrailer: %[2]s\r\n\r\n" +
				"1\r\nx\r\n0\r\n%[2]s: %[3]s\r\n\r\n",
			"in an unannounced trailer": "POST / HTTP/1.1\r\nHost: %[1]s\r\nTransfer-Encoding: chunked\r\n\r\n" +
				"1\r\nx\r\n0\r\n%[2]s: %[3]s\r\n\r\n",
		} {
			such := visit.carriesForged
			if variant == "folded" { // what is folded into another header is that header's
				such = func(v visit) bool { return slices.Contains(v.request.Header.Values(name), forged) }
			}
			r.attempt(name+" "+variant, such, func() { r.send(fmt.Sprintf(request, OpenName, name, forged)) })
		}
	}
}
