package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"countersign/termination"
	"countersign/termination/credential"
	"countersign/termination/verify"
)

// maxConnFailures is after how many tokens and passwords of no use a connection ends.
const maxConnFailures = 10

// replaceable reports whether another proof can stand in for a certificate that was refused for that reason: there is
// none, or nobody here vouches for it. What was refused because of who the client is stays refused: a token does not help
// against a block, a revocation or a rule.
func replaceable(r termination.Reason) bool {
	switch r {
	case termination.ReasonCertMissing, termination.ReasonCAUnknown, termination.ReasonCertSelf, termination.ReasonNotListed,
		termination.ReasonCertExpired, termination.ReasonCertEarly, termination.ReasonCAExpired, termination.ReasonCertUse,
		termination.ReasonCertWeak, termination.ReasonCertNameLimits, termination.ReasonChainTooDeep, termination.ReasonChainGap,
		termination.ReasonIssuerNotCA, termination.ReasonCertExtension, termination.ReasonCertMalformed:
		return true
	default:
		return false
	}
}

// byCertificate reports whether the certificate is proof enough. A policy that only reports demands none.
func byCertificate(j verify.Judgement) bool { return j.In && (j.Verified || j.ReportOnly) }

// wanted says which kinds of proof the Authorization header may hold to meet what is demanded; none when it is met. A
// header holds one proof, so that what all_of names is the only one that helps. ok is false where only a certificate would.
func wanted(a termination.Also, j verify.Judgement) (kinds []termination.ProofKind, ok bool) {
	certificate := byCertificate(j)
	if slices.Contains(a.AllOf, termination.ProofCertificate) && !certificate {
		return nil, false
	}
	header := func(list []termination.ProofKind) (out []termination.ProofKind) {
		for _, k := range list {
			if k == termination.ProofBearer || k == termination.ProofBasic {
				out = append(out, k)
			}
		}
		return out
	}
	all, open := header(a.AllOf), len(a.AnyOf) > 0 && !(certificate && slices.Contains(a.AnyOf, termination.ProofCertificate))
	switch {
	case len(all) > 1:
		return nil, false // Validate has refused it
	case len(all) == 1 && open:
		return all, slices.Contains(a.AnyOf, all[0])
	case len(all) == 1:
		return all, true
	case open:
		any := header(a.AnyOf)
		return any, len(any) > 0
	}
	return nil, true
}

// prove demands what the endpoint or the route wants besides the client policy.
func (x *exchange) prove(r *http.Request) *refusal {
	also := x.route.Also
	if also.Empty() {
		return nil
	}
	kinds, ok := wanted(also, x.client)
	if !ok {
		j := x.client
		if j.Reason == "" {
			j.Reason = termination.ReasonCertMissing
		}
		return x.forbid(j, x.where())
	}
	if len(kinds) == 0 {
		return nil
	}
	presented, err := credential.Read(r.Header)
	if err != nil {
		return x.unproven(kinds, http.StatusBadRequest, err.Error(), "brought an Authorization header that cannot be read in one way only")
	}
	if !slices.Contains(kinds, presented.Kind) {
		return x.unproven(kinds, http.StatusUnauthorized, "", "brought none")
	}
	return x.check(r, kinds, presented)
}

// check checks a token, or a user name with a password.
func (x *exchange) check(r *http.Request, kinds []termination.ProofKind, presented credential.Presented) *refusal {
	from := x.conn.Handshake.Peer.Addr()
	found, err := x.proxy.checker.Check(r.Context(), x.state.table.credentials, presented, from)
	switch {
	case errors.Is(err, credential.ErrSlowed):
		no := x.unproven(kinds, http.StatusTooManyRequests, "Too many wrong credentials came from this address.", "came after too many wrong ones of its address")
		no.retryAfter, no.close = credential.FailureEvery, x.conn.failures.Load() >= maxConnFailures
		return no
	case errors.Is(err, credential.ErrWrong):
		return x.wrong(kinds, presented.Kind, "brought one that is not known")
	case err != nil: // too busy, or the client has left
		no := x.unproven(kinds, http.StatusServiceUnavailable, "Too many passwords are being checked.", "came while too many passwords were being checked")
		no.retryAfter = time.Second
		return no
	}
	if objection := credential.Usable(found, x.use()); objection != "" {
		return x.wrong(kinds, presented.Kind, fmt.Sprintf("brought that of %s, which does not count: %s", found.Name, objection))
	}
	x.proof = found
	x.proxy.checker.Used(found)
	return nil
}

