package wire

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"
	"strings"
	"testing"

	"countersign/termination/tlstest"
)

// A pool that trusts nobody makes a crypto/tls client send its alert.
func nobody() *x509.CertPool { return x509.NewCertPool() }

func TestTapSeesPlaintextAlerts(t *testing.T) {
	// crypto/tls encrypts its alert where it can: TLS 1.3 after the server's
	// hello.
	flights := handshakes(t, &tls.Config{}, &tls.Config{RootCAs: nobody()}, 1)
	var tap Tap
	if tap.Feed(flights[0].client) {
		t.Error("goes on when all is encrypted")
	}
	if alert, seen := tap.Alert(); seen {
		t.Errorf("saw %v in what was encrypted", alert)
	}

	flights = handshakes(t, &tls.Config{MaxVersion: tls.VersionTLS12}, &tls.Config{RootCAs: nobody()}, 1)
	for _, size := range []int{1, 2, 6, 1000} {
		var tap Tap
		for p := range slices.Chunk(flights[0].client, size) {
			tap.Feed(p)
		}
		if alert, seen := tap.Alert(); !seen || alert != (Alert{LevelFatal, 42}) {
			t.Errorf("in pieces of %d: %v, %v", size, alert, seen)
		}
	}
}

// The case that the tap is for: OpenSSL distrusts the server's certificate in TLS
// 1.3 and says so in plaintext, of which crypto/tls makes a bad record MAC.
func TestTapHearsOpenSSL(t *testing.T) {
	ca := tlstest.NewCA()
	result := make(chan error, 1)
	var tap Tap
	addr := tlstest.ServeOnce(t, func(conn net.Conn) {
		s := tls.Server(tapped{conn, &tap}, &tls.Config{Certificates: []tls.Certificate{ca.Server("api.example.com").TLS()}})
		result <- s.Handshake()
	})
	files := tlstest.NewCA().WriteFiles(t, t.TempDir())
	out := tlstest.OpenSSL(t, "s_client", "-connect", addr, "-servername", "api.example.com", "-verify_return_error", "-CAfile", files.Root)
	if !out.Has("certificate verify failed") {
		t.Fatalf("openssl says otherwise: %s", out.Output())
	}
	if err := <-result; err == nil || !strings.Contains(err.Error(), "bad record MAC") {
		t.Errorf("crypto/tls now says %v: the tap may no longer be needed", err)
	}
	if alert, seen := tap.Alert(); !seen || alert.String() != "unknown_ca" {
		t.Errorf("%v, %v", alert, seen)
	}
}

type tapped struct {
	net.Conn
	tap *Tap
}

func (c tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.tap.Feed(p[:n])
	return n, err
}

func TestTap(t *testing.T) {
	alert := record(21, []byte{2, 48})
	for name, c := range map[string]struct {
		raw  []byte
		want *Alert
		more bool
	}{
		"nothing":            {nil, nil, true},
		"alert":              {alert, &Alert{2, 48}, true},
		"the last counts":    {slices.Concat(record(21, []byte{1, 90}), alert), &Alert{2, 48}, true},
		"half an alert":      {alert[:6], nil, true},
		"after a handshake":  {slices.Concat(record(22, make([]byte, 300)), record(20, []byte{1}), alert), &Alert{2, 48}, true},
		"encrypted":          {record(21, make([]byte, 26)), nil, true},
		"three bytes":        {record(21, make([]byte, 3)), nil, true},
		"empty records":      {slices.Concat(record(22, nil), record(21, nil), alert), &Alert{2, 48}, true},
		"after the data":     {slices.Concat(record(23, []byte("x")), alert), nil, false},
		"looks like one":     {record(22, alert), nil, true},
		"not TLS":            {[]byte("GET / HTTP/1.1\r\n\r\n"), nil, false},
		"not TLS any more":   {slices.Concat(alert, []byte("garbage")), &Alert{2, 48}, false},
		"other version":      {[]byte{21, 2, 0, 0, 2, 2, 48}, nil, false},
		"record of too much": {[]byte{22, 3, 3, 0xff, 0xff}, nil, false},
	} {
		for size := 1; size <= max(1, len(c.raw)); size++ {
			var tap Tap
			more := true
			for p := range slices.Chunk(c.raw, size) {
				more = tap.Feed(p)
			}
			got, seen := tap.Alert()
			if seen != (c.want != nil) || seen && got != *c.want || more != c.more {
				t.Errorf("%s in pieces of %d: %v %v, more %v", name, size, got, seen, more)
			}
		}
	}
}

func FuzzTap(f *testing.F) {
	f.Add(slices.Concat(record(22, []byte("abc")), record(21, []byte{2, 48}), record(23, []byte("x"))), 1)
	f.Add(slices.Concat(record(21, nil), record(21, []byte{1, 0})), 3)
	f.Add([]byte("GET / HTTP/1.1"), 2)
	f.Fuzz(func(t *testing.T, raw []byte, size int) {
		if size < 1 || size > 1<<16 {
			return
		}
		var whole, pieces Tap
		whole.Feed(raw)
		for p := range slices.Chunk(raw, size) {
			pieces.Feed(p)
		}
		if whole.alert != pieces.alert || whole.seen != pieces.seen || whole.ended != pieces.ended {
			t.Errorf("%+v whole, %+v in pieces", whole, pieces)
		}
	})
}

func TestTapAllocatesNothing(t *testing.T) {
	raw := slices.Concat(record(22, make([]byte, 1000)), record(21, []byte{1, 90}), record(22, make([]byte, 1000)))
	if n := testing.AllocsPerRun(100, func() {
		var tap Tap
		for p := range slices.Chunk(raw, 100) {
			tap.Feed(p)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
