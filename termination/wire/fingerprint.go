package wire

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
)

// JA3 returns the JA3 string of a hello and its MD5 in hex, as published by
// Salesforce (github.com/salesforce/ja3): version, cipher suites, extensions,
// groups and point formats, in decimal, in the order sent, without GREASE. Since
// browsers shuffle their extensions, JA3 no longer tells them apart; JA4 does.
func JA3(h *ClientHello) (text, md5Hex string) {
	b := make([]byte, 0, 256)
	b = strconv.AppendUint(b, uint64(h.Version), 10)
	for _, list := range [][]uint16{h.CipherSuites, h.Extensions, h.Groups} {
		b = append(b, ',')
		start := len(b)
		for _, v := range list {
			if IsGREASE(v) {
				continue
			}
			if len(b) > start {
				b = append(b, '-')
			}
			b = strconv.AppendUint(b, uint64(v), 10)
		}
	}
	b = append(b, ',')
	for i, f := range h.PointFormats {
		if i > 0 {
			b = append(b, '-')
		}
		b = strconv.AppendUint(b, uint64(f), 10)
	}
	sum := md5.Sum(b) // the published algorithm; nothing rests on its strength
	return string(b), hex.EncodeToString(sum[:])
}

// JA4 returns the JA4 fingerprint of a hello that came over TCP, as published by
// FoxIO (github.com/FoxIO-LLC/ja4, technical_details/JA4.md).
func JA4(h *ClientHello) string {
	suites := ja4List(h.CipherSuites)
	extensions := ja4List(h.Extensions)
	name := byte('i')
	if h.Has(extServerName) {
		name = 'd'
	}
	head := fmt.Sprintf("t%s%c%02d%02d%s", ja4Version(h), name, min(len(suites), 99), min(len(extensions), 99), ja4ALPN(h))

	slices.Sort(suites)
	slices.Sort(extensions)
	extensions = slices.DeleteFunc(extensions, func(id uint16) bool { return id == extServerName || id == extALPN })
	second := ja4Hash(suites, nil)
	third := ja4Hash(extensions, ja4List(h.SignatureSchemes))
	return head + "_" + second + "_" + third
}

// ja4List returns a copy without GREASE values.
func ja4List(list []uint16) []uint16 {
	return slices.DeleteFunc(slices.Clone(list), IsGREASE)
}

// ja4Hash is the start of the SHA-256 of the numbers in hex, separated by commas,
// with the second list after an underscore if there is one. Nothing at all is
// written as zeros.
func ja4Hash(numbers, then []uint16) string {
	if len(numbers) == 0 {
		return "000000000000"
	}
	b := appendHexList(make([]byte, 0, 256), numbers)
	if len(then) > 0 {
		b = appendHexList(append(b, '_'), then)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}

func appendHexList(b []byte, numbers []uint16) []byte {
	for i, n := range numbers {
		if i > 0 {
			b = append(b, ',')
		}
		b = hex.AppendEncode(b, binary.BigEndian.AppendUint16(nil, n))
	}
	return b
}

// ja4Version is the highest version of supported_versions, and the legacy version
// only where the extension is missing.
func ja4Version(h *ClientHello) string {
	version := h.Version
	if h.Has(extSupportedVersions) {
		version = h.MaxVersion()
	}
	switch version {
	case VersionTLS13:
		return "13"
	case VersionTLS12:
		return "12"
	case VersionTLS11:
		return "11"
	case VersionTLS10:
		return "10"
	case VersionSSL30:
		return "s3"
	case 0x0002:
		return "s2"
	}
	return "00"
}

// ja4ALPN is the first and the last character of the first protocol, or of its
// hex form where one of the two is not a letter or a digit.
func ja4ALPN(h *ClientHello) string {
	if len(h.ALPN) == 0 || h.ALPN[0] == "" {
		return "00"
	}
	name := h.ALPN[0]
	if !alphanumeric(name[0]) || !alphanumeric(name[len(name)-1]) {
		name = hex.EncodeToString([]byte(name))
	}
	return string([]byte{name[0], name[len(name)-1]})
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}
