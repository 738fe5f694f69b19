package views

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"countersign/termination"
	"countersign/termination/wire"
	"countersign/views/format"
	"countersign/views/parts"
)

// seen is a fact that leads to the handshakes with the same value. On the Live page it offers more.
func seen(name string, key termination.FilterKey, value string) parts.Fact {
	f := parts.Fact{Name: name, Value: value}
	term := termination.FormatFilterTerm(key, value, false)
	if _, err := termination.ParseFilter(term, time.Time{}); err != nil || value == "" {
		return f // text that no filter can hold
	}
	f.Key, f.Href = string(key), "/live?"+url.Values{"f": {term}}.Encode()
	return f
}

// peerFact is where the client came from. Its port stands beside the address that a filter can ask for.
func peerFact(h *termination.Handshake) parts.Fact {
	if !h.Peer.IsValid() {
		return parts.Fact{Name: "Client", Value: h.Peer.String()}
	}
	f := seen("Client", termination.FilterIP, h.Peer.Addr().Unmap().WithZone("").String())
	f.Note = "port " + strconv.Itoa(int(h.Peer.Port()))
	return f
}

// AddRepeats says how often the same happened since a time, and how many clients use the same software.
func (h *Handshake) AddRepeats(clock format.Clock, count int64, first time.Time, ja4 int64) {
	if count > 1 && h.Tone == parts.Bad {
		words := fmt.Sprintf("%s attempts since %s", format.Int(count), clock.Minute(first))
		if every := clock.Now.Sub(first) / time.Duration(count); every > 0 {
			words += ", one every " + format.ShortSpan(every)
		}
		h.Right = strings.TrimSpace(h.Right + " " + words + ".")
	}
	if ja4 < 2 {
		return
	}
	for i := range h.Hello {
		if h.Hello[i].Name == "JA4" {
			h.Hello[i].Note = "same as " + format.Int(ja4) + " clients"
		}
	}
}

// curlOf writes a command that asks as the client did. A name from a stranger only gets into it when it is a host name.
func curlOf(h *termination.Handshake) string {
	if h.Hello == nil || h.Scheme != termination.SchemeHTTPS || !h.Local.IsValid() || h.Proof {
		return ""
	}
	name := strings.ToLower(h.Hello.ServerName)
	if name == "" || len(name) > 253 || name[0] == '-' || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
		return ""
	}
	port := strconv.Itoa(int(h.Local.Port()))
	parts := []string{"curl -v --resolve " + name + ":" + port + ":" + h.Local.Addr().Unmap().String()}
	newest := uint16(0)
	for _, v := range h.Hello.Versions {
		if !wire.IsGREASE(v) {
			newest = max(newest, v)
		}
	}
	if newest == wire.VersionTLS12 {
		parts = append(parts, "--tls-max 1.2")
	}
	if len(h.Presented) > 0 || h.Client.Fingerprint != (termination.Fingerprint{}) {
		parts = append(parts, "--cert client.pem --key client.key")
	}
	return strings.Join(append(parts, "https://"+name+":"+port+"/"), " \\\n  ")
}
