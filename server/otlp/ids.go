package otlp

import (
	"context"
	"crypto/rand"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// digits are those of a ULID.
const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// traceID is the 128 bits of a handshake's ID; false when that is no ULID.
func traceID(handshake string) (id trace.TraceID, ok bool) {
	_, text, _ := strings.Cut(handshake, "_")
	const length = 26
	if len(text) != length {
		return id, false
	}
	var acc uint32
	bits, n := -2, 0 // 26 digits of 5 bits are 130: the first two are zero
	for i := range len(text) {
		d := strings.IndexByte(digits, text[i])
		if d < 0 {
			return trace.TraceID{}, false
		}
		acc = acc<<5 | uint32(d) //nolint:gosec // below 32
		if bits += 5; bits >= 8 {
			bits -= 8
			id[n] = byte(acc >> bits) //nolint:gosec // the lowest eight bits are meant
			n++
		}
	}
	return id, id.IsValid()
}

type handshakeKey struct{}

func withHandshake(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, handshakeKey{}, id)
}

// handshakeIDs gives a trace the ID of its handshake, so that one is found by the other.
type handshakeIDs struct{}

// NewIDs implements [sdktrace.IDGenerator].
func (g handshakeIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	handshake, _ := ctx.Value(handshakeKey{}).(string)
	id, ok := traceID(handshake)
	if !ok {
		rand.Read(id[:]) // crypto/rand.Read never fails since Go 1.24
	}
	return id, g.NewSpanID(ctx, id)
}

// NewSpanID implements [sdktrace.IDGenerator].
func (handshakeIDs) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	rand.Read(id[:]) // see above
	return id
}
