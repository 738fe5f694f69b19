package declared

import (
	"fmt"
	"time"

	"github.com/goccy/go-yaml/ast"

	"countersign/store"
	"countersign/termination"
)

func (r *reader) credentials(n ast.Node, d *store.Declared) {
	r.list(n, "credentials", func(_ int, e ast.Node) {
		if c, ok := r.credential(e); ok {
			d.Credentials = append(d.Credentials, c)
		}
	})
}

// credential reads a bearer token, or a user with a password. Only hashes may stand in a file: it is copied, mailed and kept
// in version control.
func (r *reader) credential(n ast.Node) (termination.Credential, bool) {
	before := r.failed
	c := termination.Credential{Origin: termination.OriginFile}
	at := nodes{}
	note := func(key string, read func(ast.Node)) field {
		return func(n ast.Node) {
			at[key] = n
			read(n)
		}
	}
	hash := func(key string, kind termination.ProofKind) field {
		return note(key, func(n ast.Node) {
			if c.Kind != "" && c.Kind != kind {
				r.fail(n, "a credential is either a token or a user with a password", "keep one of bearer_hash and password_hash")
				return
			}
			c.Kind = kind
			if !r.text(n, &c.Hash) {
				return
			}
			if err := termination.CheckHash(kind, c.Hash); err != nil {
				c.Hash = "" // it may be the secret itself
				r.fail(n, err.Error(), hashAdvice(kind))
			}
		})
	}
	plain := func(kind termination.ProofKind) field {
		return func(n ast.Node) {
			r.fail(n, "a secret must not stand in the file", hashAdvice(kind)+". Take it for known if others could read this file")
		}
	}
	meant := r.mapping(n, "the credential", map[string]field{
		"name":          note("name", func(n ast.Node) { r.text(n, &c.Name) }),
		"bearer_hash":   hash("bearer_hash", termination.ProofBearer),
		"password_hash": hash("password_hash", termination.ProofBasic),
		"user":          note("user", func(n ast.Node) { r.text(n, &c.User) }),
		"endpoints":     note("endpoints", func(n ast.Node) { r.texts(n, "endpoints", &c.Endpoints) }),
		"pin":           note("pin", func(n ast.Node) { r.onePin(n, &c.Pin) }),
		"identity":      note("identity", func(n ast.Node) { r.text(n, &c.Identity) }),
		"expires":       note("expires", func(n ast.Node) { r.moment(n, &c.Expires) }),
		"blocked":       note("blocked", func(n ast.Node) { r.boolean(n, &c.Blocked) }),
		"token":         plain(termination.ProofBearer),
		"password":      plain(termination.ProofBasic),
	}, nil)
	if meant == nil {
		return c, false
	}
	r.named(store.KindCredential, n, at, c.Name, meant)
	switch {
	case r.failed > before:
	case c.Kind == "":
		r.fail(n, "there is neither a token nor a password", "give bearer_hash, or user and password_hash")
	case c.Kind == termination.ProofBasic && !meant["user"]:
		r.fail(n, "a password needs a user", "add user")
	}
	return c, r.failed == before
}

// hashAdvice is how to make a hash.
func hashAdvice(kind termination.ProofKind) string {
	if kind == termination.ProofBearer {
		return "write bearer_hash: \"sha256:…\" with what `printf %s TOKEN | sha256sum` prints"
	}
	return "write password_hash: with what `htpasswd -nBC 10 USER` prints behind the colon"
}

func (r *reader) onePin(n ast.Node, into **termination.Pin) {
	var s string
	if !r.text(n, &s) {
		return
	}
	pin, err := termination.ParsePin(s)
	if err != nil {
		r.fail(n, err.Error(), `write the SHA-256 of the certificate, or "spki:" and that of the key, in hex`)
		return
	}
	*into = &pin
}

// moment reads a date, which stands for its beginning in UTC, or a date and time with a zone.
func (r *reader) moment(n ast.Node, into *time.Time) {
	var s string
	if !r.text(n, &s) {
		return
	}
	for _, form := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(form, s); err == nil {
			*into = t.UTC()
			return
		}
	}
	r.fail(n, fmt.Sprintf("%q is no date", s), "write it as in 2027-01-31, or 2027-01-31T12:00:00Z")
}
