package server

import (
	"archive/zip"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"countersign/termination"
	"countersign/termination/wire"
	"countersign/views"
	"countersign/views/format"
)

// handshakeBundle packs what the owner of a client needs to mend it: why it was refused in words, the certificates as they
// came, and the record. It is made to leave the house: only what is listed in [bundleRecord] is in it, and addresses only
// when they were asked for.
func (s *Server) handshakeBundle(c echo.Context) error {
	r, err := s.findHandshake(c)
	if err != nil {
		return err
	}
	addresses := c.QueryParam("addresses") == "1"
	data, err := bundle(r.Handshake, addresses)
	if err != nil {
		return err
	}
	c.Response().Header().Set("Content-Disposition", `attachment; filename="`+r.Handshake.ID+`.zip"`)
	return c.Blob(http.StatusOK, "application/zip", data)
}

func bundle(h *termination.Handshake, addresses bool) ([]byte, error) {
	hide := func(s string) string { return s }
	if !addresses {
		hide = withoutAddresses(h)
	}
	record, err := json.MarshalIndent(bundleRecordOf(h, addresses, hide), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the record of a bundle: %w", err)
	}
	files := []struct {
		name string
		data []byte
	}{
		{"README.txt", []byte(bundleText(h, addresses, hide))},
		{"record.json", append(format.JSON(record), '\n')},
		{"chain.pem", views.ChainPEM(h.Presented)},
	}
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, f := range files {
		if len(f.data) == 0 {
			continue // no certificate was presented
		}
		w, err := z.CreateHeader(&zip.FileHeader{Name: h.ID + "/" + f.name, Method: zip.Deflate, Modified: h.Time.UTC()})
		if err == nil {
			_, err = w.Write(f.data)
		}
		if err != nil {
			return nil, fmt.Errorf("pack a bundle: %w", err)
		}
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("pack a bundle: %w", err)
	}
	return out.Bytes(), nil
}

// bundleRecord is what somebody elsewhere may know of a handshake. What is not here stays here: the names of endpoint,
// node and identity, the policy, the service behind, and the certificates that were found here.
type bundleRecord struct {
	ID          string                   `json:"id"`
	Time        time.Time                `json:"time"`
	DurationNS  time.Duration            `json:"duration_ns"`
	Stages      termination.Stages       `json:"stages"`
	ClientAt    string                   `json:"client_address,omitempty"`
	GatewayAt   string                   `json:"gateway_address,omitempty"`
	Hello       *termination.ClientHello `json:"hello,omitempty"`
	Chosen      *termination.Negotiated  `json:"chosen,omitempty"`
	Certificate []string                 `json:"presented_sha256,omitempty"`
	Outcome     termination.Outcome      `json:"outcome"`
	Reason      termination.Reason       `json:"reason,omitempty"`
	Beat        termination.Beat         `json:"beat"`
	Sentence    string                   `json:"sentence,omitempty"`
	ToClient    string                   `json:"to_client,omitempty"`
	Checks      []termination.Check      `json:"checks,omitempty"`
	Alert       *termination.Alert       `json:"alert,omitempty"`
}

func bundleRecordOf(h *termination.Handshake, addresses bool, hide func(string) string) bundleRecord {
	out := bundleRecord{
		ID: h.ID, Time: h.Time.UTC(), DurationNS: h.Duration, Stages: h.Stages, Hello: h.Hello, Chosen: h.Chosen,
		Outcome: h.Verdict.Outcome, Reason: h.Verdict.Reason, Beat: h.Verdict.Beat, Alert: h.Alert,
		Sentence: hide(h.Verdict.Explanation.Sentence), ToClient: hide(h.Verdict.Explanation.ClientTo),
	}
	if addresses {
		out.ClientAt, out.GatewayAt = h.Peer.String(), h.Local.String()
	}
	for _, c := range h.Presented {
		out.Certificate = append(out.Certificate, termination.FingerprintOf(c).String())
	}
	for _, check := range h.Verdict.Checks {
		check.Detail = hide(check.Detail)
		out.Checks = append(out.Checks, check)
	}
	return out
}

