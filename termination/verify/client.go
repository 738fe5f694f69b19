package verify

import (
	"crypto/x509"
	"net/netip"
)

// Client is what is known of a client when it is judged.
type Client struct {
	Presented  []*x509.Certificate // as it sent them, leaf first; none: it sent none
	ServerName string              // of its ClientHello
	Version    uint16              // of TLS; 0: not known
	Peer       netip.AddrPort      // invalid: not known at this moment
	Staple     []byte              // an OCSP answer that it sent along (RFC 8446, section 4.4.2.1); nil: none
}

// Showing is a client of which nothing but its certificates is known.
func Showing(presented ...*x509.Certificate) Client { return Client{Presented: presented} }
