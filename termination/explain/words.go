package explain

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"countersign/termination"
	"countersign/termination/clienterror"
)

// maxWord bounds what is looked at as one word, in bytes.
const maxWord = 400

// readWord explains what is one word or number: an alert, a fingerprint, a JA4.
func readWord(text string) (Finding, bool) {
	if text == "" || len(text) > maxWord || strings.Contains(text, "\n") {
		return Finding{}, false
	}
	if n, ok := alertNumber(text); ok {
		r := clienterror.AlertReading(n)
		f := findingOf(r)
		f.Kind = KindAlert
		return f, true
	}
	if f, ok := readFingerprint(text); ok {
		return f, true
	}
	return readJA4(text)
}

func alertNumber(text string) (uint8, bool) {
	word := strings.ToLower(strings.TrimSpace(text))
	for _, prefix := range []string{"tls ", "ssl ", "fatal ", "alert", "number", "#"} {
		word = strings.TrimSpace(strings.TrimPrefix(word, prefix))
	}
	n, err := strconv.ParseUint(word, 10, 8)
	if err == nil {
		return uint8(n), true
	}
	return clienterror.AlertByName(word)
}

func readFingerprint(text string) (Finding, bool) {
	word := text
	if _, after, ok := strings.Cut(word, "="); ok && strings.Contains(strings.ToLower(word), "fingerprint") {
		word = after // openssl x509 -fingerprint
	}
	word = strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(word), "sha256:"), "SHA256:")
	plain := strings.NewReplacer(":", "", " ", "").Replace(word)
	if raw, err := hex.DecodeString(plain); err == nil && len(raw) == 20 {
		return Finding{
			Kind: KindFingerprint, Title: "A SHA-1 fingerprint", Text: "Certificates are known here by SHA-256: SHA-1 can be forged.",
			Do: []string{"Ask for the other one: openssl x509 -in FILE -noout -fingerprint -sha256"},
		}, true
	}
	raw, err := hex.DecodeString(plain)
	if err != nil {
		if raw, err = base64.StdEncoding.DecodeString(word); err != nil {
			raw, err = base64.RawURLEncoding.DecodeString(word)
		}
	}
	if err != nil || len(raw) != 32 {
		return Finding{}, false
	}
	f := termination.Fingerprint(raw)
	return Finding{
		Kind: KindFingerprint, Title: "A SHA-256 fingerprint, of a certificate or of a key", Fingerprint: f, Filter: "fp:" + f.String(),
		Groups: []Group{{Title: "As others write it", Note: "The same bytes.", Facts: []Fact{
			{Name: "hex", Value: f.String()}, {Name: "openssl", Value: colons(raw)}, {Name: "base64", Value: base64.StdEncoding.EncodeToString(raw)},
		}}},
	}, true
}

func colons(raw []byte) string {
	var b strings.Builder
	for i, c := range raw {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02X", c)
	}
	return b.String()
}

// readJA4 takes a JA4 apart: what its first part says can be read, the rest are hashes.
func readJA4(text string) (Finding, bool) {
	m := regexp.MustCompile(`^([tqd])([0-9s][0-9])([di])([0-9]{2})([0-9]{2})([0-9a-zA-Z]{2})_([0-9a-f]{12})_([0-9a-f]{12})$`).FindStringSubmatch(text)
	if m == nil {
		return Finding{}, false
	}
	version := map[string]string{"13": "TLS 1.3", "12": "TLS 1.2", "11": "TLS 1.1", "10": "TLS 1.0", "s3": "SSL 3"}[m[2]]
	return Finding{
		Kind: KindJA4, Title: "A JA4: the fingerprint of a client's ClientHello, and so of its TLS library", Filter: "ja4:" + text,
		Text: "It tells software apart, never persons: whoever wants to can imitate it.",
		Groups: []Group{{Title: "What it says", Note: "The hashes cannot be turned back.", Facts: []Fact{
			{Name: "Over", Value: map[string]string{"t": "TCP", "q": "QUIC", "d": "DTLS"}[m[1]]},
			{Name: "Newest version", Value: version},
			{Name: "Server name", Value: map[string]string{"d": "given", "i": "none, or an IP address"}[m[3]]},
			{Name: "Cipher suites", Value: m[4]},
			{Name: "Extensions", Value: m[5]},
			{Name: "First ALPN", Value: m[6], Note: "its first and last character; 00: none"},
			{Name: "Hash of the suites", Value: m[7]},
			{Name: "Hash of the extensions", Value: m[8]},
		}}},
	}, true
}

// unwrap takes certificates out of the headers in which proxies hand them on.
func unwrap(text string) (Finding, []byte, bool) {
	name, value := "", text
	if before, after, ok := strings.Cut(text, ":"); ok && headerName(before) && !strings.HasPrefix(text, ":") {
		name, value = strings.ToLower(before), strings.TrimSpace(after)
	}
	lower := strings.ToLower(value)
	switch {
	case name == "x-forwarded-client-cert" || strings.HasPrefix(lower, "by=") || strings.HasPrefix(lower, "hash=") || strings.HasPrefix(lower, "cert=") && strings.Contains(value, "%20CERTIFICATE"):
		return readXFCC(value)
	case name == "client-cert" || name == "client-cert-chain" || strings.HasPrefix(value, ":MI") && strings.HasSuffix(value, ":"):
		return readClientCert(value)
	case strings.Contains(value, "-----BEGIN%20") || strings.Contains(lower, "%2d%2d") || strings.Contains(value, "-----BEGIN+"):
		decoded, err := url.PathUnescape(value) // a plus sign is one of base64
		if err != nil {
			return Finding{}, nil, false
		}
		return Finding{Kind: KindHeader, Title: "A certificate as nginx writes it into a header ($ssl_client_escaped_cert), URL-encoded", Notes: trust()}, []byte(decoded), true
	case strings.HasPrefix(value, "MII"):
		der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(value), ""))
		if err != nil {
			return Finding{}, nil, false
		}
		return Finding{Kind: KindHeader, Title: "DER in base64, as HAProxy and Traefik write a certificate into a header", Notes: trust()}, der, true
	}
	return Finding{}, nil, false
}

