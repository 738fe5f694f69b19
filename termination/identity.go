package termination

import (
	"crypto/x509"
	"slices"
	"time"
)

// Identity is a named client, known by pins or by names under an authority. On the endpoints that it names, its pins
// are trusted, and it needs no rule that allows it; elsewhere it is refused, whatever else would let it in. One that
// names no endpoint is only a name for clients that come in by other means.
type Identity struct {
	ID        string
	Name      string
	Origin    Origin
	Pins      []Pin
	Matches   []Subject // each with an authority and at least one name
	Endpoints []string  // names of endpoints
	Rate      Rate
	Blocked   bool
	// Certificates are those of the pins, as far as they were registered, so that pages can tell when they end.
	Certificates []*x509.Certificate
}

// Knows reports whether the identity names an endpoint.
func (i *Identity) Knows(endpoint string) bool { return slices.Contains(i.Endpoints, endpoint) }

// Rate bounds how often something may happen: Count in Per, and up to Burst at once. A zero Count is no bound.
type Rate struct {
	Count int
	Per   time.Duration // a second, a minute, an hour or a day
	Burst int           // 0: Count, at least 1
}

// Limited reports whether the rate bounds anything.
func (r Rate) Limited() bool { return r.Count > 0 }

// AtOnce returns Burst or its default.
func (r Rate) AtOnce() int {
	if r.Burst > 0 {
		return r.Burst
	}
	return max(r.Count, 1)
}

// Block refuses clients by hand, at once, on every endpoint that asks for certificates: by the pin of a certificate or
// key, or by serial number under an authority.
type Block struct {
	ID        string
	Origin    Origin
	Pin       *Pin
	Serial    string // as ParseSerial returns it
	Authority string // with Serial: whose certificates are meant
	Why       string // for the operator
	Since     time.Time
}

// String says what is blocked, as it stands in a file.
func (b *Block) String() string {
	if b.Pin != nil {
		return b.Pin.String()
	}
	return "serial " + b.Serial + " of " + b.Authority
}
