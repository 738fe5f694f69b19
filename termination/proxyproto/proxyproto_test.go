package proxyproto

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

var (
	client4 = netip.MustParseAddrPort("192.0.2.7:4711")
	server4 = netip.MustParseAddrPort("198.51.100.1:443")
	client6 = netip.MustParseAddrPort("[2001:db8::7]:4711")
	server6 = netip.MustParseAddrPort("[2001:db8::1]:443")
)

// v2 puts a header of version 2 together from its parts.
func v2(versionCommand, family byte, body ...byte) string {
	b := append([]byte(signatureV2), versionCommand, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return string(append(b, body...))
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// summed adds a checksum to a header of version 2.
func summed(header string, flip byte) string {
	b := append([]byte(header), TypeCRC32C, 0, 4, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(b[14:], uint16(len(b)-16))
	sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(b[len(b)-4:], sum)
	b[len(b)-1] ^= flip
	return string(b)
}

const tcp4 = "\xc0\x00\x02\x07\xc6\x33\x64\x01\x12\x67\x01\xbb"

func TestRead(t *testing.T) {
	tcp6 := string(unhex("20010db8000000000000000000000007 20010db8000000000000000000000001 1267 01bb"))
	mapped := string(unhex("00000000000000000000ffffc0000207 00000000000000000000ffffc6336401 1267 01bb"))
	plain4, plain6 := Header{client4, server4}, Header{client6, server6}
	for _, c := range []struct {
		name, in string
		want     Header
		err      error
	}{
		{"v1 TCP4", "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", plain4, nil},
		{"v1 TCP6", "PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n", plain6, nil},
		{"v1 mapped", "PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 4711 443\r\n", plain4, nil},
		{"v1 shortest TCP6", "PROXY TCP6 :: :: 0 0\r\n", Header{netip.MustParseAddrPort("[::]:0"), netip.MustParseAddrPort("[::]:0")}, nil},
		{"v1 unknown", "PROXY UNKNOWN\r\n", Header{}, nil},
		{"v1 unknown with more", "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", Header{}, nil},
		{"v2 TCP4", v2(0x21, 0x11, []byte(tcp4)...), plain4, nil},
		{"v2 TCP6", v2(0x21, 0x21, []byte(tcp6)...), plain6, nil},
		{"v2 mapped", v2(0x21, 0x21, []byte(mapped)...), plain4, nil},
		{"v2 fields", v2(0x21, 0x11, []byte(tcp4+"\x02\x00\x03abc\xe0\x00\x00")...), plain4, nil},
		{"v2 checksum", summed(v2(0x21, 0x11, []byte(tcp4)...), 0), plain4, nil},
		{"v2 local", v2(0x20, 0), Header{}, nil},
		{"v2 local with addresses", v2(0x20, 0x11, []byte(tcp4)...), Header{}, nil},
		{"v2 local with garbage", v2(0x20, 0x99, 1, 2, 3), Header{}, nil},
		{"v2 unspecified", v2(0x21, 0), Header{}, nil},
		{"v2 unix", v2(0x21, 0x31, make([]byte, 216)...), Header{}, nil},
		{"v2 largest", v2(0x21, 0x11, append([]byte(tcp4), append([]byte{4, byte((maxV2 - 15) >> 8), byte((maxV2 - 15) & 0xff)}, make([]byte, maxV2-15)...)...)...), plain4, nil},

		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and more", Header{}, ErrMissing},
		{"HTTP", "GET / HTTP/1.1\r\n\r\n", Header{}, ErrMissing},
		{"short and not ours", "hello", Header{}, ErrMissing},
		{"nothing", "", Header{}, ErrNothing},
		{"lower case", "proxy UNKNOWN\r\n", Header{}, ErrMissing},
		{"v1 cut in the word", "PROX", Header{}, ErrBroken},
		{"v1 cut", "PROXY TCP4 192.0.2.7 198", Header{}, ErrBroken},
		{"v1 LF alone", "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\n", Header{}, ErrBroken},
		{"v1 LF inside", "PROXY TCP4 1\n192.0.2.7 198.51.100.1 4711 443\r\n", Header{}, ErrBroken},
		{"v1 too long", "PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n", Header{}, ErrBroken},
		{"v1 endless", "PROXY UNKNOWN " + strings.Repeat("x", 9999), Header{}, ErrBroken},
		{"v1 unknown glued", "PROXY UNKNOWNX\r\n", Header{}, ErrBroken},
		{"v1 two spaces", "PROXY TCP4  192.0.2.7 198.51.100.1 4711 443\r\n", Header{}, ErrBroken},
		{"v1 a field more", "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443 1\r\n", Header{}, ErrBroken},
		{"v1 UDP", "PROXY UDP4 192.0.2.7 198.51.100.1 4711 443\r\n", Header{}, ErrBroken},
		{"v1 IPv6 as TCP4", "PROXY TCP4 2001:db8::7 2001:db8::1 4711 443\r\n", Header{}, ErrBroken},
		{"v1 IPv4 as TCP6", "PROXY TCP6 192.0.2.7 198.51.100.1 4711 443\r\n", Header{}, ErrBroken},
		{"v1 zone", "PROXY TCP6 fe80::1%eth0 2001:db8::1 4711 443\r\n", Header{}, ErrBroken},
		{"v1 octal", "PROXY TCP4 192.0.02.7 198.51.100.1 4711 443\r\n", Header{}, ErrBroken},
		{"v1 short address", "PROXY TCP4 192.2 198.51.100.1 4711 443\r\n", Header{}, ErrBroken},
		{"v1 port with a zero", "PROXY TCP4 192.0.2.7 198.51.100.1 04711 443\r\n", Header{}, ErrBroken},
		{"v1 port with a sign", "PROXY TCP4 192.0.2.7 198.51.100.1 +4711 443\r\n", Header{}, ErrBroken},
		{"v1 port too large", "PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n", Header{}, ErrBroken},
		{"v2 cut in the signature", "\r\n\r\n\x00\r\nQ", Header{}, ErrBroken},
		{"v2 cut", v2(0x21, 0x11, []byte(tcp4)...)[:20], Header{}, ErrBroken},
		{"v2 version 1", v2(0x11, 0x11, []byte(tcp4)...), Header{}, ErrBroken},
		{"v2 version 3", v2(0x31, 0x11, []byte(tcp4)...), Header{}, ErrBroken},
		{"v2 command 2", v2(0x22, 0x11, []byte(tcp4)...), Header{}, ErrBroken},
		{"v2 UDP", v2(0x21, 0x12, []byte(tcp4)...), Header{}, ErrBroken},
		{"v2 family 4", v2(0x21, 0x41, []byte(tcp4)...), Header{}, ErrBroken},
		{"v2 no transport", v2(0x21, 0x10, []byte(tcp4)...), Header{}, ErrBroken},
		{"v2 addresses too short", v2(0x21, 0x11, []byte(tcp4[:11])...), Header{}, ErrBroken},
		{"v2 IPv6 too short", v2(0x21, 0x21, []byte(tcp4)...), Header{}, ErrBroken},
		{"v2 too large", v2(0x21, 0x11, make([]byte, maxV2+1)...), Header{}, ErrBroken},
		{"v2 field cut", v2(0x21, 0x11, []byte(tcp4+"\x02\x00")...), Header{}, ErrBroken},
		{"v2 field too long", v2(0x21, 0x11, []byte(tcp4+"\x02\x00\x04abc")...), Header{}, ErrBroken},
		{"v2 wrong checksum", summed(v2(0x21, 0x11, []byte(tcp4)...), 1), Header{}, ErrBroken},
		{"v2 two checksums", summed(summed(v2(0x21, 0x11, []byte(tcp4)...), 0), 0), Header{}, ErrBroken},
		{"v2 short checksum", v2(0x21, 0x11, []byte(tcp4+"\x03\x00\x02ab")...), Header{}, ErrBroken},
	} {
		t.Run(c.name, func(t *testing.T) {
			const after = "what follows"
			for _, in := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader} {
				source := strings.NewReader(c.in)
				if c.err == nil {
					source = strings.NewReader(c.in + after)
				}
				got, err := Read(in(source))
				if !errors.Is(err, c.err) || err == nil && got != c.want {
					t.Fatalf("%+v, %v; want %+v, %v", got, err, c.want, c.err)
				}
				if rest, _ := io.ReadAll(source); c.err == nil && string(rest) != after {
					t.Errorf("%q is left, want %q", rest, after)
				}
			}
		})
	}
}

// TestWrite compares with bytes that were put together by hand from the specification.
func TestWrite(t *testing.T) {
	local := netip.AddrPort{}
	for _, c := range []struct {
		name string
		got  []byte
		want []byte
	}{
		{"v1", V1(client4, server4), []byte("PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n")},
		{"v1 IPv6", V1(client6, server6), []byte("PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n")},
		{"v1 both", V1(client4, server6), []byte("PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 4711 443\r\n")},
		{"v1 own", V1(local, local), []byte("PROXY UNKNOWN\r\n")},
		{"v2", V2(client4, server4), unhex("0d0a0d0a000d0a515549540a 21 11 000c c0000207 c6336401 1267 01bb")},
		{"v2 IPv6", V2(client6, server6), unhex("0d0a0d0a000d0a515549540a 21 21 0024 20010db8000000000000000000000007 20010db8000000000000000000000001 1267 01bb")},
		{"v2 both", V2(client4, server6), unhex("0d0a0d0a000d0a515549540a 21 21 0024 00000000000000000000ffffc0000207 20010db8000000000000000000000001 1267 01bb")},
		{"v2 own", V2(local, local, Field{Type: TypeALPN}), unhex("0d0a0d0a000d0a515549540a 20 00 0000")},
		{
			"v2 with fields", V2(client4, server4, Field{Type: TypeAuthority, Value: []byte("a.test")}, SSL(ClientSSL|ClientCertSess, true, Field{Type: SubtypeCN, Value: []byte("bob")})),
			unhex("0d0a0d0a000d0a515549540a 21 11 0023 c0000207 c6336401 1267 01bb 02 0006 612e74657374 20 000b 05 00000000 22 0003 626f62"),
		},
		{"unverified", SSL(ClientSSL, false).Value, unhex("01 00000001")},
	} {
		if !bytes.Equal(c.got, c.want) {
			t.Errorf("%s:\n%x, want\n%x", c.name, c.got, c.want)
		}
		if strings.HasPrefix(c.name, "unv") {
			continue
		}
		if _, err := Read(bytes.NewReader(c.got)); err != nil {
			t.Errorf("%s cannot be read back: %v", c.name, err)
		}
	}
}

// FuzzRead: nothing panics, no more than a header is taken, and what was read can be written and read again.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", "PROXY UNKNOWN\r\n", "PROXY TCP6 :: :: 0 0\r\n", v2(0x21, 0x11, []byte(tcp4)...),
		v2(0x20, 0), summed(v2(0x21, 0x11, []byte(tcp4)...), 0), "\x16\x03\x01", v2(0x21, 0x11, []byte(tcp4+"\x02\x00\x03abc")...),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		h, err := Read(r)
		if taken := len(in) - r.Len(); taken > fixedV2+maxV2 {
			t.Fatalf("took %d bytes", taken)
		}
		if err != nil {
			return
		}
		if h.Source.IsValid() != h.Destination.IsValid() {
			t.Fatalf("half a header: %+v", h)
		}
		for _, again := range [][]byte{V1(h.Source, h.Destination), V2(h.Source, h.Destination)} {
			if got, err := Read(bytes.NewReader(again)); err != nil || got != h {
				t.Fatalf("%+v became %q, and that %+v, %v", h, again, got, err)
			}
		}
	})
}
