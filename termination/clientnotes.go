package termination

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"slices"
)

// ClientNotes says what is worth knowing about a client's certificate before it hurts, as a set. Whether it passes is for
// the policy of each endpoint to say.
type ClientNotes uint16

// The notes. Their numbers are stored: they are added, never changed.
const (
	NoteWeakKey       ClientNotes = 1 << iota // RSA below 2048 bits, or a kind of key that TLS has given up
	NoteWeakSignature                         // by SHA-1 or MD5
	NoteNoUsage                               // no extended key usage, so that it may be used for anything
	NoteNotForClients                         // an extended key usage without clientAuth
	NoteVersion1                              // X.509 v1 or v2, which can say nothing about its use
	NotePublicCA                              // from a public CA of the web
	NoteUsageEnds                             // from a public CA, and still good for clients: its next renewal will not be
	NoteIsCA                                  // a CA certificate that comes as a client
)

// ClientNote is one note in words.
type ClientNote struct {
	Note     ClientNotes
	Code     string // for machines
	Label    string // two or three words
	Sentence string // about "it", with what to do
}

// AllClientNotes lists every note in the order in which pages show them.
func AllClientNotes() []ClientNote {
	return []ClientNote{
		{NoteUsageEnds, "usage_ends", "loses client use", "It comes from a public CA of the web. These stop issuing certificates that are good for clients, so its next renewal is likely to be refused: take one from a CA of your own."},
		{NoteNotForClients, "not_for_clients", "not for clients", "Its extended key usage leaves clients out; take one with clientAuth."},
		{NoteWeakKey, "weak_key", "weak key", "Its key is too weak; make a new one, ECDSA P-256 for one."},
		{NoteWeakSignature, "weak_signature", "weak signature", "Its signature is by SHA-1 or MD5, which can be forged; have it issued anew with SHA-256."},
		{NoteVersion1, "version_1", "X.509 v1", "It is of an old version of X.509 that cannot say what it is for; have it issued anew as version 3 with the usage clientAuth."},
		{NoteNoUsage, "no_usage", "no usage", "It has no extended key usage, so it may be used for anything; strict servers want clientAuth."},
		{NoteIsCA, "is_ca", "is a CA", "It is a CA certificate: it could issue further clients. A client needs one of its own."},
		{NotePublicCA, "public_ca", "public CA", "It comes from a public CA of the web, from which everybody can get one: trust names under it, never the CA alone."},
	}
}

// Codes returns the codes of the notes.
func (n ClientNotes) Codes() []string {
	codes := []string{}
	for _, note := range AllClientNotes() {
		if n&note.Note != 0 {
			codes = append(codes, note.Code)
		}
	}
	return codes
}

// NotesOf looks at what a client presented, its own certificate first. An empty list has no notes.
func NotesOf(presented []*x509.Certificate) ClientNotes {
	if len(presented) == 0 {
		return 0
	}
	leaf := presented[0]
	var n ClientNotes
	if key, ok := leaf.PublicKey.(*rsa.PublicKey); leaf.PublicKeyAlgorithm == x509.DSA || ok && key.N.BitLen() < 2048 {
		n |= NoteWeakKey
	}
	switch leaf.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		n |= NoteWeakSignature
	default:
	}
	noUsage := len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) == 0
	forClients := noUsage || slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny)
	switch {
	case leaf.Version < 3:
		n |= NoteVersion1
	case noUsage:
		n |= NoteNoUsage
	case !forClients:
		n |= NoteNotForClients
	}
	if leaf.BasicConstraintsValid && leaf.IsCA {
		n |= NoteIsCA
	}
	if fromPublicCA(presented) {
		n |= NotePublicCA
		if forClients && !noUsage {
			n |= NoteUsageEnds
		}
	}
	return n
}

// fromPublicCA reports whether a certificate says so itself, or came along with a public CA's own. Only the CA knows, and
// anybody can write these: it is a reason to look, and decides nothing.
func fromPublicCA(presented []*x509.Certificate) bool {
	return SaysPublicCA(presented[0]) || slices.ContainsFunc(presented, func(c *x509.Certificate) bool { return publicCA(c) != "" })
}

// SaysPublicCA reports whether a certificate says that it was issued under the rules of the CA/Browser Forum, as those of
// all CAs that browsers trust do (Baseline Requirements, section 7.1.6.1; EV Guidelines, section 9.7).
func SaysPublicCA(c *x509.Certificate) bool {
	forum := []asn1.ObjectIdentifier{
		{2, 23, 140, 1, 1},    // extended validation
		{2, 23, 140, 1, 2, 1}, // domain validated
		{2, 23, 140, 1, 2, 2}, // organization validated
		{2, 23, 140, 1, 2, 3}, // individual validated
	}
	return c != nil && slices.ContainsFunc(c.Policies, func(policy x509.OID) bool {
		return slices.ContainsFunc(forum, policy.EqualASN1OID)
	})
}
