package termination

import (
	"fmt"
	"net/netip"
	"strings"
)

// ParsePrefix reads a network in CIDR notation, or a single address.
func ParsePrefix(s string) (netip.Prefix, error) {
	s = strings.TrimSpace(s)
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, fmt.Errorf("%q is no network and no address", s)
	case p != p.Masked():
		return p, fmt.Errorf("%q has bits set beyond its length; the network is %s", s, p.Masked())
	}
	return p, nil
}
