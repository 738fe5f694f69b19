package termination

import (
	"crypto/rand"
	"time"
)

// Prefixes of identifiers, one for each kind of object.
const (
	PrefixEndpoint    = "ep"
	PrefixAuthority   = "ca"
	PrefixCertificate = "crt"
	PrefixHandshake   = "hs"
	PrefixToken       = "tok"
	PrefixSession     = "ses"
	PrefixAudit       = "aud"
	PrefixNode        = "node"
	PrefixAgent       = "agt"
	PrefixInvitation  = "inv"
	PrefixIdentity    = "id"
	PrefixBlock       = "blk"
	PrefixCredential  = "cred"
	PrefixSavedView   = "view"
	PrefixNotice      = "ntc"
)

const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// NewID returns prefix, an underscore and a ULID: 48 bits of milliseconds since 1970, then 80 random bits, in
// Crockford's base 32, so that identifiers sort by time and are unique without coordination.
func NewID(prefix string, now time.Time) string {
	var b [16]byte
	ms := uint64(now.UnixMilli())
	for i := range 6 {
		b[i] = byte(ms >> (40 - 8*i) & 0xff)
	}
	rand.Read(b[6:]) // crypto/rand.Read never fails since Go 1.24
	out := make([]byte, 0, len(prefix)+27)
	out = append(out, prefix...)
	out = append(out, '_')
	// 128 bits make 26 digits of 5 bits; the first digit holds the top 3 bits.
	var acc uint32
	bits := 2
	for _, c := range b {
		acc = acc<<8 | uint32(c)
		bits += 8
		for bits >= 5 {
			bits -= 5
			out = append(out, crockford[acc>>bits&31])
		}
	}
	return string(out)
}
