package revocation

import (
	"crypto/x509"
	"hash/maphash"
	"math"
	"math/big"
	"time"
)

// maxSerial bounds the serial numbers that are compared, in bytes. RFC 5280, section 4.1.2.2, allows 20.
const maxSerial = 64

// entries are the revoked serial numbers of a list in little room: some 30 bytes each, so that a million cost 30 MB and
// a look takes one step. Who fills a list cannot aim at the hashes: their seed is chance.
type entries struct {
	seed    maphash.Seed
	table   []uint32 // index of an entry plus 1, by hash; 0: free. A power of two, at most half full
	ends    []uint32 // where each serial number ends in serials
	serials []byte
	times   []uint32 // seconds since 1970
	reasons []uint8
}

// entry is what a list says of one certificate.
type entry struct {
	time   time.Time
	reason int
}

// newEntries takes the entries of a list. Those with serial numbers that no certificate can have are left out.
func newEntries(from []x509.RevocationListEntry) *entries {
	e := &entries{seed: maphash.MakeSeed()}
	size := 8
	for size < 2*len(from) {
		size *= 2
	}
	e.table = make([]uint32, size)
	e.ends, e.times, e.reasons = make([]uint32, 0, len(from)), make([]uint32, 0, len(from)), make([]uint8, 0, len(from))
	var buffer [maxSerial + 1]byte
	for i := range from {
		serial := serialBytes(from[i].SerialNumber, &buffer)
		if serial == nil {
			continue
		}
		at := e.place(serial)
		if e.table[at] == 0 {
			e.serials = append(e.serials, serial...)
			e.ends = append(e.ends, uint32(len(e.serials))) //nolint:gosec // less than the list has bytes
			e.times = append(e.times, uint32(min(max(from[i].RevocationTime.Unix(), 0), math.MaxUint32)))
			e.reasons = append(e.reasons, uint8(min(max(from[i].ReasonCode, 0), math.MaxUint8)))
			e.table[at] = uint32(len(e.ends)) //nolint:gosec // likewise
		}
	}
	return e
}

// serialBytes writes a serial number as bytes that no other has; nil: it is too long. A negative one begins with a
// zero, which no other does.
func serialBytes(n *big.Int, buffer *[maxSerial + 1]byte) []byte {
	if n == nil || n.BitLen() > 8*maxSerial {
		return nil
	}
	size := (n.BitLen() + 7) / 8
	n.FillBytes(buffer[1 : size+1])
	if n.Sign() < 0 {
		buffer[0] = 0
		return buffer[:size+1]
	}
	return buffer[1 : size+1]
}

// place is where in the table a serial number is, or would be.
func (e *entries) place(serial []byte) uint64 {
	mask := uint64(len(e.table) - 1) //nolint:gosec // there is one
	at := maphash.Bytes(e.seed, serial) & mask
	for e.table[at] != 0 && string(e.serial(e.table[at]-1)) != string(serial) {
		at = (at + 1) & mask
	}
	return at
}

func (e *entries) serial(i uint32) []byte {
	from := uint32(0)
	if i > 0 {
		from = e.ends[i-1]
	}
	return e.serials[from:e.ends[i]]
}

// find returns what the list says of a serial number.
func (e *entries) find(n *big.Int) (entry, bool) {
	var buffer [maxSerial + 1]byte
	serial := serialBytes(n, &buffer)
	if serial == nil {
		return entry{}, false
	}
	i := e.table[e.place(serial)]
	if i == 0 {
		return entry{}, false
	}
	return entry{time: time.Unix(int64(e.times[i-1]), 0).UTC(), reason: int(e.reasons[i-1])}, true
}

func (e *entries) len() int { return len(e.ends) }
