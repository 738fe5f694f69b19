package wire

import (
	"bytes"
	"crypto/tls"
	"slices"
	"testing"
)

func BenchmarkReadClientHello(b *testing.B) {
	hellos := recorded(b)
	hellos["go"] = firstFlight(b, &tls.Config{ServerName: "api.example.com", NextProtos: []string{"h2", "http/1.1"}})
	hellos["go-byte-records"] = records(hellos["go"][recordHeaderLen:], 1)
	hellos["64KiB-byte-records"] = records(goodParts().with(21, make([]byte, 65000)...).message(), 1)
	for _, name := range []string{"go", "curl-default", "chromium", "go-byte-records", "64KiB-byte-records"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(hellos[name])))
			r := bytes.NewReader(nil)
			for b.Loop() {
				r.Reset(hellos[name])
				if _, _, err := ReadClientHello(r, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFingerprint(b *testing.B) {
	h, _, err := ReadClientHello(bytes.NewReader(recorded(b)["chromium"]), 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("JA3", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			JA3(h)
		}
	})
	b.Run("JA4", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			JA4(h)
		}
	})
}

func BenchmarkTap(b *testing.B) {
	handshake := slices.Concat(record(22, make([]byte, 1200)), record(20, []byte{1}), record(22, make([]byte, 40)))
	b.Run("handshake", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var tap Tap
			tap.Feed(handshake)
		}
	})
	b.Run("data after it", func(b *testing.B) {
		var tap Tap
		data := record(23, make([]byte, 16000))
		tap.Feed(data)
		b.ReportAllocs()
		for b.Loop() {
			tap.Feed(data)
		}
	})
}
