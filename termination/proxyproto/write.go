package proxyproto

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// Types of fields (section 2.2.1 and following).
const (
	TypeALPN      = 0x01
	TypeAuthority = 0x02 // the server name that the client asked for
	TypeCRC32C    = 0x03
	TypeSSL       = 0x20

	// Within TypeSSL:
	SubtypeVersion = 0x21
	SubtypeCN      = 0x22 // of the client's certificate
	SubtypeCipher  = 0x23
	SubtypeSigAlg  = 0x24 // with which the certificate of the server was signed
	SubtypeKeyAlg  = 0x25 // kind and size of the key of that certificate
	SubtypeGroup   = 0x26 // of the key exchange
	SubtypeCert    = 0x28 // the client's certificate, DER
)

// Bits of the client's byte in a TypeSSL field (section 2.2.5).
const (
	ClientSSL      = 0x01 // came over TLS
	ClientCertConn = 0x02 // showed a certificate on this connection
	ClientCertSess = 0x04 // showed one on this connection or the one that it resumes
)

// Field is a type-length-value field of version 2.
type Field struct {
	Type  byte
	Value []byte
}

func (f Field) size() int { return 3 + len(f.Value) }

func (f Field) append(b []byte) []byte {
	b = append(b, f.Type)
	b = binary.BigEndian.AppendUint16(b, uint16(len(f.Value))) //nolint:gosec // bounded by whoever makes fields
	return append(b, f.Value...)
}

// SSL makes the field about TLS. The client's certificate was verified, or there is none to rely on.
func SSL(client byte, verified bool, within ...Field) Field {
	value := []byte{client, 0, 0, 0, 1}
	if verified {
		value[4] = 0
	}
	for _, f := range within {
		value = f.append(value)
	}
	return Field{Type: TypeSSL, Value: value}
}

// V1 is the header of version 1. Addresses that are not known make it say so.
func V1(source, destination netip.AddrPort) []byte {
	if !source.IsValid() || !destination.IsValid() {
		return []byte("PROXY UNKNOWN\r\n")
	}
	from, to, is4 := alike(source.Addr(), destination.Addr())
	b := []byte("PROXY TCP6 ")
	if is4 {
		b = []byte("PROXY TCP4 ")
	}
	b = from.AppendTo(b)
	b = append(b, ' ')
	b = to.AppendTo(b)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(source.Port()), 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(destination.Port()), 10)
	return append(b, '\r', '\n')
}

// V2 is the header of version 2. Addresses that are not known make it LOCAL, without fields.
func V2(source, destination netip.AddrPort, fields ...Field) []byte {
	b := append(make([]byte, 0, 128), signatureV2...)
	if !source.IsValid() || !destination.IsValid() {
		return append(b, 2<<4|commandLocal, familyUnspec, 0, 0)
	}
	from, to, is4 := alike(source.Addr(), destination.Addr())
	family := byte(familyTCP6)
	size := 36
	if is4 {
		family, size = familyTCP4, 12
	}
	for _, f := range fields {
		size += f.size()
	}
	b = append(b, 2<<4|commandProxy, family)
	b = binary.BigEndian.AppendUint16(b, uint16(size))
	b = append(b, from.AsSlice()...)
	b = append(b, to.AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, source.Port())
	b = binary.BigEndian.AppendUint16(b, destination.Port())
	for _, f := range fields {
		b = f.append(b)
	}
	return b
}

// alike brings both addresses into one family: where one of them is of IPv6, the other is written as mapped into it.
func alike(a, b netip.Addr) (from, to netip.Addr, is4 bool) {
	a, b = a.Unmap().WithZone(""), b.Unmap().WithZone("")
	if a.Is4() && b.Is4() {
		return a, b, true
	}
	return netip.AddrFrom16(a.As16()), netip.AddrFrom16(b.As16()), false
}
