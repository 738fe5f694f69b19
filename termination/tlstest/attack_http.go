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
		for _, version := range versions() {
			for _, protocol := range protocols() {
				v := r.visitor(OpenName, version, protocol)
				for _, host := range []string{
					endpoint, upper, endpoint + ".", upper + ".", endpoint + ":443", upper + ":8443", endpoint + ".:443", "[" + endpoint + "]", "*." + endpoint,
				} {
					r.attempt(fmt.Sprintf("Host %s, %s", host, v.name), at(endpoint), func() { v.get(host, "/", nil) })
				}
				v.leave()
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
				r.attempt(fmt.Sprintf("%s %s, %s", name, endpoint, tls.VersionName(version)), at(endpoint), func() { r.send(version, request) })
			}
		}
	}
}

// visitor is somebody without a certificate who stays on a connection as long as
// the server keeps it, and then opens another.
type visitor struct {
	*raid
	name       string
	serverName string
	version    uint16
	protocol   string
	session    *session
}

func (r *raid) visitor(serverName string, version uint16, protocol string) *visitor {
	return &visitor{raid: r, name: fmt.Sprintf("%s, %s", tls.VersionName(version), protocol), serverName: serverName, version: version, protocol: protocol}
}

// get sends a request; whatever becomes of it is for the upstreams to tell.
func (v *visitor) get(host, target string, header http.Header) {
	if v.session == nil {
		var err error
		if v.session, err = v.open(v.client(v.serverName, v.version, v.protocol, nil), nil); err != nil {
			v.t.Errorf("%s refuses: %v", v.serverName, err)
			return
		}
	}
	if _, err := v.session.get(host, target, header); err != nil {
		v.leave()
	}
}

func (v *visitor) leave() {
	if v.session != nil {
		v.session.close()
		v.session = nil
	}
}