// use is what a credential is held against.
func (x *exchange) use() credential.Use { return x.useFor(x.site, x.client) }

func (x *exchange) useFor(s *Site, j verify.Judgement) credential.Use {
	u := credential.Use{Endpoint: s.Endpoint.Name, Now: x.proxy.options.Now()}
	if presented := x.conn.Handshake.Presented; len(presented) > 0 {
		u.Leaf = presented[0] // the only one whose key was proven
	}
	if j.Verified && j.Identity != nil {
		u.Identity = j.Identity.Name
	}
	return u
}

// wrong refuses a credential of no use. The client is not told whether it was wrong, or does not count here.
func (x *exchange) wrong(kinds []termination.ProofKind, kind termination.ProofKind, why string) *refusal {
	x.proxy.checker.Failed(x.conn.Handshake.Peer.Addr())
	detail := "The token is not valid here."
	if kind == termination.ProofBasic {
		detail = "The user name or the password is wrong."
	}
	no := x.unproven(kinds, http.StatusUnauthorized, detail, why)
	no.close = x.conn.failures.Add(1) >= maxConnFailures
	return no
}

// unproven is the refusal of a request that did not bring what is demanded; how says so to the operator. Without a detail
// it brought nothing.
func (x *exchange) unproven(kinds []termination.ProofKind, status int, detail, how string) *refusal {
	x.conn.note(Note{
		Reason: termination.ReasonProofMissing,
		Detail: fmt.Sprintf("A request was refused by %s, which demands %s: it %s.", x.where(), proofWords(kinds), how),
	})
	no := &refusal{status: status, reason: termination.ReasonProofMissing, code: codeInvalid, detail: detail}
	if detail == "" {
		no.code, no.detail = codeMissing, "It takes "+proofWords(kinds)+" to come in here."
	}
	switch status {
	case http.StatusUnauthorized, http.StatusBadRequest: // RFC 6750, section 3
		for _, k := range kinds {
			no.challenges = append(no.challenges, challenge(k, x.realm(), no))
		}
	case http.StatusTooManyRequests:
		no.code = codeRateLimited
	default:
		no.code = ""
	}
	return no
}

// realm is what a password is remembered for (RFC 9110, section 11.5): the endpoint's host, which the client knows.
func (x *exchange) realm() string {
	if x.site.Endpoint.Host == "" {
		return "Countersign"
	}
	return x.site.Endpoint.Host
}

// challenge is one value of WWW-Authenticate. A realm is a host name or a word of ours, so it needs no escapes.
func challenge(k termination.ProofKind, realm string, no *refusal) string {
	if k == termination.ProofBasic {
		return `Basic realm="` + realm + `", charset="UTF-8"` // RFC 7617, section 2.1
	}
	c := `Bearer realm="` + realm + `"`
	switch {
	case no.status == http.StatusBadRequest:
		c += `, error="invalid_request"`
	case no.code == codeInvalid:
		c += `, error="invalid_token"`
	}
	return c
}

// proofWords names the kinds of which one is wanted.
func proofWords(kinds []termination.ProofKind) string {
	words := make([]string, len(kinds))
	for i, k := range kinds {
		words[i] = "a bearer token"
		if k == termination.ProofBasic {
			words[i] = "a user name and password"
		}
	}
	return strings.Join(words, " or ")
}

// CredentialUses returns when credentials were last used, by ID, since the last call.
func (p *Proxy) CredentialUses() map[string]time.Time { return p.checker.Uses() }
