package termination

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// Agent is a remote process that keeps a tunnel open to the gateway and terminates TLS for one endpoint, beside its
// service. It is known by its ID, which stands in the certificate that the gateway's agent CA gave it.
type Agent struct {
	ID         string
	Name       string // as the agent calls itself, such as its host's name; hostile text
	EndpointID string
	Key        Fingerprint // of the key that it joined with; a renewal keeps it
	Created    time.Time
	Seen       time.Time // when it was last online; zero: never since it joined
	Version    string    // of the program it last ran; hostile text
	Address    string    // that it last came from
	Removed    bool      // may not come back
}

// AgentCA signs the certificates of agents, and of the listener that they connect to. Its key never leaves the gateway.
type AgentCA struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// Invitation lets one agent join one endpoint, once.
type Invitation struct {
	ID         string
	EndpointID string
	Secret     [sha256.Size]byte // SHA-256 of the secret that the token carries; the secret is kept nowhere
	Created    time.Time
	Expires    time.Time
	By         string // who invited, for the audit log
}

// JoinToken is what an invited agent is given: where the gateway is, how it proves itself, and the secret that lets one
// agent in.
type JoinToken struct {
	Gateways []string    // host:port, at least one, in the order in which they are tried
	CA       Fingerprint // of the agent CA's certificate
	Endpoint string      // name of the endpoint, for messages; the gateway decides
	Secret   [16]byte
}

// joinTokenPrefix tells people and secret scanners what the text is; the digit is the version of the form.
const joinTokenPrefix = "csjoin1_"

// maxJoinToken bounds a token's text, in bytes.
const maxJoinToken = 2 << 10

// joinTokenText is the JSON inside a token.
type joinTokenText struct {
	Gateways []string    `json:"g"`
	CA       Fingerprint `json:"c"`
	Endpoint string      `json:"e"`
	Secret   []byte      `json:"s"`
}

// NewJoinSecret returns a fresh secret.
func NewJoinSecret() (secret [16]byte) {
	rand.Read(secret[:]) // crypto/rand.Read never fails since Go 1.24
	return secret
}

// String is the form that [ParseJoinToken] reads. It holds a secret.
func (t JoinToken) String() string {
	b, _ := json.Marshal(joinTokenText{Gateways: t.Gateways, CA: t.CA, Endpoint: t.Endpoint, Secret: t.Secret[:]}) // strings and bytes always encode
	return joinTokenPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// Hash is what an [Invitation] keeps of the token's secret.
func (t JoinToken) Hash() [sha256.Size]byte { return sha256.Sum256(t.Secret[:]) }

// ParseJoinToken reads the token of an invitation. Its errors never repeat the token.
func ParseJoinToken(s string) (JoinToken, error) {
	var t JoinToken
	s = strings.TrimSpace(s)
	rest, ok := strings.CutPrefix(s, joinTokenPrefix)
	if !ok || len(s) > maxJoinToken {
		return t, errors.New("this is no invitation of an agent: one begins with " + joinTokenPrefix + "; make one on the gateway with `countersign agent invite ENDPOINT`")
	}
	b, err := base64.RawURLEncoding.DecodeString(rest)
	if err != nil {
		return t, errors.New("the invitation is cut off or changed; copy the whole token")
	}
	var text joinTokenText
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&text); err != nil || d.More() || len(text.Secret) != len(t.Secret) || len(text.Gateways) == 0 || text.CA == (Fingerprint{}) {
		return t, errors.New("the invitation is cut off or changed; copy the whole token")
	}
	for _, g := range text.Gateways {
		if host, port, err := net.SplitHostPort(g); err != nil || host == "" || port == "" {
			return t, fmt.Errorf("the invitation names the gateway %q, which is no host and port; make a new one", g)
		}
	}
	t.Gateways, t.CA, t.Endpoint = text.Gateways, text.CA, text.Endpoint
	copy(t.Secret[:], text.Secret)
	return t, nil
}
