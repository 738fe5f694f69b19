package termination

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strconv"
	"strings"
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
	// Issuers are CA certificates that were uploaded with one of them. They are for people to look at: an identity never
	// makes an issuer of anything.
	Issuers []*x509.Certificate
}

// ByPin reports whether the identity goes by pins, or by nothing yet: where it may come in, its pins are the trust.
func (i *Identity) ByPin() bool { return len(i.Pins) > 0 || len(i.Matches) == 0 }

// Certificate returns the registered certificate of a pin, or nil.
func (i *Identity) Certificate(pin Pin) *x509.Certificate {
	for _, c := range i.Certificates {
		if !pin.Key && FingerprintOf(c) == pin.Fingerprint {
			return c
		}
	}
	return nil
}

// EndpointElsewhere stands in the configuration of an agent for all endpoints that are not its own.
const EndpointElsewhere = "-"

// Knows reports whether the identity names an endpoint.
func (i *Identity) Knows(endpoint string) bool { return slices.Contains(i.Endpoints, endpoint) }

// Rate bounds how often something may happen: Count in Per, and up to Burst at once. A zero Count is no bound.
type Rate struct {
	Count int
	Per   time.Duration // a second, a minute, an hour or a day
	Burst int           // 0: Count, at least 1
}

// maxRate keeps the time between two of a rate at a microsecond at least.
const maxRate = 1_000_000

// rateUnits are the periods of a rate as they are written.
func rateUnits() map[string]time.Duration {
	return map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}
}

// ParseRate reads a rate such as 50/s, 100/m, 1000/h or 10000/d. Empty text is no bound.
func ParseRate(s string) (Rate, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return Rate{}, nil
	}
	number, unit, cut := strings.Cut(s, "/")
	n, err := strconv.Atoi(strings.TrimSpace(number))
	per, known := rateUnits()[strings.TrimSpace(unit)]
	if !cut || err != nil || !known {
		return Rate{}, fmt.Errorf("%.100q is no rate; write a number and a period, as in 50/s, 100/m, 1000/h or 10000/d", s)
	}
	if n < 1 || n > maxRate {
		return Rate{}, fmt.Errorf("the rate %.100q is out of range; use 1 to %d", s, maxRate)
	}
	return Rate{Count: n, Per: per}, nil
}

// String is the form that [ParseRate] reads; what comes at once is not in it.
func (r Rate) String() string {
	if !r.Limited() {
		return ""
	}
	for unit, per := range rateUnits() {
		if per == r.Per {
			return strconv.Itoa(r.Count) + "/" + unit
		}
	}
	return fmt.Sprintf("%d in %s", r.Count, r.Per)
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
	By        string // who blocked it
}

// String says what is blocked, as it stands in a file.
func (b *Block) String() string {
	if b.Pin != nil {
		return b.Pin.String()
	}
	return "serial " + b.Serial + " of " + b.Authority
}
