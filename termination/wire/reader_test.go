package wire

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestRecordedHellos(t *testing.T) {
	for name, raw := range recorded(t) {
		// Only the hello is to be read, whatever follows it.
		size := recordHeaderLen + int(raw[3])<<8 + int(raw[4])
		h, got, err := ReadClientHello(&strict{t, bytes.NewReader(raw), size}, 0)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(got, raw[:size]) {
			t.Errorf("%s: raw has %d bytes, want %d", name, len(got), size)
		}
		if h.Size != size-recordHeaderLen || h.Records != 1 {
			t.Errorf("%s: size %d in %d records", name, h.Size, h.Records)
		}
		wantName := "api.example.com"
		if strings.HasSuffix(name, "-ip") || strings.HasSuffix(name, "-noname") {
			wantName = ""
		}
		if h.ServerName != wantName {
			t.Errorf("%s: server name %q", name, h.ServerName)
		}
		if grease := name == "chromium"; h.HasGREASE() != grease || h.ECH != grease || h.PostQuantum() != grease {
			t.Errorf("%s: GREASE %v, ECH %v, post-quantum %v", name, h.HasGREASE(), h.ECH, h.PostQuantum())
		}
		wantVersion := map[bool]uint16{true: VersionTLS12, false: VersionTLS13}[strings.HasSuffix(name, "12")]
		if strings.HasSuffix(name, "10") {
			wantVersion = VersionTLS10
		}
		if h.MaxVersion() != wantVersion {
			t.Errorf("%s: at most %s", name, VersionName(h.MaxVersion()))
		}
		var wantALPN []string
		switch name {
		case "openssl-alpn", "curl-default", "curl-ip", "curl-tls12", "chromium", "node":
			wantALPN = []string{"h2", "http/1.1"}
		case "curl-http1":
			wantALPN = []string{"http/1.1"}
		}
		if !slices.Equal(h.ALPN, wantALPN) {
			t.Errorf("%s: ALPN %q", name, h.ALPN)
		}
		if resumes := strings.Contains(name, "resume") || strings.Contains(name, "early"); h.OffersResumption() != resumes {
			t.Errorf("%s: %d PSKs, a ticket of %d bytes", name, h.PSKs, h.TicketSize)
		}
		if h.EarlyData != strings.Contains(name, "early") {
			t.Errorf("%s: early data %v", name, h.EarlyData)
		}
		if h.OCSP != slices.Contains([]string{"openssl-alpn", "chromium", "java", "wget-gnutls-ip"}, name) {
			t.Errorf("%s: OCSP %v", name, h.OCSP)
		}
	}
}

