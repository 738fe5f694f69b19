package tunnel

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// A network of IPv6 is one stranger, whatever address he takes; and no number of networks takes more memory than it may.
func TestStrangersAreCountedByNetwork(t *testing.T) {
	var l joinLimits
	now := time.Now()
	for i := range refusalsAllowed {
		l.refused(netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i)), now)
	}
	for address, want := range map[string]bool{"2001:db8::ffff": false, "2001:db8:0:1::1": true, "192.0.2.1": true} {
		if l.allows(netip.MustParseAddr(address), now) != want {
			t.Errorf("%s is heard: %v", address, !want)
		}
	}
	for i := range 2 * refusalsKept {
		l.refused(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if len(l.count) > refusalsKept {
		t.Errorf("%d networks are remembered", len(l.count))
	}
}

// Strangers do not fill the log, and what was left out is told.
func TestLogOfStrangersIsBounded(t *testing.T) {
	var l logLimit
	now, lines := time.Now(), 0
	for range 10 * mostLogged {
		if _, may := l.may(now); may {
			lines++
		}
	}
	if lines != mostLogged {
		t.Errorf("%d lines in a minute", lines)
	}
	if silent, may := l.may(now.Add(refusalsPeriod)); !may || silent != 9*mostLogged {
		t.Errorf("%v, %d were left out", may, silent)
	}
}
