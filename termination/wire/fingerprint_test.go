package wire

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The examples of github.com/salesforce/ja3 (README.md and python/README.rst).
func TestJA3(t *testing.T) {
	for text, want := range map[string]string{
		"769,47-53-5-10-49161-49162-49171-49172-50-56-19-4,0-10-11,23-24-25,0": "ada70206e40642a3e4461f35503241d5",
		"769,4-5-10-9-100-98-3-6-19-18-99,,,":                                  "de350869b8c85de67a350c8d186f11e6",
		"769,255-49162-49172-136-135-57-56-49167-49157-132-53-49159-49161-49169-49171-69-68-51-50-49164-49166-49154-49156-150-65-4-5-47-49160-49170-22-19-49165-49155-65279-10,0-10-11-35,23-24-25,0": "2aef69b4ba1938c3a400de4188743185",
	} {
		hello := fromJA3(t, text)
		if gotText, got := JA3(hello); gotText != text || got != want {
			t.Errorf("got %s %s, want %s %s", gotText, got, text, want)
		}
		// GREASE does not count, wherever it stands.
		hello.CipherSuites = slices.Insert(hello.CipherSuites, 0, 0x0a0a)
		hello.Extensions = append(hello.Extensions, 0xfafa)
		hello.Groups = append(hello.Groups, 0x5a5a)
		if _, got := JA3(hello); got != want {
			t.Errorf("with GREASE: %s, want %s", got, want)
		}
	}
}

func fromJA3(t *testing.T, text string) *ClientHello {
	t.Helper()
	lists := make([][]uint16, 5)
	for i, field := range strings.Split(text, ",") {
		for number := range strings.SplitSeq(field, "-") {
			if number == "" {
				continue
			}
			n, err := strconv.ParseUint(number, 10, 16)
			if err != nil {
				t.Fatal(err)
			}
			lists[i] = append(lists[i], uint16(n))
		}
	}
	h := &ClientHello{Version: lists[0][0], CipherSuites: lists[1], Extensions: lists[2], Groups: lists[3]}
	for _, p := range lists[4] {
		h.PointFormats = append(h.PointFormats, byte(p))
	}
	return h
}

// Fingerprints that github.com/FoxIO-LLC/ja4 publishes with their raw forms in
// original order (technical_details/JA4.md and python/test/testdata).
func TestJA4(t *testing.T) {
	for raw, want := range map[string]string{
		"t13d1516h2_1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035_001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015_0403,0804,0401,0503,0805,0501,0806,0601":                                                                                                                              "t13d1516h2_8daaf6152771_e5627efa2ab1",
		"t13d1517h1_1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035_0000,0017,0005,002b,0012,0023,000a,0033,0010,002d,001b,4469,000b,000d,ff01,0015,0029_0403,0804,0401,0503,0805,0501,0806,0601":                                                                                                                         "t13d1517h1_8daaf6152771_6cdcb247c39b",
		"t13d151400_1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035_0033,002b,001b,0000,0012,002d,000d,000a,0005,0023,0017,ff01,000b,0015_0403,0804,0401,0503,0805,0501,0806,0601":                                                                                                                                        "t13d151400_8daaf6152771_de4a06bb82e3",
		"t13d1715h2_1301,1303,1302,c02b,c02f,cca9,cca8,c02c,c030,c00a,c009,c013,c014,009c,009d,002f,0035_0000,0017,ff01,000a,000b,0023,0010,0005,0022,0033,002b,000d,002d,001c,0015_0403,0503,0603,0804,0805,0806,0401,0501,0601,0203,0201":                                                                                                          "t13d1715h2_5b57614c22b0_3d5424432f57",
		"t12d4605h2_c030,c02c,c028,c024,c014,c00a,009f,006b,0039,cca9,cca8,ccaa,ff85,00c4,0088,0081,009d,003d,0035,00c0,0084,c02f,c02b,c027,c023,c013,c009,009e,0067,0033,00be,0045,009c,003c,002f,00ba,0041,c011,c007,0005,0004,c012,c008,0016,000a,00ff_0000,000b,000a,000d,0010_0601,0603,efef,0501,0503,0401,0403,eeee,eded,0301,0303,0201,0203": "t12d4605h2_85626a9a5f7f_aaf95bb78ec9",
		"t12d190800_c02c,c02b,c030,c02f,c024,c023,c028,c027,c00a,c009,c014,c013,009d,009c,003d,003c,0035,002f,000a_0000,0005,000a,000b,000d,0023,0017,ff01_0804,0805,0806,0401,0501,0201,0403,0503,0203,0202,0601,0603":                                                                                                                              "t12d190800_d83cc789557e_7af1ed941c26",
		"t10d230100_0039,0038,0035,0016,0013,000a,0033,0032,002f,009a,0099,0096,0005,0004,0015,0012,0009,0014,0011,0008,0006,0003,00ff_0000":                                                                                                                                                                                                         "t10d230100_6a57a6f57151_000000000000",
	} {
		hello := fromJA4(t, raw)
		if got := JA4(hello); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		hello.CipherSuites = slices.Insert(hello.CipherSuites, 0, 0x0a0a)
		hello.Extensions = append(hello.Extensions, 0xfafa)
		hello.SignatureSchemes = append(hello.SignatureSchemes, 0x2a2a)
		if len(hello.SupportedVersions) > 0 {
			hello.SupportedVersions = slices.Insert(hello.SupportedVersions, 0, 0xdada)
		}
		if got := JA4(hello); got != want {
			t.Errorf("with GREASE:\ngot  %s\nwant %s", got, want)
		}
	}
}

