package proxy

import (
	"net/http"
	"strings"
	"unicode/utf8"
)

// maxUnescapes bounds how often a path is unescaped to see what might become of it.
const maxUnescapes = 4

// target is what a request asks for.
type target struct {
	path     string // unescaped: decides on the route
	raw      string // as the client wrote it, and as it is forwarded
	query    string
	hasQuery bool // "?" with nothing after it is not the same as none
}

// readTarget reads the request target. A path is a boundary: the same path must mean the same to us and to whatever is
// behind, so one that programs are known to read in different ways is refused. The error is a [badRequest].
func readTarget(r *http.Request) (target, error) {
	uri := r.RequestURI
	if r.Method == http.MethodConnect || uri == "*" {
		return target{}, badRequest("The request target must be a path.")
	}
	// A space would end the target on the HTTP/1.1 request line; HTTP/2 can carry one.
	for i := range len(uri) {
		if uri[i] <= ' ' || uri[i] == 0x7f {
			return target{}, badRequest("The request target has a space or a control character in it.")
		}
	}
	if strings.Contains(uri, "#") || !utf8.ValidString(uri) {
		return target{}, badRequest("The request target has characters in it that do not belong there.")
	}
	if !strings.HasPrefix(uri, "/") {
		var err error
		if uri, err = withoutAuthority(uri, r); err != nil {
			return target{}, err
		}
	}
	t := target{}
	t.raw, t.query, t.hasQuery = strings.Cut(uri, "?")
	var err error
	if t.path, err = readPath(t.raw); err != nil {
		return target{}, err
	}
	if t.path != r.URL.Path && (t.path != "/" || r.URL.Path != "") {
		return target{}, badRequest("The path cannot be read in one way only.")
	}
	return t, nil
}

// withoutAuthority turns a request target in absolute form (RFC 9112, section 3.2.2) into one in origin form. HTTP/2 has
// no such form (RFC 9113, section 8.3.1).
func withoutAuthority(uri string, r *http.Request) (string, error) {
	u := r.URL
	_, rest, ok := strings.Cut(uri, "://")
	if !ok || r.ProtoMajor != 1 || u.Host != r.Host || u.Scheme != "https" || u.Host == "" || u.Opaque != "" || u.User != nil {
		return "", badRequest("An absolute request target must be https:// and a host, without a user.")
	}
	i := strings.IndexAny(rest, "/?")
	switch {
	case i < 0:
		return "/", nil
	case rest[i] == '?':
		return "/" + rest[i:], nil
	}
	return rest[i:], nil
}

// readPath unescapes a path, and refuses it unless it has one reading only.
func readPath(raw string) (string, error) {
	path, err := unescape(raw, true)
	if err != nil {
		return "", err
	}
	if err := checkSegments(path); err != nil {
		return "", err
	}
	// Some services unescape more than once, and to them "%252e" is a dot.
	again := path
	for range maxUnescapes {
		if !strings.Contains(again, "%") {
			return path, nil
		}
		next, err := unescape(again, false)
		if err != nil {
			break
		}
		if next == again {
			return path, nil // what percent signs are left stand for themselves
		}
		again = next
	}
	return "", badRequest("The path is escaped twice.")
}

// checkSegments refuses what some program along the way would clean up, and another would not: then the path that was
// matched is not the one that is served. A semicolon begins parameters that servlet containers cut off.
func checkSegments(path string) error {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return badRequest("The path must begin with a slash.")
	}
	if strings.ContainsAny(path, `\;`) {
		return badRequest("The path has a backslash or a semicolon in it.")
	}
	for segment := range strings.SplitSeq(rest, "/") {
		switch segment {
		case ".", "..":
			return badRequest("The path has a dot segment in it.")
		}
	}
	if strings.Contains(path, "//") {
		return badRequest("The path has an empty segment in it.")
	}
	return nil
}

// unescape replaces escapes by what they stand for (RFC 3986, section 2.1), and refuses those of characters that make
// up the structure of a path: whether "%2F" separates segments is a matter of opinion. A percent sign that begins no
// escape is an error if strict, and else stays.
func unescape(s string, strict bool) (string, error) {
	if !strings.Contains(s, "%") {
		return s, overlong(s)
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			high, low := -1, -1
			if i+2 < len(s) {
				high, low = hexDigit(s[i+1]), hexDigit(s[i+2])
			}
			switch {
			case high >= 0 && low >= 0:
				c = byte(high<<4 | low) //nolint:gosec // two digits make a byte
				if c < 0x20 || c == 0x7f || strings.IndexByte(`./\;`, c) >= 0 {
					return "", badRequest("The path has an escape in it that is read in different ways: " + s[i:i+3] + ".")
				}
				i += 2
			case strict:
				return "", badRequest("The path has a percent sign in it that begins no escape.")
			}
		}
		out = append(out, c)
	}
	return string(out), overlong(string(out))
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// overlong refuses UTF-8 sequences that are longer than needed (RFC 3629, section 3): lenient decoders take the bytes
// C0 AF for a slash. Other bytes that are no UTF-8 pass, since names in older encodings are in use.
func overlong(s string) error {
	for i := 0; i+1 < len(s); i++ {
		next := s[i+1]
		switch c := s[i]; {
		case (c == 0xc0 || c == 0xc1) && next >= 0x80 && next <= 0xbf,
			c == 0xe0 && next >= 0x80 && next <= 0x9f,
			c == 0xf0 && next >= 0x80 && next <= 0x8f:
			return badRequest("The path has an overlong character in it.")
		}
	}
	return nil
}