// send sends an HTTP/1.1 request as it stands to the open endpoint, without a
// certificate, and reads until the connection ends or an answer has come for each
// request in it.
func (r *raid) send(version uint16, request string) {
	s, err := r.open(r.client(OpenName, version, "http/1.1", nil), nil)
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
	for _, version := range versions() {
		for _, protocol := range protocols() {
			v := r.visitor(OpenName, version, protocol)
			for _, target := range []string{
				PrivatePath, PrivatePath + "/", PrivatePath + "/x", PrivatePath + "?x", PrivatePath + "#x",
				"/public/..", // harmless, and a check that the next ones do not pass by luck
				"/public/../private", "/./private", "//private", "///private", "/public//..//private", "/private/.", "/private/x/..",
				"/%70rivate", "/privat%65/x", "/public/%2e%2e/private", "/public/.%2E/private", "/public/..%2fprivate", "/public%2f..%2fprivate",
				"/%2fprivate", "/%2e/private", "/private%2fx", "/public/..;/private", "/public/..;x=1/private", "/;/private", "/private;x", "/private;/x", "/;x/private",
				`/public\..\private`, `/\private`, "/public/..%5cprivate", "/%5cprivate",
			} {
				if protocol == "h2" && strings.ContainsAny(target, "?#") {
					continue
				}
				r.attempt(target+" "+v.name, visit.inPrivate, func() { v.get(OpenName, target, nil) })
			}
			v.leave()
		}
		suffix := ", " + tls.VersionName(version)
		for _, target := range []string{"https://" + OpenName + PrivatePath, "https://" + OpenName + "/x/.." + PrivatePath, "https://" + OpenName + "//private", "private", "x/../private"} {
			r.attempt("target "+target+suffix, visit.inPrivate, func() {
				r.send(version, "GET "+target+" HTTP/1.1\r\nHost: "+OpenName+"\r\n\r\n")
			})
		}
		for _, method := range []string{"POST", "OPTIONS", "HEAD", "TRACE", "PROPFIND"} {
			r.attempt(method+suffix, visit.inPrivate, func() {
				r.send(version, method+" "+PrivatePath+" HTTP/1.1\r\nHost: "+OpenName+"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			})
		}
		for _, header := range []string{"X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "X-HTTP-Method-Override"} {
			r.attempt(header+suffix, visit.inPrivate, func() {
				r.send(version, "GET / HTTP/1.1\r\nHost: "+OpenName+"\r\n"+header+": "+PrivatePath+"\r\n\r\n")
			})
		}
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
	for _, version := range versions() {
		for _, protocol := range protocols() {
			v := r.visitor(OpenName, version, protocol)
			for spelling, spell := range spellings {
				h := http.Header{}
				for _, name := range IdentityHeaders() {
					h[spell(name)] = []string{forged, forged}
				}
				r.attempt(spelling+", "+v.name, visit.carriesForged, func() { v.get(OpenName, "/", h) })
			}
			v.leave()
		}
		r.trailers(version)
		names := IdentityHeaders()
		all := strings.Join(names, ", ")
		lines := strings.Join(names, ": "+forged+"\r\n") + ": " + forged + "\r\n"
		for variant, request := range map[string]string{
			"named in Connection":      "GET / HTTP/1.1\r\nHost: %[1]s\r\nConnection: close, %[2]s\r\n%[3]s\r\n",
			"in a WebSocket's request": "GET / HTTP/1.1\r\nHost: %[1]s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%[3]s\r\n",
			"in the trailer": "POST / HTTP/1.1\r\nHost: %[1]s\r\nTransfer-Encoding: chunked\r\nTrailer: %[2]s\r\n\r\n" +
				"1\r\nx\r\n0\r\n%[3]s\r\n",
			"in an unannounced trailer": "POST / HTTP/1.1\r\nHost: %[1]s\r\nTransfer-Encoding: chunked\r\n\r\n" +
				"1\r\nx\r\n0\r\n%[3]s\r\n",
		} {
			r.attempt(variant+", "+tls.VersionName(version), visit.carriesForged, func() { r.send(version, fmt.Sprintf(request, OpenName, all, lines)) })
		}
		for _, name := range []string{"X-Client-CN", "X-Forwarded-Client-Cert"} {
			folded := func(v visit) bool { return slices.Contains(v.request.Header.Values(name), forged) } // what is folded into another header is that header's
			r.attempt(name+" folded, "+tls.VersionName(version), folded, func() {
				r.send(version, "GET / HTTP/1.1\r\nHost: "+OpenName+"\r\nX-Other: x\r\n "+name+": "+forged+"\r\n\r\n")
			})
			r.attempt(name+" with a space before the colon, "+tls.VersionName(version), visit.carriesForged, func() {
				r.send(version, "GET / HTTP/1.1\r\nHost: "+OpenName+"\r\n"+name+" : "+forged+"\r\n\r\n")
			})
		}
	}
}

// trailers sends identity headers as trailers of HTTP/2.
func (r *raid) trailers(version uint16) {
	r.attempt("in the trailer, h2, "+tls.VersionName(version), visit.carriesForged, func() {
		s, err := r.open(r.client(OpenName, version, "h2", nil), nil)
		if err != nil {
			r.t.Errorf("the open endpoint refuses: %v", err)
			return
		}
		defer s.close()
		request, err := http.NewRequest(http.MethodPost, "https://"+OpenName+"/", strings.NewReader("x"))
		if err != nil {
			r.t.Fatal(err)
		}
		request.ContentLength, request.Trailer = -1, http.Header{}
		for _, name := range IdentityHeaders() {
			request.Trailer.Set(name, forged)
		}
		if res, err := s.transport.RoundTrip(request); err == nil {
			res.Body.Close()
		}
	})
}

// unverifiedIdentity: in the lobby, where everybody may enter, strangers with
// certificates come. Whatever the service is told, it is not who they say they are.
func (r *raid) unverifiedIdentity() {
	const claimed = "claimed-name"
	stranger := NewCA(CN("Stranger")).Client(claimed, URI("spiffe://prod/"+claimed), DNS(claimed+".example.com"))
	self := SelfSigned(CN(claimed))
	for name, pair := range map[string]tls.Certificate{
		"a stranger":                stranger.TLS(),
		"signed itself":             self.TLS(),
		"an impostor's":             r.world.ClientCA.Impostor().Client(claimed).TLS(),
		"a stranger, then bob":      stranger.TLSWith(r.world.Bob),
		"expired":                   r.world.ClientCA.Client(claimed, Expired()).TLS(),
		"a partner's":               r.world.PartnerCA.Client(claimed).TLS(),
		"made for servers":          r.world.ClientCA.Leaf(CN(claimed), EKU(serverUse())).TLS(),
		"signed itself, then alice": self.TLSWith(r.world.Alice, r.world.ClientCA),
	} {
		texts := []string{claimed, "SUCCESS", r.world.Bob.Fingerprint(), r.world.Alice.Fingerprint(), fmt.Sprintf("%x", sha256Of(pair.Certificate[0]))}
		such := func(v visit) bool { return slices.ContainsFunc(texts, v.tells) }
		for _, version := range versions() {
			for _, protocol := range protocols() {
				r.attempt(fmt.Sprintf("%s, %s, %s", name, tls.VersionName(version), protocol), such, func() {
					config := r.client(LobbyName, version, protocol, nil)
					config.GetClientCertificate = present(pair)
					if status, err := r.get(config, LobbyName, "/"); err != nil || status != http.StatusOK {
						r.t.Errorf("%s is not let into the lobby: status %d, %v", name, status, err)
					}
				})
			}
		}
	}
}
