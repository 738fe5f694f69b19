package credential

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"time"

	"countersign/termination"
)

// Set holds the credentials of one configuration, made ready to look up. It is immutable.
type Set struct {
	byToken map[string]*termination.Credential // by Hash
	byUser  map[string]*termination.Credential
	byID    map[string]*termination.Credential
	users   []*termination.Credential // those of byUser
}

// NewSet indexes the credentials of a configuration.
func NewSet(config *termination.Config) *Set {
	s := &Set{byToken: map[string]*termination.Credential{}, byUser: map[string]*termination.Credential{}, byID: map[string]*termination.Credential{}}
	for i := range config.Credentials {
		c := &config.Credentials[i]
		if termination.CheckHash(c.Kind, c.Hash) != nil {
			continue // Validate has refused it; it must not cost what a wrong hash could cost
		}
		s.byID[c.ID] = c
		if c.Kind == termination.ProofBearer {
			s.byToken[c.Hash] = c
			continue
		}
		s.byUser[c.User] = c
		s.users = append(s.users, c)
	}
	return s
}

// Same reports whether a credential that was accepted before is still there and has the same secret, and returns it as it
// is now.
func (s *Set) Same(before *termination.Credential) (*termination.Credential, bool) {
	now := s.byID[before.ID]
	return now, now != nil && now.Kind == before.Kind && now.Hash == before.Hash && now.User == before.User
}

// token finds a token by its hash. What an attacker could learn from the time that takes is about the hash.
func (s *Set) token(secret string) *termination.Credential {
	sum := sha256.Sum256([]byte(secret))
	hash := "sha256:" + hex.EncodeToString(sum[:])
	c := s.byToken[hash]
	if c == nil || subtle.ConstantTimeCompare([]byte(c.Hash), []byte(hash)) != 1 {
		return nil
	}
	return c
}

// password returns the credential of a user, and the hash to compare with. For a user that does not exist that is the hash
// of another, always the same one for the same name, so that the time tells nothing: costs are spread over the names that
// are not there as over those that are.
func (s *Set) password(user string, key []byte) (c *termination.Credential, hash string) {
	if c = s.byUser[user]; c != nil {
		return c, c.Hash
	}
	if len(s.users) == 0 {
		return nil, ""
	}
	decoy := binary.BigEndian.Uint64(mac(key, "decoy", user)) % uint64(len(s.users))
	return nil, s.users[decoy].Hash
}

// Objection says why a credential whose secret is right does not count, for the operator alone; empty: it counts.
type Objection string

// Use is where and when a credential is used.
type Use struct {
	Endpoint string
	Leaf     *x509.Certificate // that the connection has proven; nil: none
	Identity string            // of the verified client; empty: none
	Now      time.Time
}

// Usable returns what speaks against a credential. One that is bound to a certificate counts only on a connection that
// proved the leaf's key (as RFC 8705, section 3, wants it of tokens).
func Usable(c *termination.Credential, u Use) Objection {
	switch {
	case c.Blocked:
		return "it is blocked"
	case !c.Expires.IsZero() && !u.Now.Before(c.Expires):
		return "it has expired"
	case !c.CountsAt(u.Endpoint):
		return "it does not count at this endpoint"
	case c.Pin != nil && u.Leaf == nil, c.Identity != "" && u.Identity == "":
		return "it is bound to a client certificate, and the connection has proven none"
	case c.Pin != nil && !c.Pin.Matches(u.Leaf), c.Identity != "" && c.Identity != u.Identity:
		return "it is bound to another client certificate"
	}
	return ""
}
