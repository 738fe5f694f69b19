package termination

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Bounds of the work that a password's hash makes: less is guessed too fast by who steals the store, more would let a few
// requests keep a core busy.
const (
	MinPasswordCost     = 8
	MaxPasswordCost     = 14
	DefaultPasswordCost = 10
)

// MaxCredentials bounds the credentials of a configuration.
const MaxCredentials = 20_000

// tokenHashPrefix begins the hash of a token.
const tokenHashPrefix = "sha256:"

// bcryptLength is that of a bcrypt hash: version, cost, and 53 characters of salt and hash.
const bcryptLength = 60

// PolicyFor returns the client policy that holds under a route, or beside all routes for nil. Where another proof may
// stand in for a certificate the policy is soft: TLS cannot know the other proof, so it lets everybody in, and HTTP decides.
func (e *Endpoint) PolicyFor(r *Route) ClientAuth {
	a := e.ClientAuth
	if r != nil && r.ClientAuth != nil {
		a = *r.ClientAuth
	}
	if also := e.AlsoFor(r); also.StandsIn() && a.Mode.Asks() {
		a.Soft = true
	}
	return a
}

// AlsoFor returns what a request under a route must prove besides, or beside all routes for nil.
func (e *Endpoint) AlsoFor(r *Route) Also {
	if r != nil && r.Also != nil {
		return *r.Also
	}
	return e.Also
}

// StandsIn reports whether another proof may stand in for a certificate.
func (a Also) StandsIn() bool {
	return slices.Contains(a.AnyOf, ProofCertificate) && !slices.Contains(a.AllOf, ProofCertificate)
}

// Names reports whether a kind of proof is among those that are demanded.
func (a Also) Names(k ProofKind) bool {
	return slices.Contains(a.AllOf, k) || slices.Contains(a.AnyOf, k)
}

// CountsAt reports whether the credential may be used at an endpoint.
func (c *Credential) CountsAt(endpoint string) bool {
	return len(c.Endpoints) == 0 || slices.Contains(c.Endpoints, endpoint)
}

// Bound reports whether the credential counts only together with a certificate.
func (c *Credential) Bound() bool { return c.Pin != nil || c.Identity != "" }

// CheckUser refuses user names that cannot stand in a Basic credential (RFC 7617, section 2).
func CheckUser(user string) error {
	switch {
	case user == "" || len(user) > 128:
		return fmt.Errorf("a user name has 1 to 128 bytes")
	case strings.Contains(user, ":"):
		return fmt.Errorf("a user name holds no colon: it ends there (RFC 7617, section 2)")
	case !strings.ContainsFunc(user, isControl) && strings.ToValidUTF8(user, "") == user:
		return nil
	}
	return fmt.Errorf("a user name holds no control characters")
}

func isControl(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }

// CheckHash refuses what is no hash of a secret of that kind.
func CheckHash(kind ProofKind, hash string) error {
	if kind == ProofBearer {
		digits, ok := strings.CutPrefix(hash, tokenHashPrefix)
		if sum, err := hex.DecodeString(digits); !ok || err != nil || len(sum) != len(Fingerprint{}) || strings.ToLower(digits) != digits {
			return fmt.Errorf(`the hash of a token is "sha256:" and 64 lower-case hex digits`)
		}
		return nil
	}
	// $2y$10$ and 53 characters. The letter tells implementations apart that were once wrong; all are read alike.
	bad := fmt.Errorf("the hash of a password is one of bcrypt, $2y$ or $2b$, with a cost of %d to %d", MinPasswordCost, MaxPasswordCost)
	if len(hash) != bcryptLength || hash[0] != '$' || hash[1] != '2' || !strings.ContainsRune("aby", rune(hash[2])) || hash[3] != '$' || hash[6] != '$' {
		return bad
	}
	if cost, err := strconv.ParseUint(hash[4:6], 10, 8); err != nil || cost < MinPasswordCost || cost > MaxPasswordCost {
		return bad
	}
	for _, c := range hash[7:] {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && c != '.' && c != '/' {
			return bad
		}
	}
	return nil
}

