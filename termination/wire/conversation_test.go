package wire

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"reflect"
	"slices"
	"testing"

	"countersign/termination/tlstest"
)

// listen feeds what each side said, the server first, in pieces of this size. The
// client's ClientHello is left out, as it was read before.
func listenTo(t testing.TB, f flight, size int) *Conversation {
	t.Helper()
	c := new(Conversation)
	_, hello, err := ReadClientHello(bytes.NewReader(f.client), 0)
	if err != nil {
		t.Fatal(err)
	}
	for p := range slices.Chunk(f.server, size) {
		c.FromServer(p)
	}
	for p := range slices.Chunk(f.client[len(hello):], size) {
		c.FromClient(p)
	}
	return c
}

func TestConversation(t *testing.T) {
	ca, other := tlstest.NewCA(), tlstest.NewCA(tlstest.CN("Other"))
	alice := ca.Client("alice")
	asks := func(version uint16) *tls.Config {
		return &tls.Config{MinVersion: version, MaxVersion: version, ClientAuth: tls.RequireAnyClientCert}
	}
	with := func() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{alice.TLS()}} }
	for name, c := range map[string]struct {
		server, client *tls.Config
		chains         [2]int // certificates seen of server and client
		asks           bool
		goesOn, short  bool
		alerts         [2]int // of server and client, -1: none
	}{
		"TLS 1.2":                {&tls.Config{MaxVersion: tls.VersionTLS12}, &tls.Config{}, [2]int{1, 0}, false, true, false, [2]int{-1, -1}},
		"TLS 1.2 asks":           {asks(tls.VersionTLS12), with(), [2]int{1, 1}, true, true, false, [2]int{-1, -1}},
		"TLS 1.2 asks in vain":   {asks(tls.VersionTLS12), &tls.Config{}, [2]int{1, 0}, true, true, false, [2]int{40, -1}},
		"TLS 1.2 client refuses": {&tls.Config{MaxVersion: tls.VersionTLS12}, &tls.Config{RootCAs: other.Pool()}, [2]int{1, 0}, false, false, false, [2]int{-1, 42}},
		"TLS 1.3":                {&tls.Config{}, &tls.Config{}, [2]int{}, false, true, false, [2]int{-1, -1}},
		"TLS 1.3 asks":           {asks(tls.VersionTLS13), with(), [2]int{}, false, true, false, [2]int{-1, -1}},
		"TLS 1.3 client refuses": {&tls.Config{}, &tls.Config{RootCAs: other.Pool()}, [2]int{}, false, true, true, [2]int{-1, -1}},
		"TLS 1.3 after retry":    {&tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP384}}, &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP384}}, [2]int{}, false, true, false, [2]int{-1, -1}},
		"server refuses at once": {&tls.Config{MinVersion: tls.VersionTLS13}, &tls.Config{MaxVersion: tls.VersionTLS12}, [2]int{}, false, false, false, [2]int{70, -1}},
	} {
		t.Run(name, func(t *testing.T) {
			f := handshakes(t, c.server, c.client, 1)[0]
			for _, size := range []int{1, 3, 64, 1 << 16} {
				conversation := listenTo(t, f, size)
				s := conversation.Seen()
				if len(s.ServerCertificates) != c.chains[0] || len(s.ClientCertificates) != c.chains[1] || s.AsksForCertificate != c.asks {
					t.Errorf("in pieces of %d: %d and %d certificates, asks %v", size, len(s.ServerCertificates), len(s.ClientCertificates), s.AsksForCertificate)
				}
				if s.ClientWentOn != c.goesOn || s.ClientShort != c.short {
					t.Errorf("in pieces of %d: goes on %v, short %v", size, s.ClientWentOn, s.ClientShort)
				}
				for i, alert := range []*Alert{s.ServerAlert, s.ClientAlert} {
					if want := c.alerts[i]; (alert != nil) != (want >= 0) || alert != nil && int(alert.Description) != want {
						t.Errorf("in pieces of %d: alert %d is %v, want %d", size, i, alert, want)
					}
				}
				if gaveUp := c.alerts != [2]int{-1, -1}; conversation.Over() != gaveUp {
					t.Errorf("in pieces of %d: over %v", size, conversation.Over())
				}
			}
		})
	}
	f := handshakes(t, asks(tls.VersionTLS12), with(), 1)[0]
	s := listenTo(t, f, 100).Seen()
	leaf, err := x509.ParseCertificate(s.ClientCertificates[0])
	if err != nil || leaf.Subject.CommonName != "alice" {
		t.Errorf("the client's certificate is %v, %v", leaf, err)
	}
}

// A resumed session shows no certificates in any version, and is seen to the end.
func TestConversationResumed(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		flights := handshakes(t, &tls.Config{MaxVersion: version}, &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(1)}, 2)
		s := listenTo(t, flights[1], 50).Seen()
		if len(s.ServerCertificates) != 0 || !s.ClientWentOn || s.Hello == nil || s.Sealed() != (version == tls.VersionTLS13) {
			t.Errorf("%s: %+v", VersionName(version), s)
		}
	}
}