// bundleText is the explanation for whoever opens the archive, who has no dashboard.
func bundleText(h *termination.Handshake, addresses bool, hide func(string) string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	e := h.Verdict.Explanation
	sentence := e.Sentence
	if sentence == "" {
		sentence = views.FailureTitle(h.Verdict.Reason)
	}
	line("Handshake %s, %s", h.ID, h.Time.UTC().Format("2006-01-02 15:04:05.000 MST"))
	if h.Hello != nil && h.Hello.ServerName != "" {
		line("The client asked for %s.", format.Visible(h.Hello.ServerName))
	}
	if addresses {
		line("It came from %s to %s.", h.Peer, h.Local)
	}
	if sentence != "" {
		line("\nWHAT HAPPENED\n\n%s", format.Visible(hide(sentence)))
	}
	if e.Right != "" {
		line("%s", format.Visible(hide(e.Right)))
	}
	if e.ClientTo != "" {
		line("\nWHAT TO DO\n\n%s", views.VisibleLines(hide(e.ClientTo)))
	}
	if h.Alert != nil {
		line("\nTHE ALERT\n\n%s", views.AlertWords(h.Alert))
	}
	if len(h.Verdict.Checks) > 0 {
		line("\nEVERYTHING THAT WAS FOUND\n")
		for _, check := range h.Verdict.Checks {
			line("- %s", format.Visible(hide(check.Detail)))
		}
	}
	bundleChain(line, h.Presented)
	if n := h.Chosen; n != nil {
		line("\nAGREED ON\n\n%s, %s", wire.VersionName(n.Version), wire.CipherSuiteName(n.CipherSuite))
	}
	line("\nIN THIS ARCHIVE\n\nREADME.txt   this text\nrecord.json  the same for programs, with everything that the client offered")
	if len(h.Presented) > 0 {
		line("chain.pem    the certificates as the client sent them; they hold no private key")
	}
	if !addresses {
		line("\nAddresses were left out.")
	}
	return b.String()
}

// bundleChain tells of the certificates in the order in which they came.
func bundleChain(line func(string, ...any), chain []*x509.Certificate) {
	if len(chain) == 0 {
		return
	}
	line("\nWHAT THE CLIENT PRESENTED\n")
	for i, c := range chain {
		line("%d. %s", i+1, format.Cut(orNone(termination.NameText(c.Subject)), 1000))
		line("   issued by %s", format.Cut(orNone(termination.NameText(c.Issuer)), 1000))
		line("   good from %s until %s", c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
		line("   SHA-256 %s", termination.FingerprintOf(c))
	}
}

const addressLeftOut = "(address left out)"

// withoutAddresses returns a function that takes the addresses of this connection, and whatever else looks like one, out
// of a sentence.
func withoutAddresses(h *termination.Handshake) func(string) string {
	var known []string
	for _, a := range []netip.AddrPort{h.Peer, h.Local} {
		if a.IsValid() {
			known = append(known, a.String(), addressLeftOut, a.Addr().String(), addressLeftOut, a.Addr().Unmap().String(), addressLeftOut)
		}
	}
	if h.Upstream != nil && h.Upstream.Address != "" {
		known = append(known, h.Upstream.Address, addressLeftOut)
		// An error may have the host without scheme and port.
		if u, err := termination.ParseUpstream(h.Upstream.Address); err == nil {
			if host, _, err := net.SplitHostPort(u.Address); err == nil && host != "" {
				known = append(known, host, addressLeftOut)
			}
		}
	}
	replacer := strings.NewReplacer(known...)
	return func(s string) string { return hideAddresses(replacer.Replace(s)) }
}

// hideAddresses takes out what reads as an IPv4 address, or as an IPv6 address in its short form; the long one looks like a
// serial number.
func hideAddresses(s string) string {
	var b strings.Builder
	for s != "" {
		end := strings.IndexFunc(s, func(r rune) bool { return !partOfAddress(r) })
		switch end {
		case 0:
			_, n := utf8.DecodeRuneInString(s)
			b.WriteString(s[:n])
			s = s[n:]
			continue
		case -1:
			end = len(s)
		}
		word := s[:end]
		s = s[end:]
		core := strings.TrimRight(word, ".:")
		if isAddress(core) {
			b.WriteString(addressLeftOut + word[len(core):])
			continue
		}
		b.WriteString(word)
	}
	return b.String()
}

func partOfAddress(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'f' || r >= 'A' && r <= 'F' || r == '.' || r == ':'
}

func isAddress(s string) bool {
	if host, _, ok := strings.Cut(s, ":"); ok && strings.Contains(host, ".") {
		s = host // with its port
	}
	a, err := netip.ParseAddr(s)
	return err == nil && (a.Is4() || strings.Contains(s, "::") && s != "::")
}
