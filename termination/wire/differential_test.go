package wire

import (
	"bytes"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"
)

// compare gives the bytes to crypto/tls too. Whatever this package accepts,
// crypto/tls must read alike, or a client could be routed by one name and served
// by another. It returns whether this package accepted them.
func compare(t *testing.T, raw []byte) bool {
	t.Helper()
	h, got, err := ReadClientHello(bytes.NewReader(raw), 0)
	if !bytes.HasPrefix(raw, got) {
		t.Fatalf("raw is not what was sent:\n%x\n%x", got, raw)
	}
	info, goErr := askGo(raw)
	if err != nil {
		he, ok := errors.AsType[*HelloError](err)
		if !ok || h != nil {
			t.Fatalf("got %v, %v", h, err)
		}
		if info != nil && !stricter(he) {
			t.Errorf("refused (%v), but crypto/tls reads it as a hello for %q", err, info.ServerName)
		}
		return false
	}
	if info == nil {
		t.Errorf("accepted as a hello for %q, but crypto/tls refuses it: %v", h.ServerName, goErr)
		return true
	}
	versions := h.SupportedVersions
	if len(versions) == 0 {
		versions = info.SupportedVersions // crypto/tls makes them up from its own
	}
	for what, same := range map[string]bool{
		"server name": h.ServerName == info.ServerName,
		"ALPN":        slices.Equal(h.ALPN, info.SupportedProtos),
		"suites":      slices.Equal(h.CipherSuites, info.CipherSuites),
		"extensions":  slices.Equal(h.Extensions, info.Extensions),
		"versions":    slices.Equal(versions, info.SupportedVersions),
		"groups":      sameNumbers(h.Groups, info.SupportedCurves),
		"signatures":  sameNumbers(h.SignatureSchemes, info.SignatureSchemes),
		"points":      bytes.Equal(h.PointFormats, info.SupportedPoints),
	} {
		if !same {
			t.Errorf("%s differs:\n%+v\n%+v", what, h, info)
		}
	}
	return true
}

func sameNumbers[T ~uint16](a []uint16, b []T) bool {
	return slices.EqualFunc(a, b, func(x uint16, y T) bool { return x == uint16(y) })
}

// stricter says whether a refusal is one of those that this package makes on its
// own, by the letter of the standards.
func stricter(e *HelloError) bool {
	switch {
	case errors.Is(e, ErrHelloTooLarge): // the limits differ by the header
		return true
	case errors.Is(e, ErrNotTLS):
		return true // crypto/tls takes records of version 2.x
	}
	for _, reason := range []string{
		"the session id is longer than 32 bytes",        // RFC 8446 section 4.1.2
		"the list of cipher suites is empty",            // likewise
		"the list of compression methods is empty",      // likewise
		"other bytes follow it in its record",           // nothing may, before the server answers
		"a record has version",                          // only major version 3 exists
		"a record of type 21 is mixed into it",          // crypto/tls skips warnings
		"an alert came in its place",                    // likewise
		"extension encrypted_client_hello is malformed", // crypto/tls overlooks an empty one
	} {
		if strings.HasPrefix(e.Reason, reason) {
			return true
		}
	}
	return false
}

func TestAgreesWithGo(t *testing.T) {
	hellos := recorded(t)
	for name, raw := range goHellos(t) {
		hellos[name] = raw
	}
	for name, raw := range hellos {
		if !compare(t, raw) {
			t.Errorf("%s is refused", name)
		}
		_, got, err := ReadClientHello(bytes.NewReader(raw), 0)
		if err != nil {
			t.Fatal(err)
		}
		message := got[recordHeaderLen:]
		for _, size := range []int{1, 3, 50} {
			if !compare(t, records(message, size)) {
				t.Errorf("%s in records of %d is refused", name, size)
			}
		}
		// Each byte damaged in turn: whatever comes of it, both must agree.
		for i := range got {
			for _, flip := range []byte{0x01, 0x80, 0xff} {
				damaged := slices.Clone(got)
				damaged[i] ^= flip
				compare(t, damaged)
			}
		}
	}
}

func TestAgreesWithGoOnResumption(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		flights := handshakes(t, &tls.Config{MaxVersion: version}, &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(1)}, 2)
		h, _, err := ReadClientHello(bytes.NewReader(flights[1].client), 0)
		if err != nil {
			t.Fatal(err)
		}
		if !h.OffersResumption() || (h.PSKs > 0) != (version == tls.VersionTLS13) || (h.TicketSize > 0) != (version == tls.VersionTLS12) {
			t.Errorf("%s: %d PSKs, a ticket of %d bytes", VersionName(version), h.PSKs, h.TicketSize)
		}
		compare(t, flights[1].client)
	}
}

func FuzzReadClientHello(f *testing.F) {
	for _, raw := range recorded(f) {
		f.Add(raw)
	}
	for _, raw := range goHellos(f) {
		f.Add(raw)
		f.Add(records(raw[recordHeaderLen:], 7))
	}
	f.Add(record(recordHandshake, goodParts().with(extServerName, sni("a.example", "b.example")...).message()))
	f.Add(record(recordHandshake, goodParts().with(extServerName, 0, 8, 1, 0, 1, '.', 0, 0, 1, 'a').message()))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	for _, first := range []string{
		"\x00\x00\x00\x08\x04\xd2\x16\x2f", "\x00\x00\x00\x10\x04\xd2\x16\x2e", "A001 CAPABILITY\r\n", ". STARTTLS", "\x30\x84\x00\x00\x00\x25\x02\x01\x01\x63",
	} {
		f.Add([]byte(first))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if !compare(t, raw) {
			return
		}
		h, got, err := ReadClientHello(bytes.NewReader(raw), 0)
		if err != nil {
			t.Fatal(err)
		}
		JA3(h)
		if ja4 := JA4(h); len(ja4) != len("t13d1516h2_8daaf6152771_e5627efa2ab1") {
			t.Errorf("JA4 %q", ja4)
		}
		h.Versions()
		h.PostQuantum()
		h.HasGREASE()
		// One byte a record says the same.
		var message []byte
		for rest := got; len(rest) > 0; {
			end := recordHeaderLen + int(rest[3])<<8 + int(rest[4])
			message = append(message, rest[recordHeaderLen:end]...)
			rest = rest[end:]
		}
		again, _, err := ReadClientHello(bytes.NewReader(records(message, 1)), 0)
		if err != nil || again.ServerName != h.ServerName || again.Size != h.Size || again.Records != h.Size {
			t.Errorf("in single bytes: %+v, %v", again, err)
		}
	})
}
