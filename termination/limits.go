package termination

import "time"

// Limits bound what clients can make the gateway do. All are counted when they bite.
type Limits struct {
	HandshakeTimeout      time.Duration
	ClientHello           int   // bytes of the ClientHello message
	CertificateChain      int   // bytes of the client's Certificate message
	Certificates          int   // number of certificates in it
	Header                int   // bytes of HTTP request headers
	Body                  int64 // bytes of an HTTP request's body; 0: no limit
	IdleTimeout           time.Duration
	Connections           int
	ConnectionsPerAddress int
	HalfOpen              int // connections that have not finished their handshake
	HalfOpenPerAddress    int
	ExpressionCost        int           // of one evaluation of an expression, in the units of CEL; 0: expression.DefaultCost
	RefusalLinger         time.Duration // how long a refused client may take to read its alert
}

// DefaultLimits returns the limits of a gateway without a limits section.
func DefaultLimits() Limits {
	return Limits{
		HandshakeTimeout:      10 * time.Second,
		ClientHello:           64 << 10,
		CertificateChain:      256 << 10,
		Certificates:          10,
		Header:                32 << 10,
		IdleTimeout:           5 * time.Minute,
		Connections:           50000,
		ConnectionsPerAddress: 2000,
		HalfOpen:              5000,
		HalfOpenPerAddress:    200,
		ExpressionCost:        100_000,
		RefusalLinger:         500 * time.Millisecond,
	}
}
