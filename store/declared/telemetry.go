package declared

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Telemetry is the section of that name: where handshakes and the log are told. It takes effect at the next start.
type Telemetry struct {
	Endpoint string // of an OpenTelemetry collector; empty: not said
	Headers  map[string]string
	Roots    *x509.CertPool // nil: the system's
	Share    float64        // of the handshakes that were let in
	Lines    bool           // the log too
}

// Log is the section of that name. It takes effect at the next start.
type Log struct {
	Level      string // debug, info, warn or error; empty: not said
	Format     string // text or json; empty: not said
	Handshakes string // off, failed or all; empty: not said
}

// maxHeaders bounds the headers of telemetry.
const maxHeaders = 32

func (r *reader) telemetry(n ast.Node, t *Telemetry) {
	t.Share, t.Lines = 1, true
	r.mapping(n, "telemetry", map[string]field{
		"otlp": func(n ast.Node) {
			meant := r.mapping(n, "otlp", map[string]field{
				"endpoint": func(n ast.Node) { r.httpURL(n, "http://127.0.0.1:4318", &t.Endpoint) },
				"headers":  func(n ast.Node) { r.headers(n, t) },
				"ca_file":  func(n ast.Node) { t.Roots = r.rootPool(n) },
				"sample":   func(n ast.Node) { r.share(n, &t.Share) },
				"logs":     func(n ast.Node) { r.boolean(n, &t.Lines) },
			}, nil)
			if meant != nil && !meant["endpoint"] {
				r.fail(n, "otlp has no endpoint", "give the collector's address, as in http://127.0.0.1:4318")
			}
		},
	}, nil)
}

// httpURL reads an address of ours to ask, without a name or a password in it: those belong into headers.
func (r *reader) httpURL(n ast.Node, example string, into *string) {
	var s string
	if !r.text(n, &s) {
		return
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.RawQuery != "" {
		// What was written is not shown: it may hold a password.
		r.fail(n, "that is no address of a collector, which is http or https, a host and perhaps a path, without user, query or fragment", "write it as in "+example+"; secrets belong under headers")
		return
	}
	*into = s
}

func (r *reader) headers(n ast.Node, t *Telemetry) {
	pairs, ok := pairsOf(r.resolve(n))
	if !ok || len(pairs) > maxHeaders {
		r.fail(n, fmt.Sprintf("headers must be a mapping of at most %d names to values", maxHeaders), `write it as in {api-key: "${OTLP_KEY}"}`)
		return
	}
	t.Headers = map[string]string{}
	for _, pair := range pairs {
		var value string
		key, plain := pair.Key.(*ast.StringNode)
		switch {
		case !plain || !isToken(key.Value):
			r.fail(pair.Key, "that is no name of a header", "use letters, digits and hyphens")
		case !r.text(pair.Value, &value):
		case strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c == 0x7f }):
			r.fail(pair.Value, "the value of a header has a control character in it", "remove it; a line feed at the end of a secret is the usual one")
		default:
			t.Headers[key.Value] = value
		}
	}
}

// isToken reports whether s may be the name of a header (RFC 9110, section 5.6.2), written with the characters that names have.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
	})
}

func (r *reader) rootPool(n ast.Node) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range r.roots(n) {
		pool.AddCert(c)
	}
	return pool
}

// share reads a number from 0 to 1.
func (r *reader) share(n ast.Node, into *float64) {
	var v float64
	switch x := r.resolve(n).(type) {
	case *ast.FloatNode:
		v = x.Value
	case *ast.IntegerNode:
		switch i := x.Value.(type) {
		case uint64:
			v = float64(i)
		case int64:
			v = float64(i)
		}
	default:
		v = -1
	}
	if !(v >= 0 && v <= 1) { // so written, NaN fails it
		r.fail(n, "sample must be a number from 0 to 1", "write the share of the handshakes that were let in, as in 0.1; failures are always told")
		return
	}
	*into = v
}

func (r *reader) log(n ast.Node, l *Log) {
	r.mapping(n, "log", map[string]field{
		"level":      func(n ast.Node) { r.word(n, "level", &l.Level, "debug", "info", "warn", "error") },
		"format":     func(n ast.Node) { r.word(n, "format", &l.Format, "text", "json") },
		"handshakes": func(n ast.Node) { r.word(n, "handshakes", &l.Handshakes, "off", "failed", "all") },
	}, nil)
}