// fromJA4 makes a hello from a raw fingerprint in original order.
func fromJA4(t *testing.T, raw string) *ClientHello {
	t.Helper()
	fields := append(strings.Split(raw, "_"), "")
	head := fields[0]
	list := func(s string) (numbers []uint16) {
		for n := range strings.SplitSeq(s, ",") {
			if n == "" {
				continue
			}
			v, err := strconv.ParseUint(n, 16, 16)
			if err != nil {
				t.Fatal(err)
			}
			numbers = append(numbers, uint16(v))
		}
		return numbers
	}
	h := &ClientHello{CipherSuites: list(fields[1]), Extensions: list(fields[2]), SignatureSchemes: list(fields[3])}
	h.Version = map[string]uint16{"10": VersionTLS10, "12": VersionTLS12, "13": VersionTLS12}[head[1:3]]
	if head[1:3] == "13" {
		h.SupportedVersions = []uint16{VersionTLS12, VersionTLS13, VersionTLS11}
	}
	if alpn := head[8:]; alpn != "00" {
		h.ALPN = []string{map[string]string{"h1": "http/1.1"}[alpn], "h2"}
		if h.ALPN[0] == "" {
			h.ALPN = h.ALPN[1:]
		}
	}
	return h
}

func TestJA4Heads(t *testing.T) {
	many := make([]uint16, 150)
	for i := range many {
		many[i] = uint16(i + 0x3000)
	}
	versions := func(v ...uint16) ClientHello {
		return ClientHello{Version: VersionTLS12, SupportedVersions: v, Extensions: []uint16{extSupportedVersions}}
	}
	alpn := func(name string) ClientHello { return ClientHello{Version: VersionTLS12, ALPN: []string{name}} }
	for want, hello := range map[string]ClientHello{
		"t12i000000_": {Version: VersionTLS12},
		"t12i999900_": {Version: VersionTLS12, CipherSuites: many, Extensions: many},
		"t12i060000_": {Version: VersionTLS12, CipherSuites: many[:6]},
		"s30":         {},
		"ts3i000000_": {Version: VersionSSL30},
		"ts2i000000_": {Version: 0x0002},
		"t11i000000_": {Version: VersionTLS11},
		"t00i000000_": {Version: 0x0399},
		"t00i000100_": versions(0x1a1a),
		"t13i000100_": versions(VersionTLS12, VersionTLS13),
		// The examples of JA4.md.
		"t12i0000ab_": alpn("\xab"),
		"t12i000020_": alpn("\x20"),
		"t12i0000ad_": alpn("\xab\xcd"),
		"t12i000021_": alpn("\x20\x61"),
		"t12i00003b_": alpn("\x30\xab"),
		"t12i000060_": alpn("\x61\x20"),
		"t12i00003d_": alpn("\x30\x31\xab\xcd"),
		"t12i000001_": alpn("\x30\xab\xcd\x31"),
		"t12i0000xx_": alpn("x"),
	} {
		if want == "s30" {
			want = "t00i000000_"
		}
		if got := JA4(&hello); !strings.HasPrefix(got, want) {
			t.Errorf("got %s, want %s…", got, want)
		}
	}
	// Only what is in the head already: nothing is left to hash.
	if got := JA4(&ClientHello{Version: VersionTLS12, Extensions: []uint16{extServerName, extALPN}, ALPN: []string{"h2"}}); got != "t12d0002h2_000000000000_000000000000" {
		t.Error(got)
	}
}

// What real clients are known by. All extensions of a client count, not their
// order, so that a browser has one JA4 however it shuffles.
func TestFingerprintsOfRecordedHellos(t *testing.T) {
	hellos := recorded(t)
	for name, want := range map[string]string{
		"curl-default":    "t13d3112h2_",
		"curl-http1":      "t13d3112h1_",
		"openssl-default": "t13d311000_",
		"openssl-tls10":   "t10d",
		"openssl-noname":  "t13i0409",
		"chromium":        "t13d1517h2_8daaf6152771_",
	} {
		h, _, err := ReadClientHello(bytes.NewReader(hellos[name]), 0)
		if err != nil {
			t.Fatal(err)
		}
		got := JA4(h)
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s…", name, got, want)
		}
		if head := fmt.Sprintf("%02d%02d", len(ja4List(h.CipherSuites)), len(ja4List(h.Extensions))); got[4:8] != head {
			t.Errorf("%s: %s does not count %s", name, got, head)
		}
		slices.Reverse(h.Extensions)
		slices.Reverse(h.CipherSuites)
		if JA4(h) != got {
			t.Errorf("%s: the order matters", name)
		}
	}
}
