package proxy

import (
	"net/http"
	"strings"
)

// below is the target without the path of a route that it is under: "/" where nothing is left. What is left stands as
// the client wrote it, escapes included: each byte of the path is one character, or one escape, of the raw form.
func (t target) below(prefix string) target {
	if prefix == "/" {
		return t
	}
	i := 0
	for range len(prefix) {
		if t.raw[i] == '%' {
			i += len("%2F")
			continue
		}
		i++
	}
	t.path, t.raw = t.path[len(prefix):], t.raw[i:]
	if t.path == "" {
		t.path, t.raw = "/", "/"
	}
	return t
}

// forwarded is what a listed proxy says about the request that it passes on.
type forwarded struct{ by, host, proto string }

// keepForwarded takes what is believed of a proxy's word before the headers are stripped. Believed is a peer that sends
// PROXY headers here: it could tell us any address anyway.
func (x *exchange) keepForwarded(h http.Header) {
	peer := x.conn.Handshake.Peer.Addr().Unmap().WithZone("")
	for _, p := range x.site.Endpoint.ProxyProtocol {
		if p.Contains(peer) {
			x.forwarded = forwarded{
				by:   strings.Join(h["X-Forwarded-For"], ", "),
				host: strings.Join(h["X-Forwarded-Host"], ", "), proto: strings.Join(h["X-Forwarded-Proto"], ", "),
			}
			return
		}
	}
}
