package termination

import "time"

// ProofKind is a way in which a client can prove who it is.
type ProofKind string

// The kinds of proof.
const (
	ProofCertificate ProofKind = "certificate" // the client certificate, by the client policy
	ProofBearer      ProofKind = "bearer"      // a token in the Authorization header (RFC 6750)
	ProofBasic       ProofKind = "basic"       // a user name and password (RFC 7617)
)

// Also says what an https endpoint or a route demands of a request besides its client policy. With ProofCertificate
// among AnyOf, another of the list may stand in for a certificate: TLS then lets everybody in, and HTTP decides.
type Also struct {
	AllOf []ProofKind
	AnyOf []ProofKind // at least one of them
	Strip bool        // take the Authorization header away before the request goes upstream
}

// Empty reports whether nothing is demanded.
func (a Also) Empty() bool { return len(a.AllOf) == 0 && len(a.AnyOf) == 0 }

// Credential is a bearer token or a user name with password that a request can prove itself by. Only a hash of the secret
// is kept.
type Credential struct {
	ID        string
	Name      string
	Origin    Origin
	Kind      ProofKind // ProofBearer or ProofBasic
	User      string    // of ProofBasic
	Hash      string    // "sha256:" and hex for tokens, bcrypt for passwords
	Endpoints []string  // names of endpoints where it counts; empty: everywhere
	Pin       *Pin      // counts only together with this client certificate
	Identity  string    // or with a certificate of this identity
	Expires   time.Time // zero: never
	Blocked   bool
}