func TestHelloInDetail(t *testing.T) {
	p := goodParts()
	p.sessionID = []byte{1, 2, 3}
	p = p.with(extECPointFormats, 1, 0).with(extALPN, list16(2, 'h', '2', 3, 'f', 'o', 'o')...).
		with(extSignatureAlgorithmsCert, list16(8, 4)...).with(extKeyShare, list16(0, 29, 0, 1, 9, 0x0a, 0x0a, 0, 1, 9)...).
		with(extPSKModes, 1, 1).with(extCookie, list16(1)...).with(extSessionTicket, 1, 2).with(extEarlyData).
		with(extStatusRequest, 1, 0, 0, 0, 0).with(extExtendedMasterSecret).with(extSCT).with(extRenegotiationInfo, 0).
		with(extECH, 0, 0, 1, 0, 1, 7, 0, 0, 0, 1, 9).with(0x1234, 'x').
		with(extPreSharedKey, 0, 7, 0, 1, 'l', 0, 0, 0, 1, 0, 2, 1, 'b')
	h, err := ParseClientHello(p.message())
	if err != nil {
		t.Fatal(err)
	}
	for what, ok := range map[string]bool{
		"version":         h.Version == VersionTLS12 && slices.Equal(h.Versions(), []uint16{VersionTLS13}),
		"random":          h.Random[0] == 7 && h.Random[31] == 7,
		"session":         bytes.Equal(h.SessionID, []byte{1, 2, 3}),
		"suites":          slices.Equal(h.CipherSuites, []uint16{0x1301, 0xc02f}),
		"compression":     bytes.Equal(h.Compression, []byte{0}),
		"extensions":      slices.Equal(h.Extensions, []uint16{0, 10, 43, 13, 11, 16, 50, 51, 45, 44, 35, 42, 5, 23, 18, 0xff01, 0xfe0d, 0x1234, 41}),
		"name":            h.ServerName == "api.example.com",
		"ALPN":            slices.Equal(h.ALPN, []string{"h2", "foo"}),
		"groups":          slices.Equal(h.Groups, []uint16{29}),
		"key shares":      slices.Equal(h.KeyShares, []uint16{29, 0x0a0a}) && h.HasGREASE(),
		"signatures":      slices.Equal(h.SignatureSchemes, []uint16{0x0403}),
		"signatures cert": slices.Equal(h.SignatureSchemesCert, []uint16{0x0804}),
		"points":          bytes.Equal(h.PointFormats, []byte{0}),
		"PSK":             h.PSKs == 1 && bytes.Equal(h.PSKModes, []byte{1}),
		"ticket":          h.TicketSupported && h.TicketSize == 2,
		"flags":           h.EarlyData && h.Cookie && h.OCSP && h.ECH,
	} {
		if !ok {
			t.Errorf("%s is wrong: %+v", what, h)
		}
	}
}

// However a hello is cut, it says the same; and nothing after it is read.
func TestFragments(t *testing.T) {
	padded := goodParts().with(21, make([]byte, 40000)...).message()
	for name, message := range map[string][]byte{"small": goodParts().message(), "40 KB": padded} {
		want, err := ParseClientHello(message)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{1, 2, 3, 4, 5, 7, 64, 1000, maxPlaintext} {
			raw := records(message, size)
			for way, r := range map[string]io.Reader{
				"whole":       bytes.NewReader(raw),
				"byte wise":   iotest.OneByteReader(bytes.NewReader(raw)),
				"half reads":  iotest.HalfReader(bytes.NewReader(raw)),
				"data error":  iotest.DataErrReader(bytes.NewReader(raw)),
				"more behind": io.MultiReader(bytes.NewReader(raw), strings.NewReader("early data")),
			} {
				h, got, err := ReadClientHello(&strict{t, r, len(raw)}, 0)
				if err != nil {
					t.Errorf("%s, records of %d, %s: %v", name, size, way, err)
					continue
				}
				if h.ServerName != want.ServerName || h.Size != want.Size || !slices.Equal(h.Extensions, want.Extensions) {
					t.Errorf("%s, records of %d, %s: another hello", name, size, way)
				}
				if !bytes.Equal(got, raw) || h.Records != (len(message)+size-1)/size {
					t.Errorf("%s, records of %d, %s: %d bytes in %d records", name, size, way, len(got), h.Records)
				}
			}
		}
	}
}

