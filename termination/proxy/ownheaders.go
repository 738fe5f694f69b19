package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"countersign/termination"
	"countersign/termination/expression"
)

// ownHeader is a header of the endpoint's own, with the expression that gives its value.
type ownHeader struct {
	name    string
	program *expression.Program
}

// compileHeaders compiles the expressions of an endpoint's own headers. The error is a termination.ValidationError where
// one of them is to blame.
func compileHeaders(e *termination.Endpoint, limits termination.Limits) ([]ownHeader, error) {
	var out []ownHeader
	var wrong termination.ValidationError
	for _, h := range e.ForwardHeaders {
		program, err := expression.Compile(h.Value, expression.Text, limits.ExpressionCost)
		var bad *expression.Error
		switch {
		case errors.As(err, &bad):
			at := "its expression"
			if bad.Line > 0 {
				at = fmt.Sprintf("line %d, column %d of its expression", bad.Line, bad.Column)
			}
			wrong = append(wrong, termination.FieldError{
				Kind: "endpoint", Name: e.Name, Field: "forward_identity." + h.Name,
				Problem: fmt.Sprintf("%s: %s: %s", h.Name, at, bad.Problem), Advice: bad.Advice,
			})
		case err != nil:
			return nil, fmt.Errorf("compile the header %s: %w", h.Name, err)
		default:
			out = append(out, ownHeader{h.Name, program})
		}
	}
	if wrong != nil {
		return nil, wrong
	}
	return out, nil
}

// lasting reports whether the value is the same for every request of a connection.
func (h *ownHeader) lasting() bool { return !h.program.NeedsRequest() && !h.program.NeedsTime() }

// tellOwn tells those headers of the endpoint's own that are such. One without a value is not told.
func (x *exchange) tellOwn(t *told, such func(*ownHeader) bool) {
	for i := range x.site.headers {
		own := &x.site.headers[i]
		if !such(own) {
			continue
		}
		switch value, err := x.evaluate(own); {
		case err != nil:
			t.leave(own.name)
			t.why = append(t.why, fmt.Sprintf("%s: %v", own.name, err))
		case value != "":
			t.add(plain(own.name, value))
		}
	}
}

// evaluate gives the value of a header; an empty one is not told. An expression that looks at the client's certificate has
// no value for a client of whom no identity may be asserted.
func (x *exchange) evaluate(own *ownHeader) (string, error) {
	if own.program.NeedsClient() && !x.asserted() {
		return "", nil
	}
	ctx := context.Background()
	if x.incoming != nil {
		ctx = x.incoming.Context()
	}
	values, err := own.program.Texts(ctx, x.input())
	if err != nil {
		return "", err
	}
	return headerText(values)
}

// input is what expressions may know of the request and its client.
func (x *exchange) input() expression.Input {
	rec := x.conn.Handshake
	in := expression.Input{Peer: rec.Peer.Addr(), Now: x.proxy.options.Now()}
	if rec.Hello != nil {
		in.ServerName = rec.Hello.ServerName
	}
	if rec.Chosen != nil {
		in.Version = rec.Chosen.Version
	}
	if x.asserted() {
		in.Leaf, in.Authority = rec.Presented[0], x.client.Authority
		if x.client.Identity != nil {
			in.Identity = x.client.Identity.Name
		}
	}
	if x.incoming != nil {
		in.Request = &expression.Request{Method: x.incoming.Method, Path: x.target.path, Host: x.incoming.Host}
	}
	return in
}

// headerText is the value of a header made of texts: one line that every service reads alike, of several separated by
// commas. The names in a certificate are its holder's, so nothing is repaired: what is not such a line is an error.
func headerText(values []string) (string, error) {
	for _, v := range values {
		switch {
		case !utf8.ValidString(v):
			return "", errors.New("its value is not valid UTF-8")
		case strings.IndexFunc(v, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0:
			return "", errors.New("its value is not one line of visible text")
		case strings.TrimSpace(v) != v:
			return "", errors.New("its value begins or ends with a space, which would be lost")
		case len(values) > 1 && (v == "" || strings.Contains(v, ",")):
			return "", errors.New("a text in its list is empty, or holds a comma, and could be taken for others")
		}
	}
	return strings.Join(values, ", "), nil
}
