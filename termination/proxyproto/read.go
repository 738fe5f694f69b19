package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

const (
	// maxV1 is the longest line of version 1, its end included (section 2.1).
	maxV1 = 107
	// maxV2 bounds what follows the first 16 bytes of version 2: the addresses that every receiver must take (536 bytes
	// with those 16, section 2.2), and fields beside them.
	maxV2 = 536 - fixedV2 + 4<<10
	// fixedV2 is what version 2 begins with: signature, version and command, family, length.
	fixedV2 = 16
	// shortest is the least that a header of any version has: "PROXY UNKNOWN" and its end.
	shortest = 15
)

const signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"

var (
	// ErrMissing means that the first bytes are no PROXY header.
	ErrMissing = errors.New("the first bytes are no PROXY header")
	// ErrNothing means that the connection ended before its first byte. The error of the connection is joined to it.
	ErrNothing = errors.New("nothing came")
	// ErrBroken means that they begin one that cannot be read.
	ErrBroken = errors.New("the PROXY header is broken")
)

// Header says whose connection it is. Both addresses are invalid where the sender speaks for itself, as in a health
// check (LOCAL), or does not know (UNKNOWN): then those of the connection count.
type Header struct {
	Source, Destination netip.AddrPort
}

// Read reads a header and not one byte more. Other errors than those of this package are those of r.
func Read(r io.Reader) (Header, error) {
	first := make([]byte, shortest, maxV1)
	if n, err := io.ReadFull(r, first); err != nil {
		return Header{}, cut(first[:n], err)
	}
	switch {
	case string(first[:len(signatureV2)]) == signatureV2:
		return readV2(r, first)
	case bytes.HasPrefix(first, []byte("PROXY ")):
		return readV1(r, first)
	default:
		return Header{}, ErrMissing
	}
}

// cut is the error of a connection that ended within the first bytes.
func cut(seen []byte, err error) error {
	switch {
	case len(seen) == 0:
		return errors.Join(ErrNothing, err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		if strings.HasPrefix(signatureV2, string(seen)) || strings.HasPrefix("PROXY ", string(seen[:min(len(seen), 6)])) {
			return broken("it stops half way")
		}
		return ErrMissing
	default:
		return err
	}
}

func broken(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrBroken, fmt.Sprintf(format, a...))
}

func half(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return broken("it stops half way")
	}
	return err
}

// readV1 reads on until the end of the line, each time as many bytes as are sure to come.
func readV1(r io.Reader, line []byte) (Header, error) {
	for {
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			if i != len(line)-1 {
				return Header{}, broken("its line is too short")
			}
			break
		}
		n := len(line)
		more := 2
		if line[n-1] == '\r' {
			more = 1
		}
		if n+more > maxV1 {
			return Header{}, broken("its line is longer than %d bytes", maxV1)
		}
		line = line[:n+more]
		if _, err := io.ReadFull(r, line[n:]); err != nil {
			return Header{}, half(err)
		}
	}
	text, ok := strings.CutSuffix(string(line), "\r\n")
	if !ok {
		return Header{}, broken("its line does not end with CR LF")
	}
	rest := strings.TrimPrefix(text, "PROXY ")
	if rest == "UNKNOWN" || strings.HasPrefix(rest, "UNKNOWN ") {
		return Header{}, nil // what follows is to be ignored
	}
	return parseV1(rest)
}

func parseV1(rest string) (Header, error) {
	fields := strings.Split(rest, " ")
	if len(fields) != 5 {
		return Header{}, broken("its line has %d fields after PROXY, not 5", len(fields))
	}
	if fields[0] != "TCP4" && fields[0] != "TCP6" {
		return Header{}, broken("it names the protocol %.20q", fields[0])
	}
	var h Header
	for i, to := range []*netip.AddrPort{&h.Source, &h.Destination} {
		address, err := netip.ParseAddr(fields[1+i])
		if err != nil || address.Zone() != "" || address.Is4() != (fields[0] == "TCP4") {
			return Header{}, broken("%.60q is no address of %s", fields[1+i], fields[0])
		}
		port, err := parsePort(fields[3+i])
		if err != nil {
			return Header{}, err
		}
		*to = netip.AddrPortFrom(address.Unmap(), port)
	}
	return h, nil
}

// parsePort reads a port in its one spelling.
func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, broken("%.20q is no port", s)
	}
	return uint16(n), nil
}

// readV2 reads the binary header.
func readV2(r io.Reader, first []byte) (Header, error) {
	first = first[:fixedV2]
	if _, err := io.ReadFull(r, first[shortest:]); err != nil {
		return Header{}, half(err)
	}
	if first[12]>>4 != 2 {
		return Header{}, broken("it has version %d", first[12]>>4)
	}
	length := int(binary.BigEndian.Uint16(first[14:]))
	if length > maxV2 {
		return Header{}, broken("it has %d bytes, and %d are the most", fixedV2+length, fixedV2+maxV2)
	}
	whole := make([]byte, fixedV2+length)
	copy(whole, first)
	if _, err := io.ReadFull(r, whole[fixedV2:]); err != nil {
		return Header{}, half(err)
	}
	switch command := first[12] & 0x0f; command {
	case commandLocal:
		return Header{}, nil // the rest is to be ignored
	case commandProxy:
		return parseV2(whole)
	default:
		return Header{}, broken("it has the command %d", command)
	}
}

// Commands and families of version 2.
const (
	commandLocal  = 0
	commandProxy  = 1
	familyUnspec  = 0x00
	familyTCP4    = 0x11
	familyTCP6    = 0x21
	familyUnix    = 0x31
	addressesUnix = 216 // bytes
)

func parseV2(whole []byte) (Header, error) {
	body := whole[fixedV2:]
	var h Header
	var size int
	switch family := whole[13]; family {
	case familyUnspec:
	case familyTCP4:
		size = 12
	case familyTCP6:
		size = 36
	case familyUnix:
		size = addressesUnix // no address of a client that we could tell
	default:
		return Header{}, broken("it has the family and protocol %#02x, which is no stream", family)
	}
	if len(body) < size {
		return Header{}, broken("its addresses are cut short")
	}
	if size == 12 || size == 36 {
		n := (size - 4) / 2
		ports := body[2*n:]
		h.Source = addressV2(body[:n], ports)
		h.Destination = addressV2(body[n:2*n], ports[2:])
	}
	return h, checkFields(whole, fixedV2+size)
}

func addressV2(address, port []byte) netip.AddrPort {
	a, _ := netip.AddrFromSlice(address) // 4 or 16 bytes
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(port))
}

// checkFields looks whether the fields after the addresses fill the header exactly, and whether its checksum holds,
// where it has one (section 2.2.3).
func checkFields(whole []byte, at int) error {
	summed := false
	for at < len(whole) {
		if at+3 > len(whole) {
			return broken("a field is cut short")
		}
		value := at + 3
		next := value + int(binary.BigEndian.Uint16(whole[at+1:]))
		if next > len(whole) {
			return broken("a field is longer than the header")
		}
		if whole[at] == TypeCRC32C {
			if summed || next-value != 4 {
				return broken("its checksum stands there twice or has not 4 bytes")
			}
			summed = true
			want := binary.BigEndian.Uint32(whole[value:])
			clear(whole[value:next])
			if crc32.Checksum(whole, crc32.MakeTable(crc32.Castagnoli)) != want {
				return broken("its checksum does not hold")
			}
		}
		at = next
	}
	return nil
}