func TestConversationGivesUp(t *testing.T) {
	hello := record(22, serverHello(VersionTLS12))
	for name, c := range map[string]struct {
		server, client []byte
		over           bool
	}{
		"server speaks HTTP":           {[]byte("HTTP/1.1 400 Bad Request\r\n"), nil, true},
		"client speaks HTTP":           {hello, []byte("GET / HTTP/1.1\r\n"), true},
		"client plays server":          {hello, record(22, serverHello(VersionTLS12)), true},
		"a warning":                    {hello, record(21, []byte{1, 112}), false},
		"a warning that it goes":       {hello, record(21, []byte{1, 90}), true},
		"an alert of one byte":         {hello, record(21, []byte{2}), false},
		"an encrypted alert":           {hello, record(21, make([]byte, 26)), false},
		"early data before the server": {nil, record(23, make([]byte, 19)), false},
		"cipher change alone":          {nil, record(20, []byte{1}), false},
	} {
		conversation := new(Conversation)
		conversation.FromServer(c.server)
		conversation.FromClient(c.client)
		if conversation.Over() != c.over {
			t.Errorf("%s: over %v", name, conversation.Over())
		}
		if s := conversation.Seen(); s.ClientWentOn || s.ClientShort {
			t.Errorf("%s: %+v", name, s)
		}
	}

	conversation := new(Conversation)
	endless := record(22, append([]byte{16, 0xff, 0xff, 0xff}, make([]byte, 16000)...))
	fed := 0
	for conversation.FromClient(endless) && fed < 1000 {
		endless = record(22, make([]byte, 16000))
		fed++
	}
	if fed == 0 || fed > maxWatched/16000+1 || conversation.Over() {
		t.Errorf("watched %d records of an endless message", fed)
	}
}

func TestParseCertificates(t *testing.T) {
	for name, c := range map[string]struct {
		body []byte
		want int
	}{
		"none":            {[]byte{0, 0, 0}, 0},
		"nothing":         {nil, 0},
		"one":             {[]byte{0, 0, 4, 0, 0, 1, 7}, 1},
		"one and a half":  {[]byte{0, 0, 6, 0, 0, 1, 7, 0, 0}, 1},
		"an empty one":    {[]byte{0, 0, 3, 0, 0, 0}, 0},
		"longer than all": {[]byte{0, 0, 9, 0, 0, 1, 7}, 0},
		"a tail":          {[]byte{0, 0, 4, 0, 0, 1, 7, 9}, 0},
		"too many":        {append([]byte{0, 0, 80}, bytes.Repeat([]byte{0, 0, 1, 7}, 20)...), maxChain},
	} {
		if got := parseCertificates(c.body); len(got) != c.want {
			t.Errorf("%s: %d certificates", name, len(got))
		}
	}
}

func FuzzConversation(f *testing.F) {
	ca := tlstest.NewCA()
	for _, config := range []*tls.Config{
		{},
		{MaxVersion: tls.VersionTLS12},
		{MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert},
		{CurvePreferences: []tls.CurveID{tls.CurveP384}},
	} {
		client := &tls.Config{Certificates: []tls.Certificate{ca.Client("alice").TLS()}, CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP384}}
		for _, flight := range handshakes(f, config, client, 1) {
			_, hello, err := ReadClientHello(bytes.NewReader(flight.client), 0)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(flight.server, flight.client[len(hello):], 1)
			f.Add(flight.server, flight.client[len(hello):], 100)
		}
	}
	f.Add(record(22, serverHello(VersionTLS12)), record(22, []byte{11, 0, 0, 7, 0, 0, 4, 0, 0, 1, 7}), 2)
	f.Add(record(22, serverHello(VersionTLS12)), record(21, []byte{2, 48}), 2)
	f.Fuzz(func(t *testing.T, server, client []byte, size int) {
		if size < 1 || len(server)+len(client) > maxWatched {
			return
		}
		var whole, pieces Conversation
		whole.FromServer(server)
		whole.FromClient(client)
		for p := range slices.Chunk(server, size) {
			pieces.FromServer(p)
		}
		for p := range slices.Chunk(client, size) {
			pieces.FromClient(p)
		}
		if a, b := whole.Seen(), pieces.Seen(); !reflect.DeepEqual(a, b) {
			t.Errorf("%+v whole, %+v in pieces", a, b)
		}
		if whole.Over() != pieces.Over() {
			t.Errorf("over: %v whole, %v in pieces", whole.Over(), pieces.Over())
		}
		if n := cap(whole.client.messages.body) + cap(whole.server.messages.body); n > 4*maxCertificates {
			t.Errorf("%d bytes kept", n)
		}
	})
}
