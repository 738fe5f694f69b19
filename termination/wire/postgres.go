package wire

import "golang.org/x/crypto/cryptobyte"

// PostgresRequestLen is the length of an SSLRequest and of a GSSENCRequest, in
// bytes (PostgreSQL, "Message Formats").
const PostgresRequestLen = 8

// Answers of a PostgreSQL server to a request for encryption, one byte each.
const (
	PostgresYes = 'S' // TLS begins now
	PostgresNo  = 'N' // not offered; the client may ask for another, or go without
)

// PostgresSSLRequest returns the request for TLS.
func PostgresSSLRequest() [PostgresRequestLen]byte {
	return [PostgresRequestLen]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}
}

// PostgresError returns an ErrorResponse with which a PostgreSQL server ends a
// connection: the five characters of a SQLSTATE, and a message for a person.
// Clients believe it before TLS too, so nothing in it may come from a peer.
func PostgresError(state, message string) []byte {
	var b cryptobyte.Builder
	b.AddUint8('E')
	var fields cryptobyte.Builder
	for _, f := range [...]struct {
		kind byte
		text string
	}{{'S', "FATAL"}, {'V', "FATAL"}, {'C', state}, {'M', message}} {
		fields.AddUint8(f.kind)
		fields.AddBytes([]byte(f.text))
		fields.AddUint8(0)
	}
	fields.AddUint8(0)
	body := fields.BytesOrPanic()
	b.AddUint32(uint32(len(body) + 4)) //nolint:gosec // texts of ours; the length counts itself
	b.AddBytes(body)
	return b.BytesOrPanic()
}