func trust() []string {
	return []string{"A header proves nothing by itself: it counts only where a proxy removes it from what clients send."}
}

func headerName(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; (c < 'a' || c > 'z') && s[i] != '-' && (s[i] < '0' || s[i] > '9') {
			return false
		}
	}
	return len(s) > 3 && len(s) < 64
}

// maxElements bounds the clients and certificates that one header names.
const maxElements = 16

// readXFCC reads Envoy's header: elements parted by commas, each of pairs parted by semicolons, either within quotes.
func readXFCC(value string) (Finding, []byte, bool) {
	f := Finding{Kind: KindHeader, Title: "Envoy's header about the client (x-forwarded-client-cert)", Notes: trust()}
	var certificates []byte
	for i, element := range splitQuoted(value, ',') {
		if i == maxElements {
			break
		}
		g := Group{Title: "Proxy " + strconv.Itoa(i+1), Note: "What the proxy says of the client that connected to it."}
		for _, pair := range splitQuoted(element, ';') {
			key, v, ok := strings.Cut(strings.TrimSpace(pair), "=")
			if !ok || len(g.Facts) == maxShown {
				continue
			}
			v = strings.ReplaceAll(strings.Trim(v, `"`), `\"`, `"`)
			if lower := strings.ToLower(key); lower == "cert" || lower == "chain" {
				if decoded, err := url.PathUnescape(v); err == nil && !(lower == "chain" && len(certificates) > 0 && strings.Contains(decoded, strings.TrimSpace(string(certificates)))) {
					certificates = append(append(certificates, decoded...), '\n')
				}
				v = "see below"
			}
			g.Facts = append(g.Facts, Fact{Name: key, Value: v})
		}
		if len(g.Facts) > 0 {
			f.Groups = append(f.Groups, g)
		}
	}
	return f, certificates, len(f.Groups) > 0
}

// splitQuoted splits at a separator that stands outside of double quotes.
func splitQuoted(s string, separator byte) []string {
	var out []string
	quoted, start := false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == separator && !quoted:
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	return append(out, s[start:])
}

// readClientCert reads byte sequences of RFC 8941, as RFC 9440 puts them into Client-Cert and Client-Cert-Chain.
func readClientCert(value string) (Finding, []byte, bool) {
	f := Finding{Kind: KindHeader, Title: "A certificate in a Client-Cert header (RFC 9440)", Notes: trust()}
	var certificates []byte
	for i, item := range strings.Split(value, ",") {
		item = strings.TrimSpace(item)
		if i == maxElements {
			break
		}
		if len(item) < 3 || item[0] != ':' || item[len(item)-1] != ':' {
			f.Faults = append(f.Faults, "It is not a byte sequence: base64 between two colons (RFC 8941, section 3.3.5).")
			continue
		}
		der, err := base64.StdEncoding.DecodeString(item[1 : len(item)-1])
		if err != nil {
			f.Faults = append(f.Faults, "What stands between the colons is not base64.")
			continue
		}
		certificates = append(certificates, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return f, certificates, true
}

// readJWK recognises a JSON Web Key (RFC 7517). One with a private part is not looked at further.
func readJWK(text string) (Finding, []byte, bool) {
	if !strings.HasPrefix(text, "{") {
		return Finding{}, nil, false
	}
	var key struct {
		Type    string   `json:"kty"`
		Curve   string   `json:"crv"`
		ID      string   `json:"kid"`
		Use     string   `json:"use"`
		Private string   `json:"d"`
		Secret  string   `json:"k"`
		Chain   []string `json:"x5c"`
		Thumb   string   `json:"x5t#S256"`
	}
	if json.Unmarshal([]byte(text), &key) != nil || key.Type == "" {
		return Finding{}, nil, false
	}
	if key.Private != "" || key.Secret != "" {
		return Finding{
			Kind: KindKey, Title: "A JSON Web Key with its private part. It was recognised, and is not kept.",
			Text: "Whoever has it can act as its owner.", Do: []string{"Explain its public part, or the certificate. If others could see it, make a new one."},
		}, nil, true
	}
	f := Finding{Kind: KindPublicKey, Title: "A public key as a JSON Web Key (JWK)", Text: "TLS has no use for it; what signs tokens with it is not seen in a handshake.", Groups: []Group{{Title: "What it says", Note: "Its names are its owner's word."}}}
	for _, fact := range []Fact{{Name: "Kind", Value: key.Type}, {Name: "Curve", Value: key.Curve}, {Name: "ID", Value: key.ID}, {Name: "Use", Value: key.Use}, {Name: "Certificate, SHA-256", Value: key.Thumb}} {
		if fact.Value != "" {
			f.Groups[0].Facts = append(f.Groups[0].Facts, fact)
		}
	}
	var certificates []byte
	for _, c := range key.Chain[:min(len(key.Chain), maxElements)] {
		if der, err := base64.StdEncoding.DecodeString(c); err == nil {
			certificates = append(certificates, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
	}
	return f, certificates, true
}
