package credential

import (
	"net/netip"
	"sync"
	"time"
)

// FailureEvery is how long a network has to wait for another try once it was wrong too often.
const FailureEvery = 3 * time.Second

const (
	// failuresAtOnce wrong credentials may come from one network, and after that one every FailureEvery.
	failuresAtOnce = 10
	// failuresKept bounds the networks that are remembered.
	failuresKept = 16 << 10
)

// failures counts wrong credentials by network: each takes a token out of a bucket, which fills again with time.
type failures struct {
	mu sync.Mutex
	// free is when the bucket of a network is full again. The number of tokens that are missing is how much later that is
	// than now, in units of FailureEvery.
	free map[netip.Prefix]time.Time
}

func newFailures() *failures { return &failures{free: map[netip.Prefix]time.Time{}} }

// full reports whether a network has to wait.
func (f *failures) full(from netip.Addr, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.free[networkOf(from)].Sub(now) > (failuresAtOnce-1)*FailureEvery
}

func (f *failures) add(from netip.Addr, now time.Time) {
	network := networkOf(from)
	f.mu.Lock()
	defer f.mu.Unlock()
	free := f.free[network]
	if free.Before(now) {
		if _, known := f.free[network]; !known && len(f.free) >= failuresKept {
			f.forget(now)
		}
		free = now
	}
	if next := free.Add(FailureEvery); next.Sub(now) <= failuresAtOnce*FailureEvery {
		free = next
	}
	f.free[network] = free
}

// forget makes room: those whose bucket is full go first, and then any.
func (f *failures) forget(now time.Time) {
	for network, free := range f.free {
		if free.Before(now) {
			delete(f.free, network)
		}
	}
	for network := range f.free {
		if len(f.free) < failuresKept/2 {
			return
		}
		delete(f.free, network)
	}
}

// networkOf is what counts as one address: of IPv6 a whole /64, of which a host has all it wants.
func networkOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