// Reads are few even when records are many: the client pays for tiny records, not
// the gateway.
func TestTinyRecordsTakeFewReads(t *testing.T) {
	raw := records(goodParts().with(21, make([]byte, 60000)...).message(), 1)
	reads := 0
	r := bytes.NewReader(raw)
	_, got, err := ReadClientHello(readerFunc(func(p []byte) (int, error) {
		reads++
		return r.Read(p)
	}), 0)
	if err != nil || len(got) != len(raw) {
		t.Fatalf("%d bytes of %d: %v", len(got), len(raw), err)
	}
	if reads > 200 {
		t.Errorf("%d reads for %d records", reads, len(raw)/6)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestLimit(t *testing.T) {
	message := goodParts().with(21, make([]byte, 500)...).message()
	for name, c := range map[string]struct {
		limit int
		fits  bool
	}{
		"exactly":  {len(message), true},
		"one over": {len(message) - 1, false},
		"default":  {0, true},
	} {
		_, _, err := ReadClientHello(bytes.NewReader(records(message, 100)), c.limit)
		if fits := err == nil; fits != c.fits {
			t.Errorf("%s: %v", name, err)
		}
	}

	// A hello that says that it is too large is refused at its first bytes.
	for name, message := range map[string][]byte{
		"just over": {typeClientHello, 1, 0, 0},
		"16 MB":     {typeClientHello, 0xff, 0xff, 0xff},
	} {
		for _, size := range []int{1, 4} {
			raw := records(message, size)
			hello, got, err := ReadClientHello(&strict{t, io.MultiReader(bytes.NewReader(raw), endless{}), 30}, 0)
			if he, ok := errors.AsType[*HelloError](err); !ok || hello != nil || !errors.Is(err, ErrHelloTooLarge) || he.Alert != AlertIllegalParameter {
				t.Errorf("%s: %v", name, err)
			}
			if !bytes.HasPrefix(got, raw) {
				t.Errorf("%s: raw is %x", name, got)
			}
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestRefusals(t *testing.T) {
	good := goodParts()
	message := good.message()
	psk := []byte{0, 7, 0, 1, 'l', 0, 0, 0, 1, 0, 2, 1, 'b'}
	part := func(change func(*parts)) []byte {
		p := goodParts()
		change(&p)
		return record(recordHandshake, p.message())
	}
	ext := func(id uint16, data ...byte) []byte { return record(recordHandshake, good.with(id, data...).message()) }

	for name, c := range map[string]struct {
		raw    []byte
		alert  uint8
		reason string
	}{
		// Records (RFC 8446 section 5.1).
		"empty record":           {[]byte{22, 3, 1, 0, 0}, AlertUnexpectedMessage, "empty"},
		"empty record inside":    {slices.Concat(record(22, message[:9]), record(22, nil), record(22, message[9:])), AlertUnexpectedMessage, "empty"},
		"alert inside":           {slices.Concat(record(22, message[:9]), record(21, []byte{1, 0}), record(22, message[9:])), AlertUnexpectedMessage, "type 21"},
		"application data":       {slices.Concat(record(22, message[:9]), record(23, []byte{1, 0})), AlertUnexpectedMessage, "type 23"},
		"change of cipher":       {slices.Concat(record(22, message[:9]), record(20, []byte{1})), AlertUnexpectedMessage, "type 20"},
		"record too long":        {[]byte{22, 3, 1, 0x40, 0x01, 1}, AlertRecordOverflow, "16385"},
		"version changes":        {slices.Concat(record(22, message[:9]), []byte{22, 4, 1, 0, 1, 1}), AlertProtocolVersion, "0x0401"},
		"bytes behind the hello": {record(22, append(slices.Clone(message), 0)), AlertUnexpectedMessage, "follow"},
		"other message":          {record(22, []byte{2, 0, 0, 0}), AlertUnexpectedMessage, "type 2"},
		"alert":                  {record(21, []byte{2, 48}), 0, "unknown_ca"},

		// The message.
		"no body":           {record(22, []byte{1, 0, 0, 0}), AlertDecodeError, "version"},
		"random cut":        {record(22, []byte{1, 0, 0, 5, 3, 3, 0, 0, 0}), AlertDecodeError, "random"},
		"session id too":    {part(func(p *parts) { p.sessionID = make([]byte, 33) }), AlertDecodeError, "session id"},
		"no suites":         {part(func(p *parts) { p.suites = nil }), AlertDecodeError, "cipher suites"},
		"half a suite":      {part(func(p *parts) { p.suites = []byte{1, 2, 3} }), AlertDecodeError, "cipher suites"},
		"no compression":    {part(func(p *parts) { p.compression = nil }), AlertDecodeError, "compression"},
		"extensions cut":    {part(func(p *parts) { p.bare, p.after = true, []byte{0, 5, 0, 0, 0, 0} }), AlertDecodeError, "extensions does not fit"},
		"one byte after":    {part(func(p *parts) { p.after = []byte{0} }), AlertDecodeError, "extensions does not fit"},
		"half an extension": {part(func(p *parts) { p.bare, p.after = true, []byte{0, 3, 0, 0, 0} }), AlertDecodeError, "ends half way"},
		"extension overrun": {part(func(p *parts) { p.bare, p.after = true, []byte{0, 5, 0, 0, 0, 9, 0} }), AlertDecodeError, "ends half way"},
		"extension twice":   {part(func(p *parts) { p.extensions = append(p.extensions, p.extensions[0]) }), AlertDecodeError, "server_name comes twice"},
		"GREASE twice":      {part(func(p *parts) { p.extensions = append(p.extensions, extension{0x0a0a, nil}, extension{0x0a0a, nil}) }), AlertDecodeError, "comes twice"},

		// server_name (RFC 6066 section 3).
		"empty SNI":              {ext(extServerName), AlertDecodeError, "server_name is malformed"},
		"empty list":             {ext(extServerName, 0, 0), AlertDecodeError, "empty list"},
		"empty name":             {ext(extServerName, sni("")...), AlertDecodeError, "empty name"},
		"two names":              {ext(extServerName, sni("a.example", "b.example")...), AlertDecodeError, "two host names"},
		"same name twice":        {ext(extServerName, sni("a.example", "a.example")...), AlertDecodeError, "two host names"},
		"trailing dot":           {ext(extServerName, sni("a.example.")...), AlertDecodeError, "trailing dot"},
		"only a dot":             {ext(extServerName, sni(".")...), AlertDecodeError, "trailing dot"},
		"name cut":               {ext(extServerName, 0, 4, 0, 0, 9, 'a'), AlertDecodeError, "server_name is malformed"},
		"bytes after the list":   {ext(extServerName, append(sni("a"), 0)...), AlertDecodeError, "server_name is malformed"},
		"empty other name":       {ext(extServerName, 0, 3, 1, 0, 0), AlertDecodeError, "empty name"},
		"list longer than it is": {ext(extServerName, 0, 9, 0, 0, 1, 'a'), AlertDecodeError, "server_name is malformed"},

		// Other extensions.
		"ALPN empty":             {ext(extALPN, 0, 0), AlertDecodeError, "application_layer"},
		"ALPN empty name":        {ext(extALPN, 0, 1, 0), AlertDecodeError, "application_layer"},
		"ALPN cut":               {ext(extALPN, 0, 2, 5, 'a'), AlertDecodeError, "application_layer"},
		"groups empty":           {ext(extSupportedGroups, 0, 0), AlertDecodeError, "supported_groups"},
		"groups odd":             {ext(extSupportedGroups, 0, 3, 0, 29, 0), AlertDecodeError, "supported_groups"},
		"groups and more":        {ext(extSupportedGroups, 0, 2, 0, 29, 0), AlertDecodeError, "supported_groups"},
		"versions empty":         {ext(extSupportedVersions, 0), AlertDecodeError, "supported_versions"},
		"versions odd":           {ext(extSupportedVersions, 1, 3), AlertDecodeError, "supported_versions"},
		"signatures empty":       {ext(extSignatureAlgorithms, 0, 0), AlertDecodeError, "signature_algorithms"},
		"signatures cert empty":  {ext(extSignatureAlgorithmsCert, 0, 0), AlertDecodeError, "signature_algorithms_cert"},
		"points empty":           {ext(extECPointFormats, 0), AlertDecodeError, "ec_point_formats"},
		"cookie empty":           {ext(extCookie, 0, 0), AlertDecodeError, "cookie"},
		"key share empty key":    {ext(extKeyShare, 0, 4, 0, 29, 0, 0), AlertDecodeError, "key_share"},
		"key share cut":          {ext(extKeyShare, 0, 3, 0, 29, 0), AlertDecodeError, "key_share"},
		"PSK modes cut":          {ext(extPSKModes, 2, 1), AlertDecodeError, "psk_key_exchange_modes"},
		"PSK not last":           {record(22, good.with(extPreSharedKey, psk...).with(0x1234).message()), AlertDecodeError, "not the last"},
		"PSK no identity":        {ext(extPreSharedKey, 0, 0, 0, 2, 1, 'b'), AlertDecodeError, "pre_shared_key"},
		"PSK empty identity":     {ext(extPreSharedKey, 0, 6, 0, 0, 0, 0, 0, 1, 0, 2, 1, 'b'), AlertDecodeError, "pre_shared_key"},
		"PSK no binder":          {ext(extPreSharedKey, 0, 7, 0, 1, 'l', 0, 0, 0, 1, 0, 0), AlertDecodeError, "pre_shared_key"},
		"PSK empty binder":       {ext(extPreSharedKey, 0, 7, 0, 1, 'l', 0, 0, 0, 1, 0, 1, 0), AlertDecodeError, "pre_shared_key"},
		"PSK and more":           {ext(extPreSharedKey, append(slices.Clone(psk), 0)...), AlertDecodeError, "pre_shared_key"},
		"early data with data":   {ext(extEarlyData, 0), AlertDecodeError, "early_data"},
		"EMS with data":          {ext(extExtendedMasterSecret, 0), AlertDecodeError, "extended_master_secret"},
		"SCT with data":          {ext(extSCT, 0), AlertDecodeError, "signed_certificate_timestamp"},
		"renegotiation cut":      {ext(extRenegotiationInfo, 2, 0), AlertDecodeError, "renegotiation_info"},
		"renegotiation and more": {ext(extRenegotiationInfo, 0, 0), AlertDecodeError, "renegotiation_info"},
		"status request cut":     {ext(extStatusRequest, 1, 0, 0), AlertDecodeError, "status_request"},
		"ECH empty":              {ext(extECH), AlertDecodeError, "encrypted_client_hello"},
		"ECH unknown kind":       {ext(extECH, 2), AlertDecodeError, "encrypted_client_hello"},
		"ECH inner with data":    {ext(extECH, 1, 0), AlertDecodeError, "encrypted_client_hello"},
		"ECH cut":                {ext(extECH, 0, 0, 1, 0, 1, 7, 0, 0), AlertDecodeError, "encrypted_client_hello"},
		"ECH without payload":    {ext(extECH, 0, 0, 1, 0, 1, 7, 0, 0, 0, 0), AlertDecodeError, "encrypted_client_hello"},
	} {
		t.Run(name, func(t *testing.T) {
			hello, raw, err := ReadClientHello(bytes.NewReader(c.raw), 0)
			he, ok := errors.AsType[*HelloError](err)
			if hello != nil || !ok || !errors.Is(err, ErrHelloBroken) {
				t.Fatalf("got %v, %v", hello, err)
			}
			if he.Alert != c.alert || !strings.Contains(he.Reason, c.reason) {
				t.Errorf("got alert %s, %q; want %s, %q", AlertName(he.Alert), he.Reason, AlertName(c.alert), c.reason)
			}
			if !bytes.HasPrefix(c.raw, raw) || len(raw) == 0 {
				t.Errorf("raw is not what was read: %x", raw)
			}
		})
	}
}

// A hello that may look odd, but is one.
func TestOddButValid(t *testing.T) {
	for name, c := range map[string]struct {
		parts parts
		want  string
	}{
		"no extensions":        {parts{version: VersionTLS12, suites: []byte{0, 0x2f}, compression: []byte{0}, bare: true}, ""},
		"empty extensions":     {parts{version: VersionTLS12, suites: []byte{0, 0x2f}, compression: []byte{0}}, ""},
		"NUL and markup":       {goodParts().with(extServerName, sni("<img src=x>\x00\n\xff")...), "<img src=x>\x00\n\xff"},
		"other kind of name":   {goodParts().with(extServerName, 0, 4, 1, 0, 1, 'x'), ""},
		"other kind and a dot": {goodParts().with(extServerName, 0, 8, 1, 0, 1, '.', 0, 0, 1, 'a'), "a"},
		"long name":            {goodParts().with(extServerName, sni(strings.Repeat("a", 1000))...), strings.Repeat("a", 1000)},
		"key share empty":      {goodParts().with(extKeyShare, 0, 0), "api.example.com"},
		"ECH inner":            {goodParts().with(extECH, 1), "api.example.com"},
		"PSK modes empty":      {goodParts().with(extPSKModes, 0), "api.example.com"},
	} {
		raw := record(recordHandshake, c.parts.message())
		h, _, err := ReadClientHello(bytes.NewReader(raw), 0)
		if err != nil || h.ServerName != c.want {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
}

func TestVersions(t *testing.T) {
	for name, c := range map[string]struct {
		hello ClientHello
		want  []uint16
	}{
		"legacy 1.2":   {ClientHello{Version: VersionTLS12}, []uint16{0x0303, 0x0302, 0x0301, 0x0300}},
		"legacy 1.0":   {ClientHello{Version: VersionTLS10}, []uint16{0x0301, 0x0300}},
		"legacy 1.3":   {ClientHello{Version: VersionTLS13}, []uint16{0x0303, 0x0302, 0x0301, 0x0300}},
		"older":        {ClientHello{Version: 0x0002}, nil},
		"list":         {ClientHello{Version: VersionTLS12, SupportedVersions: []uint16{0x0303, 0x1a1a, 0x0304, 0x0303}}, []uint16{0x0304, 0x0303}},
		"only GREASE":  {ClientHello{Version: VersionTLS12, SupportedVersions: []uint16{0x1a1a}}, nil},
		"unknown ones": {ClientHello{SupportedVersions: []uint16{0x0305, 0x0304}}, []uint16{0x0305, 0x0304}},
	} {
		if got := c.hello.Versions(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %x, want %x", name, got, c.want)
		}
	}
}

func TestNotTLS(t *testing.T) {
	for name, c := range map[string]struct {
		sent     string
		protocol Protocol
		method   string
	}{
		"HTTP GET":           {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", ProtocolHTTP, "GET"},
		"HTTP OPTIONS":       {"OPTIONS * HTTP/1.1\r\n\r\n", ProtocolHTTP, "OPTIONS"},
		"HTTP CONNECT":       {"CONNECT a:443 HTTP/1.1\r\n\r\n", ProtocolHTTP, "CONNECT"},
		"WebDAV":             {"PROPFIND / HTTP/1.1\r\n\r\n", ProtocolHTTP, "PROPFIND"},
		"HTTP/2":             {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ProtocolHTTP2, ""},
		"SSLRequest":         {"\x00\x00\x00\x08\x04\xd2\x16\x2f", ProtocolPostgres, ""},
		"GSSENCRequest":      {"\x00\x00\x00\x08\x04\xd2\x16\x30", ProtocolPostgresGSS, ""},
		"CancelRequest":      {"\x00\x00\x00\x10\x04\xd2\x16\x2e\x00\x00\x01\x00\x12\x34\x56\x78", ProtocolPostgresCancel, ""},
		"CancelRequest 18":   {"\x00\x00\x00\x2c\x04\xd2\x16\x2e\x00\x00\x01\x00" + strings.Repeat("k", 32), ProtocolPostgresCancel, ""},
		"StartupMessage 3.2": {"\x00\x00\x00\x29\x00\x03\x00\x02user\x00bob\x00\x00", ProtocolPostgres3, ""},
		"EHLO":               {"EHLO mail.example\r\n", ProtocolSMTP, ""},
		"HELO":               {"HELO mail.example\r\n", ProtocolSMTP, ""},
		"POP3":               {"CAPA\r\n", ProtocolPOP3, ""},
		"STLS":               {"STLS\r\n", ProtocolPOP3, ""},
		"FTP":                {"AUTH TLS\r\n", ProtocolFTP, ""},
		"IMAP of curl":       {"A001 CAPABILITY\r\n", ProtocolIMAP, ""},
		"IMAP of a mailer":   {"1 capability\r\n", ProtocolIMAP, ""},
		"IMAP of openssl":    {". STARTTLS\r\n", ProtocolIMAP, ""},
		"IMAP by hand":       {"a LOGIN bob secret\r\n", ProtocolIMAP, ""},
		"almost IMAP":        {"a001 GET /\r\n", ProtocolUnknown, ""},
		"a long tag":         {"a0000001 CAPABILITY\r\n", ProtocolUnknown, ""},
		"LDAP bind":          {"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00", ProtocolLDAP, ""},
		"LDAP StartTLS":      {"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037", ProtocolLDAP, ""},
		"LDAP of Windows":    {"\x30\x84\x00\x00\x00\x25\x02\x01\x01\x63\x84\x00\x00\x00", ProtocolLDAP, ""},
		"another sequence":   {"\x30\x0c\x02\x01\x01\x30\x07\x02\x01\x03", ProtocolUnknown, ""},
		"XMPP":               {"<?xml version='1.0'?><stream:stream>", ProtocolXMPP, ""},
		"XMPP alone":         {"<stream:stream xmlns='jabber:client'>", ProtocolXMPP, ""},
		"AMQP":               {"AMQP\x00\x00\x09\x01", ProtocolAMQP, ""},
		"StartupMessage":     {"\x00\x00\x00\x29\x00\x03\x00\x00user\x00bob\x00\x00", ProtocolPostgres3, ""},
		"SSH":                {"SSH-2.0-OpenSSH_9.6\r\n", ProtocolSSH, ""},
		"PROXY v1":           {"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", ProtocolProxyV1, ""},
		"PROXY v2":           {"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c", ProtocolProxyV2, ""},
		"SSL 2.0":            {"\x80\x2e\x01\x00\x02\x00\x15", ProtocolSSLv2, ""},
		"SOCKS5":             {"\x05\x01\x00", ProtocolSOCKS, ""},
		"SOCKS4":             {"\x04\x01\x01\xbb\x7f\x00\x00\x01\x00", ProtocolSOCKS, ""},
		"MQTT":               {"\x10\x10\x00\x04MQTT\x04\x02", ProtocolMQTT, ""},
		"Redis":              {"*1\r\n$4\r\nPING\r\n", ProtocolRedis, ""},
		"RDP":                {"\x03\x00\x00\x13\x0e\xe0", ProtocolRDP, ""},
		"garbage":            {"\xff\xfe\xfd\xfc", ProtocolUnknown, ""},
		"words":              {"HELLO mail.example\r\n", ProtocolUnknown, ""},
		"almost a method":    {"GETX / HTTP/1.1\r\n", ProtocolUnknown, ""},
		"lower case":         {"get / HTTP/1.1\r\n", ProtocolUnknown, ""},
		"one letter":         {"G", ProtocolUnknown, ""},
		"newlines":           {"\r\n\r\n", ProtocolUnknown, ""},
		"handshake of 2":     {"\x16\x02\x00\x00\x05\x01\x00\x00\x01\x00", ProtocolUnknown, ""},
		"alert of 2":         {"\x15\x02\x00\x00\x02\x01\x00", ProtocolUnknown, ""},
		"alert too long":     {"\x15\x03\x00\x00\x05\x01\x00", ProtocolUnknown, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(c.sent), iotest.OneByteReader(strings.NewReader(c.sent))} {
				hello, raw, err := ReadClientHello(r, 0)
				he, ok := errors.AsType[*HelloError](err)
				if hello != nil || !ok || !errors.Is(err, ErrNotTLS) || he.Protocol != c.protocol || he.Method != c.method {
					t.Errorf("got %v %+v", hello, err)
				}
				if len(raw) == 0 || !strings.HasPrefix(c.sent, string(raw)) {
					t.Errorf("raw is %q", raw)
				}
				if alert := c.protocol == ProtocolSSLv2; ok && (he.Alert != 0) != alert {
					t.Errorf("alert %d", he.Alert)
				}
			}
		})
	}
}

// What does not need more bytes to be recognised is not waited for.
func TestNotTLSDoesNotWait(t *testing.T) {
	for _, first := range []string{"\x7f", "hello", "GET ", "SSH-", "EHLO ", "a1 NOOP", "x1 nothing", "\x30\x0c\x02\x01\x01\x60", "\x05\x01", "\x16\x02\x00", "\x15\x02\x00"} {
		_, _, err := ReadClientHello(io.MultiReader(strings.NewReader(first), failing{t}), 0)
		if !errors.Is(err, ErrNotTLS) {
			t.Errorf("%q: %v", first, err)
		}
	}
}

type failing struct{ t *testing.T }

func (f failing) Read([]byte) (int, error) {
	f.t.Error("read on where the answer was clear")
	return 0, io.EOF
}

func TestEnds(t *testing.T) {
	message := goodParts().message()
	raw := record(recordHandshake, message)
	for n := range len(raw) {
		for _, end := range []error{io.EOF, os.ErrDeadlineExceeded} {
			hello, got, err := ReadClientHello(io.MultiReader(bytes.NewReader(raw[:n]), iotest.ErrReader(end)), 0)
			want := ErrCutShort
			if n == 0 {
				want = ErrNoBytes
			}
			if hello != nil || !errors.Is(err, want) || !errors.Is(err, end) {
				t.Fatalf("after %d bytes: %v", n, err)
			}
			if other := map[error]error{ErrCutShort: ErrNoBytes, ErrNoBytes: ErrCutShort}[want]; errors.Is(err, other) {
				t.Fatalf("after %d bytes: both %v", n, err)
			}
			if !bytes.Equal(got, raw[:n]) {
				t.Fatalf("after %d bytes: raw has %d", n, len(got))
			}
		}
	}
	_, _, err := ReadClientHello(io.MultiReader(strings.NewReader("GE"), iotest.ErrReader(os.ErrDeadlineExceeded)), 0)
	if !errors.Is(err, ErrNotTLS) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("half a method: %v", err)
	}
	if _, _, err := ReadClientHello(readerFunc(func([]byte) (int, error) { return 0, nil }), 0); !errors.Is(err, ErrNoBytes) {
		t.Errorf("a reader that returns nothing: %v", err)
	}
}

func TestErrorTexts(t *testing.T) {
	for want, err := range map[string]*HelloError{
		"the client sent nothing: EOF":                                       {Kind: ErrNoBytes, Err: io.EOF},
		"the client does not speak TLS":                                      {Kind: ErrNotTLS},
		"the client does not speak TLS: it looks like plain HTTP (GET)":      {Kind: ErrNotTLS, Protocol: ProtocolHTTP, Method: "GET"},
		"the client does not speak TLS: it looks like SSH":                   {Kind: ErrNotTLS, Protocol: ProtocolSSH},
		"the ClientHello is broken: server_name is an empty list":            {Kind: ErrHelloBroken, Reason: "server_name is an empty list"},
		"the ClientHello is too large: 70000 bytes, and the limit is 65536":  {Kind: ErrHelloTooLarge, Reason: "70000 bytes, and the limit is 65536"},
		"the ClientHello stops half way: read: i/o timeout after the header": {Kind: ErrCutShort, Err: errors.New("read: i/o timeout after the header")},
	} {
		if got := err.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
