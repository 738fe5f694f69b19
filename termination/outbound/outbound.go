// Package outbound guards the requests that the gateway makes by itself, to addresses that certificates, lists or settings
// name: for revocation lists, to OCSP responders, and to webhooks.
package outbound

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Dialer returns a dialer that refuses what no such request is for, and gives up after timeout.
func Dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{Timeout: timeout, Control: refuseLinkLocal}
}

// refuseLinkLocal is asked with the address that is really connected to, whatever the name was, so that a name cannot
// lead elsewhere the second time. Cloud providers keep credentials of the machine at link-local addresses
// (169.254.169.254) and one that only looks otherwise (fd00:ec2::254).
func refuseLinkLocal(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("connect to %q: %w", address, err)
	}
	a := at.Addr().Unmap().WithZone("")
	if a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || a == netip.MustParseAddr("fd00:ec2::254") {
		return fmt.Errorf("connect to %s: nothing is asked of link-local, multicast and unspecified addresses, nor of a cloud's own", a)
	}
	return nil
}

// WithoutURL takes the address off an error of net/http: whoever reads it knows the address, and it may be long, or a
// secret.
func WithoutURL(err error) error {
	var e interface{ Unwrap() error }
	if errors.As(err, &e) {
		if inner := e.Unwrap(); inner != nil {
			return inner
		}
	}
	return err
}