func (v *validation) credentials() {
	if n := len(v.config.Credentials); n > MaxCredentials {
		v.add("credential", "", "", fmt.Sprintf("there are %d credentials, and %d are kept at most", n, MaxCredentials), "delete some")
		return
	}
	names, users, tokens := map[string]bool{}, map[string]string{}, map[string]string{}
	endpoints := map[string]bool{}
	for i := range v.config.Endpoints {
		endpoints[v.config.Endpoints[i].Name] = true
	}
	for i := range v.config.Credentials {
		c := &v.config.Credentials[i]
		v.name("credential", c.Name, names)
		v.secret(c, users, tokens)
		for _, e := range c.Endpoints {
			if e != EndpointElsewhere && !endpoints[e] {
				v.add("credential", c.Name, "endpoints", fmt.Sprintf("there is no endpoint %q", e), "name one that exists, or leave endpoints out: it then counts everywhere")
			}
		}
		if c.Pin != nil && c.Identity != "" {
			v.add("credential", c.Name, "identity", "it is bound to a certificate already", "keep either pin or identity")
		}
		if c.Identity != "" && v.config.Identity(c.Identity) == nil {
			v.add("credential", c.Name, "identity", fmt.Sprintf("there is no identity %q", c.Identity), "declare it under identities, or bind the credential to a pin")
		}
	}
}

// secret checks the hash. Two credentials with one token, or with one user name, could not be told apart.
func (v *validation) secret(c *Credential, users, tokens map[string]string) {
	field := "bearer_hash"
	switch c.Kind {
	case ProofBearer:
		if c.User != "" {
			v.add("credential", c.Name, "user", "a token has no user name", "remove it, or give a password_hash instead of the bearer_hash")
		}
		if other, taken := tokens[c.Hash]; taken {
			v.add("credential", c.Name, field, fmt.Sprintf("it is the same token as that of %q", other), "give each client a token of its own, so that one can be blocked")
		}
		tokens[c.Hash] = c.Name
	case ProofBasic:
		field = "password_hash"
		if err := CheckUser(c.User); err != nil {
			v.add("credential", c.Name, "user", err.Error(), "choose another user name")
		}
		if other, taken := users[c.User]; taken {
			v.add("credential", c.Name, "user", fmt.Sprintf("%q has the user name %q already", other, c.User), "choose another user name")
		}
		users[c.User] = c.Name
	default:
		v.add("credential", c.Name, "kind", fmt.Sprintf("%q is unknown", c.Kind), "use bearer or basic")
		return
	}
	if err := CheckHash(c.Kind, c.Hash); err != nil {
		v.add("credential", c.Name, field, err.Error(), "hash a token by `printf %s TOKEN | sha256sum`, a password by `htpasswd -nBC 10 USER`")
	}
}

// also checks what an endpoint and its routes demand of requests besides the certificate.
func (v *validation) also(e *Endpoint) {
	if e.VerboseRefusals && e.Scheme != SchemeHTTPS {
		v.add("endpoint", e.Name, "verbose_refusals", "refusals are told in HTTP", "remove it, or use an https:// url")
	}
	v.alsoAt(e, "also", e.Also, nil)
	v.softAt(e, "client_auth", e.ClientAuth)
	for i := range e.Routes {
		r := &e.Routes[i]
		if r.Also != nil || r.ClientAuth != nil {
			field := "routes.also"
			if r.Also == nil {
				field = "routes.client_auth"
			}
			v.alsoAt(e, field, e.AlsoFor(r), r)
		}
		if r.ClientAuth != nil {
			v.softAt(e, "routes.client_auth", *r.ClientAuth)
		}
	}
}

