package expression_test

import (
	"errors"
	"testing"
	"unicode/utf8"

	"countersign/termination/expression"
)

// Whatever is written, compiling and evaluating it ends, without panic, and says what is wrong.
func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		`client.san.dns_names.exists(n, n.endsWith(".devices.example.com"))`,
		`inCidrRange(conn.client_ip, "10.0.0.0/8") && req.path.startsWith("/v1/")`,
		`now.getHours("+01:00") > 8 ? "a" : client.issuer`,
		`client.extensions.filter(e, e.critical).map(e, e.id)`,
		`"%s %d".format([client.pem, 7])`,
		`client.pem.matches("(a|b)*") || 1/0 == 2`,
		"\"\xff\"", `{"a": [1, 2u, 3.0]}["a"][1]`, `google.protobuf.Timestamp{seconds: 1}`, `client.san.uris[0].split("/").join("\n")`,
		`req.path.replace("a", "bbbb").replace("b", "cccc").size() > 1`,
	} {
		f.Add(seed)
	}
	in := clientInput()
	f.Fuzz(func(t *testing.T, text string) {
		for _, kind := range []expression.Kind{expression.Condition, expression.Text} {
			p, err := expression.Compile(text, kind, 10_000)
			if err != nil {
				var typed *expression.Error
				if !errors.As(err, &typed) || typed.Problem == "" {
					t.Fatalf("not typed: %v", err)
				}
				if utf8.ValidString(text) && !utf8.ValidString(err.Error()) {
					t.Fatalf("the error is not text: %q", err)
				}
				continue
			}
			p.Values(in)
			if kind == expression.Condition {
				_, err = p.Test(t.Context(), in)
			} else {
				_, err = p.Texts(t.Context(), in)
			}
			var typed *expression.EvalError
			if err != nil && !errors.As(err, &typed) {
				t.Fatalf("not typed: %v", err)
			}
		}
	})
}
