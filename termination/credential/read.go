package credential

import (
	"encoding/base64"
	"net/http"
	"strings"
	"unicode/utf8"

	"countersign/termination"
)

// Bounds of what is looked at. A longer password means nothing to bcrypt, which reads 72 bytes.
const (
	maxHeader   = 8 << 10
	maxPassword = 72
)

// Presented is what a request brings along as its proof. The zero value is none.
type Presented struct {
	Kind   termination.ProofKind // ProofBearer or ProofBasic; empty: none that is understood
	User   string                // of ProofBasic
	secret string
}

// MalformedError says why an Authorization header cannot be read, in a sentence for the client that holds nothing of it.
type MalformedError string

func (e MalformedError) Error() string { return string(e) }

// Read reads the Authorization header. One that uses another scheme is none that is understood. The error is a
// [MalformedError]: whoever is behind might read such a header otherwise.
func Read(h http.Header) (Presented, error) {
	lines := h["Authorization"]
	switch {
	case len(lines) == 0:
		return Presented{}, nil
	case len(lines) > 1:
		return Presented{}, MalformedError("The request has more than one Authorization header.")
	case len(lines[0]) > maxHeader:
		return Presented{}, MalformedError("The Authorization header is too long.")
	}
	scheme, rest, found := strings.Cut(lines[0], " ")
	rest = strings.Trim(rest, " ")
	switch {
	case strings.EqualFold(scheme, "bearer"):
		if !found || !token68(rest) {
			return Presented{}, MalformedError("The Authorization header holds no token (RFC 6750, section 2.1).")
		}
		return Presented{Kind: termination.ProofBearer, secret: rest}, nil
	case strings.EqualFold(scheme, "basic"):
		return readBasic(rest)
	case scheme == "" || strings.ContainsFunc(scheme, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ',' || r == '=' }):
		return Presented{}, MalformedError("The Authorization header names no scheme.")
	}
	return Presented{}, nil
}

// readBasic reads the base64 of a user name, a colon and a password (RFC 7617, section 2).
func readBasic(s string) (Presented, error) {
	const malformed = MalformedError("The Authorization header holds no user name and password (RFC 7617, section 2).")
	text, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") || !utf8.Valid(text) {
		return Presented{}, malformed
	}
	user, password, found := strings.Cut(string(text), ":")
	if !found || strings.ContainsFunc(string(text), func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return Presented{}, malformed
	}
	return Presented{Kind: termination.ProofBasic, User: user, secret: password}, nil
}

// token68 reports whether s is a token as RFC 6750, section 2.1, writes it.
func token68(s string) bool {
	body := strings.TrimRight(s, "=")
	if body == "" {
		return false
	}
	for i := range len(body) {
		c := body[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && strings.IndexByte("-._~+/", c) < 0 {
			return false
		}
	}
	return true
}