func (v *validation) softAt(e *Endpoint, field string, a ClientAuth) {
	if !a.Soft {
		return
	}
	switch {
	case e.Scheme != SchemeHTTPS:
		v.add("endpoint", e.Name, field+".soft", "a refusal in HTTP needs HTTP", "remove it, or use an https:// url")
	case a.Mode == ModeOff || a.Mode == ModeRequest:
		v.add("endpoint", e.Name, field+".soft", fmt.Sprintf("mode %s refuses nobody, so that there is nothing to refuse softly", a.Mode), "remove soft, or choose optional, require or require_any")
	case a.ReportOnly:
		v.add("endpoint", e.Name, field+".soft", "report_only lets everyone in, so that there is nothing to refuse softly", "remove one of the two")
	}
}

func (v *validation) alsoAt(e *Endpoint, field string, a Also, r *Route) {
	if a.Empty() {
		if a.Strip {
			v.add("endpoint", e.Name, field+".strip", "nothing is demanded, so that nothing is to be taken away", "add all_of or any_of")
		}
		return
	}
	if e.Scheme != SchemeHTTPS {
		v.add("endpoint", e.Name, field, "tokens and passwords come in HTTP headers", "remove it, or use an https:// url")
		return
	}
	for _, list := range [...]struct {
		key   string
		kinds []ProofKind
	}{{"all_of", a.AllOf}, {"any_of", a.AnyOf}} {
		for i, k := range list.kinds {
			if k != ProofCertificate && k != ProofBearer && k != ProofBasic {
				v.add("endpoint", e.Name, field+"."+list.key, fmt.Sprintf("%q is unknown", k), "use certificate, bearer or basic")
			}
			if slices.Contains(list.kinds[:i], k) {
				v.add("endpoint", e.Name, field+"."+list.key, fmt.Sprintf("%s stands there twice", k), "remove one")
			}
		}
	}
	if slices.Contains(a.AllOf, ProofBearer) && slices.Contains(a.AllOf, ProofBasic) {
		v.add("endpoint", e.Name, field+".all_of", "a request has one Authorization header, which cannot hold both a token and a password", "move them to any_of")
	}
	if len(a.AnyOf) == 1 && a.AnyOf[0] == ProofCertificate {
		v.add("endpoint", e.Name, field+".any_of", "certificate stands there alone, so that nothing else can stand in for it", "add bearer or basic, or use all_of")
	}
	v.provable(e, field, a, r)
}

// provable refuses demands that nobody could meet.
func (v *validation) provable(e *Endpoint, field string, a Also, r *Route) {
	policy := e.PolicyFor(r)
	effective := v.config.Effective(policy)
	registered := slices.ContainsFunc(v.config.Identities, func(i Identity) bool { return i.Knows(e.Name) && len(i.Pins) > 0 })
	certificates := policy.Mode.Asks() && (len(effective.Authorities) > 0 || len(effective.Pins) > 0 || registered)
	if a.Names(ProofCertificate) && !certificates {
		advice := "choose an authority under client_auth, or take certificate out"
		v.add("endpoint", e.Name, field, "a certificate is demanded, and client_auth verifies none", advice)
		return
	}
	possible := func(k ProofKind) bool {
		return k == ProofCertificate || slices.ContainsFunc(v.config.Credentials, func(c Credential) bool {
			return c.Kind == k && c.CountsAt(e.Name) && (!c.Bound() || policy.Mode.Asks())
		})
	}
	advice := "make one that counts here under credentials, not bound to a certificate where client_auth asks for none"
	for _, k := range a.AllOf {
		if (k == ProofBearer || k == ProofBasic) && !possible(k) {
			v.add("endpoint", e.Name, field+".all_of", fmt.Sprintf("%s is demanded, and no credential could meet that", k), advice)
		}
	}
	if len(a.AnyOf) > 0 && !slices.ContainsFunc(a.AnyOf, possible) {
		v.add("endpoint", e.Name, field+".any_of", "no credential could meet any of them", advice)
	}
}
