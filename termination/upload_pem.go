package termination

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"
)

// pemBlock is one block of PEM as it stands in the text; its body is not decoded yet, so that a private key can be
// recognised by its label and left alone.
type pemBlock struct {
	label    string
	line     int // of the BEGIN line, from 1
	start    int // offset of the BEGIN line
	end      int // offset after the END line
	body     []byte
	bodyLine int    // line on which the body begins
	endLabel string // label of the END line; empty: there is none
}

// pemMarker is a BEGIN or END line.
type pemMarker struct {
	begin      bool
	label      string
	start, end int // offsets of the whole marker, dashes included
}

const maxPEMLabel = 64

// scanPEM finds the blocks in one pass. It is more tolerant than encoding/pem: markers may stand anywhere in a line,
// with two or more dashes, and the END line may be missing. It gives up at limit blocks, and says so.
func scanPEM(data []byte, limit int) (blocks []pemBlock, whole bool) {
	line, counted := 1, 0
	lineAt := func(offset int) int {
		line += bytes.Count(data[counted:offset], []byte{'\n'})
		counted = offset
		return line
	}
	var open *pemBlock
	var bodyStart int
	closeAt := func(offset int) {
		if open == nil {
			return
		}
		open.body = data[bodyStart:offset]
		open.end = max(open.end, offset)
		blocks = append(blocks, *open)
		open = nil
	}
	for from := 0; ; {
		m, ok := nextMarker(data, from)
		if !ok {
			break
		}
		from = m.end
		switch {
		case m.begin:
			closeAt(m.start)
			if len(blocks) == limit {
				return blocks, false
			}
			at := lineAt(m.start)
			open = &pemBlock{label: m.label, line: at, start: m.start, bodyLine: lineAt(m.end)}
			bodyStart = m.end
		case open != nil:
			open.endLabel = m.label
			open.end = m.end
			closeAt(m.start)
		}
	}
	closeAt(len(data))
	return blocks, true
}

// nextMarker finds the next BEGIN or END line at or after from.
func nextMarker(data []byte, from int) (pemMarker, bool) {
	for from < len(data) {
		i := bytes.IndexByte(data[from:], '-')
		if i < 0 {
			return pemMarker{}, false
		}
		start := from + i
		at := start + run(data[start:], '-')
		from = at
		if at-start < 2 {
			continue
		}
		at += run(data[at:], ' ')
		rest := data[at:]
		var m pemMarker
		switch {
		case bytes.HasPrefix(rest, []byte("BEGIN ")):
			m.begin = true
			at += len("BEGIN ")
		case bytes.HasPrefix(rest, []byte("END ")):
			at += len("END ")
		default:
			continue
		}
		n := 0
		for n <= maxPEMLabel && at+n < len(data) && isPEMLabel(data[at+n]) {
			n++
		}
		dashes := run(data[at+n:], '-')
		m.label = strings.TrimSpace(string(data[at : at+n]))
		if n > maxPEMLabel || m.label == "" || dashes < 2 {
			continue
		}
		if !m.begin {
			dashes = min(dashes, 5) // without line breaks, the next block's dashes follow at once
		}
		m.start, m.end = start, at+n+dashes
		return m, true
	}
	return pemMarker{}, false
}

// run counts how often b begins with c.
func run(b []byte, c byte) int {
	n := 0
	for n < len(b) && b[n] == c {
		n++
	}
	return n
}

func isPEMLabel(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(" #_/.", c) >= 0
}

// decode returns the bytes of the block. Its errors say on which line what is wrong.
func (b pemBlock) decode() ([]byte, error) {
	body, line := skipPEMHeaders(b.body, b.bodyLine)
	return decodeBase64(body, line)
}

// encrypted reports whether RFC 1421 headers say that the content is encrypted, as OpenSSL's old key files do.
func (b pemBlock) encrypted() bool {
	return bytes.Contains(b.body, []byte("Proc-Type:")) && bytes.Contains(b.body, []byte("ENCRYPTED"))
}

// skipPEMHeaders leaves out lines such as "Proc-Type: 4,ENCRYPTED" at the beginning of a block (RFC 1421, section 4.6).
func skipPEMHeaders(body []byte, line int) ([]byte, int) {
	if bytes.IndexByte(body, ':') < 0 {
		return body, line
	}
	rest := body
	inHeaders := false
	for {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			return rest, line
		}
		text := rest[:i]
		blank := len(bytes.TrimSpace(text)) == 0
		switch {
		case bytes.IndexByte(text, ':') >= 0:
			inHeaders = true
		case blank && inHeaders:
			return rest[i+1:], line + 1
		case !blank && !(inHeaders && (text[0] == ' ' || text[0] == '\t')):
			return rest, line
		}
		rest = rest[i+1:]
		line++
	}
}

// decodeBase64 reads base64 and passes over what copying and pasting puts into it: white space of all kinds, the ">"
// of a quoted mail, quotation marks, and the \n of JSON and YAML strings.
func decodeBase64(body []byte, line int) ([]byte, error) {
	digits := make([]byte, 0, len(body))
	padding := 0
	for i := 0; i < len(body); {
		c := body[i]
		size := 1
		switch {
		case c == '\n':
			line++
		case c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v' || c == '>' || c == '"' || c == '\'':
		case c == '\\' && i+1 < len(body) && strings.IndexByte("nrt\n", body[i+1]) >= 0:
			if body[i+1] == '\n' {
				line++
			}
			size = 2
		case c == '=':
			padding++
		case c >= 0x80 && hiddenSpace(body[i:]) > 0:
			size = hiddenSpace(body[i:])
		case c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/':
			if padding > 0 {
				clear(digits)
				return nil, fmt.Errorf("line %d: the base64 goes on after its end", line)
			}
			digits = append(digits, c)
		default:
			clear(digits)
			r, _ := utf8.DecodeRune(body[i:])
			return nil, fmt.Errorf("line %d: expected base64, found the character %s", line, runeInWords(r))
		}
		i += size
	}
	defer clear(digits)
	if len(digits) == 0 {
		return nil, fmt.Errorf("line %d: expected base64, found nothing", line)
	}
	out := make([]byte, base64.RawStdEncoding.DecodedLen(len(digits)))
	n, err := base64.RawStdEncoding.Decode(out, digits)
	if err != nil {
		clear(out)
		return nil, fmt.Errorf("line %d: the base64 has %d characters, which is no possible length: some are missing", line, len(digits))
	}
	return out[:n], nil
}

// hiddenSpace returns the length of a no-break space, zero-width space or byte-order mark at the beginning of b.
func hiddenSpace(b []byte) int {
	for _, s := range []string{"\u00a0", "\u200b", "\ufeff", "\u2028"} {
		if bytes.HasPrefix(b, []byte(s)) {
			return len(s)
		}
	}
	return 0
}

func runeInWords(r rune) string {
	if r > 0x20 && r < 0x7f {
		return fmt.Sprintf("%q", string(r))
	}
	if r == utf8.RuneError {
		return "of a binary file"
	}
	return fmt.Sprintf("%U", r)
}
