package verify_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/revocation"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

// noon is the moment at which everything in these tests happens.
var noon = time.Date(2026, 11, 22, 14, 58, 7, 0, time.UTC)

const day = 24 * time.Hour

// years is a validity around noon for CAs.
var years = tlstest.Valid(noon.Add(-1000*day), noon.Add(1000*day))

func ca(name, org string, opts ...tlstest.Option) *tlstest.Cert {
	return tlstest.NewCA(append([]tlstest.Option{tlstest.CN(name), tlstest.Org(org), years, keyOf(name)}, opts...)...)
}

func intermediate(issuer *tlstest.Cert, name, org string, opts ...tlstest.Option) *tlstest.Cert {
	return issuer.Intermediate(append([]tlstest.Option{tlstest.CN(name), tlstest.Org(org), years, keyOf(name)}, opts...)...)
}

// keyOf gives a CA the same key in every process: what one fuzzing process finds has to mean the same in the next.
func keyOf(name string) tlstest.Option {
	seed := sha256.Sum256([]byte(name))
	return tlstest.WithKey(ed25519.NewKeyFromSeed(seed[:]))
}

// client makes a leaf for billing-batch that is good at noon.
func client(issuer *tlstest.Cert, opts ...tlstest.Option) *tlstest.Cert {
	first := []tlstest.Option{
		tlstest.Org("Acme"), tlstest.URI("spiffe://prod/batch/billing"), tlstest.Serial(0x1f3a),
		tlstest.Valid(noon.Add(-27*day), noon.Add(3*day)),
	}
	return issuer.Client("billing-batch", append(first, opts...)...)
}

// world is a gateway with a few endpoints, and the strangers around it.
type world struct {
	cfg    *termination.Config
	search *verify.Search
	seen   *verify.Seen // by search

	root, issuing, partner, lab, labIssuing, local *tlstest.Cert
	stranger, remade, impostor, public             *tlstest.Cert
	pinned, badge                                  *tlstest.Cert
	oldRoot, spare                                 *tlstest.Cert
	meter                                          *tlstest.Cert // of an identity
	lost                                           *tlstest.Cert // its key is blocked
	lately                                         *tlstest.Cert // nobody keeps it, but a client has sent it
	server, partnerAnew, dockIssuing               *tlstest.Cert
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		root:     ca("Acme Root R1", "Acme"),
		partner:  ca("Partner CA", "Partner Ltd"),
		lab:      ca("Lab Root", "Lab"),
		local:    ca("Countersign local CA", "Countersign"),
		stranger: ca("Old Devices CA", "Devices Inc"),
		public:   ca("Public CA", "Public"),
		spare:    ca("Spare CA", "Spare"),
		pinned:   tlstest.SelfSigned(tlstest.CN("kiosk"), years),
		badge:    tlstest.SelfSigned(tlstest.CN("badge"), tlstest.Valid(noon.Add(-30*day), noon.Add(-90*time.Minute))),
		oldRoot:  ca("Acme Root R0", "Acme", tlstest.Valid(noon.Add(-4000*day), noon.Add(-40*day))),
	}
	w.meter = tlstest.SelfSigned(tlstest.CN("meter"), years)
	w.issuing = intermediate(w.root, "Acme Issuing CA 2", "Acme")
	w.labIssuing = intermediate(w.lab, "Lab Issuing CA", "Lab")
	w.dockIssuing = intermediate(ca("Dock Root", "Dock"), "Dock Issuing CA", "Dock")
	w.remade = w.root.Impostor(years, tlstest.SubjectKeyID([]byte{1, 2, 3, 4}))
	w.impostor = w.root.Impostor(years)
	var pins []termination.Pin
	for _, s := range []string{w.pinned.Fingerprint(), "spki:" + w.badge.SPKI()} {
		pin, err := termination.ParsePin(s)
		if err != nil {
			t.Fatal(err)
		}
		pins = append(pins, pin)
	}
	renewed := termination.Authority{Name: "renewed", Certificates: []termination.CACertificate{
		{Certificate: w.oldRoot.Reissue(w.oldRoot, years).X509, Role: termination.RoleAnchor},
	}}
	server := w.public.Server("shop.example.com", years)
	w.server, w.partnerAnew = server, w.partner.Impostor(years, tlstest.SubjectKeyID([]byte{5, 6, 7, 8}))
	ended := w.public.Server("old.example.com", tlstest.Valid(noon.Add(-90*day), noon.Add(-2*day)))
	w.cfg = &termination.Config{
		Limits: termination.DefaultLimits(),
		Authorities: []termination.Authority{
			authority("acme", w.root),
			authority("partners", w.partner),
			authority("lab", w.lab),
			authority("lab with issuing CA", w.lab, w.labIssuing),
			authority("local", w.local),
			authority("legacy", w.oldRoot),
			authority("spare", w.spare),
			authority("partners anew", w.partnerAnew),
			authority("dock", w.dockIssuing.Root(), w.dockIssuing),
			renewed,
		},
		LocalCAs: []termination.LocalCA{{Name: "local", Certificate: w.local.X509, Key: w.local.Key}},
		Certificates: []termination.Certificate{
			{Name: "shop", Chain: []*x509.Certificate{server.X509}, Key: server.Key},
			{Name: "old", Chain: []*x509.Certificate{ended.X509}, Key: ended.Key},
		},
	}
	w.cfg.Identities = []termination.Identity{{
		ID: "id_meter", Name: "metering", Endpoints: []string{"badges"}, Rate: termination.Rate{Count: 2, Per: time.Minute, Burst: 5},
		Pins: []termination.Pin{{Fingerprint: termination.FingerprintOf(w.meter.X509)}},
	}}
	w.lost = client(w.issuing, tlstest.Serial(0x77), tlstest.CN("laptop"))
	lost, dubious := termination.Pin{Fingerprint: termination.KeyFingerprintOf(w.lost.X509), Key: true}, termination.Pin{Fingerprint: termination.FingerprintOf(w.labIssuing.X509)}
	w.cfg.Blocked = []termination.Block{
		{ID: "blk_key", Pin: &lost, Why: "laptop lost \u202eon the train", Since: noon.Add(-time.Hour), By: "rhea"},
		{ID: "blk_serial", Serial: "7b", Authority: "partners", Since: noon.Add(-time.Hour), By: "rhea"},
		{ID: "blk_ca", Pin: &dubious, Why: "nobody knows who has its key", Origin: termination.OriginFile},
	}
	add := func(name, host string, change func(*termination.Endpoint)) {
		e := termination.Endpoint{
			ID: "ep_" + name, Name: name, Enabled: true, Scheme: termination.SchemeHTTPS, Host: host,
			Listen: netip.MustParseAddr("127.0.0.1"), Port: 8443, TerminateAt: termination.AtEdge,
			Upstream:   termination.Upstream{Scheme: termination.UpstreamHTTP, Address: "127.0.0.1:8080"},
			ClientAuth: termination.ClientAuth{Mode: termination.ModeRequire, Announce: true, OnLoss: termination.OnLossClose},
		}
		change(&e)
		w.cfg.Endpoints = append(w.cfg.Endpoints, e)
	}
	trust := func(names ...string) func(*termination.Endpoint) {
		return func(e *termination.Endpoint) { e.ClientAuth.Authorities = names }
	}
	add("payments", "payments.example.com", func(e *termination.Endpoint) {
		e.ClientAuth.Authorities = []string{"acme"}
		e.Certificates = []string{"shop"}
	})
	add("erp", "erp.example.com", func(e *termination.Endpoint) {
		trust("partners")(e)
		e.Preset = termination.PresetModern
	})
	add("bench", "bench.example.com", func(e *termination.Endpoint) {
		trust("lab")(e)
		e.Suites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
		e.ALPN = []string{termination.ALPNHTTP1}
	})
	add("demo", "demo.localhost", trust("local"))
	add("legacy", "legacy.example.com", trust("legacy"))
	add("kiosks", "kiosks.example.com", func(e *termination.Endpoint) { e.ClientAuth.Pins = pins[:1] })
	add("badges", "badges.example.com", func(e *termination.Endpoint) { e.ClientAuth.Pins = pins[1:] })
	add("shop", "shop.example.com", func(e *termination.Endpoint) {
		e.Certificates = []string{"shop"}
		e.ClientAuth = termination.ClientAuth{Mode: termination.ModeRequest, Authorities: []string{"acme"}}
		e.MinVersion = tls.VersionTLS13
	})
	add("old", "old.example.com", func(e *termination.Endpoint) {
		e.Certificates = []string{"old"}
		e.ClientAuth = termination.ClientAuth{Mode: termination.ModeOff}
	})
	add("raw", "raw.example.com", func(e *termination.Endpoint) {
		e.Scheme = termination.SchemeTLS
		e.Upstream = termination.Upstream{Scheme: termination.UpstreamTCP, Address: "127.0.0.1:5432"}
		e.ALPN = []string{"imap", "acme-imap"}
		e.ClientAuth.Authorities = []string{"acme"}
	})
	add("archive", "archive.example.com", func(e *termination.Endpoint) {
		e.Enabled = false
		e.ClientAuth.Mode = termination.ModeOff
	})
	add("elsewhere", "elsewhere.example.com", func(e *termination.Endpoint) {
		e.Port = 9443
		e.ClientAuth.Mode = termination.ModeOff
	})
	add("db", "db.example.com", func(e *termination.Endpoint) {
		e.Scheme, e.StartTLS, e.Port = termination.SchemeTLS, termination.StartTLSPostgres, 5432
		e.Upstream = termination.Upstream{Scheme: termination.UpstreamTCP, Address: "127.0.0.1:5433"}
		e.ClientAuth.Authorities = []string{"acme"}
	})
	add("vault", "vault.example.com", func(e *termination.Endpoint) {
		e.Scheme, e.TerminateAt, e.Port = termination.SchemeTLS, termination.AtUpstream, 7000
		e.Upstream = termination.Upstream{Scheme: termination.UpstreamTCP, Address: "127.0.0.1:7443"}
		e.ClientAuth = termination.ClientAuth{Mode: termination.ModeOff}
	})
	add("complete", "complete.example.com", func(e *termination.Endpoint) {
		trust("dock")(e)
		e.Port = 9444
	})
	w.lately = intermediate(w.root, "Acme Warehouse CA", "Acme")
	w.seen = &verify.Seen{}
	w.seen.Note(&termination.Handshake{
		Peer: netip.MustParseAddrPort("203.0.113.7:50123"), Presented: client(w.lately).Chain(),
		Path: append(client(w.lately).Chain(), w.root.X509),
	})
	w.search = verify.NewSearch(w.cfg).WithSeen(w.seen)
	return w
}

// handshake is a record at an endpoint, as it is before it is explained.
func (w *world) handshake(endpoint string, outcome termination.Outcome, reason termination.Reason) *termination.Handshake {
	h := &termination.Handshake{
		ID: "hs_test", Time: noon, Duration: 10 * time.Second,
		Peer: netip.MustParseAddrPort("203.0.113.9:50123"), Local: netip.MustParseAddrPort("127.0.0.1:8443"),
		Hello:   &termination.ClientHello{Versions: []uint16{0x1a1a, tls.VersionTLS13, tls.VersionTLS12}},
		Verdict: termination.Verdict{Outcome: outcome, Reason: reason},
	}
	if info, ok := reason.Info(); ok {
		h.Verdict.Beat = info.Beat
		if info.Alert != 0 && outcome == termination.OutcomeRefused {
			h.Alert = &termination.Alert{Number: info.Alert, Name: alertNames[info.Alert], Sent: true}
		}
	}
	if e := w.cfg.Endpoint(endpoint); e != nil {
		h.EndpointID, h.Endpoint, h.Mode = e.ID, e.Name, e.ClientAuth.Mode
		h.Hello.ServerName = e.Host
	}
	return h
}

var alertNames = map[uint8]string{
	40: "handshake_failure", 42: "bad_certificate", 45: "certificate_expired", 48: "unknown_ca", 51: "decrypt_error",
	70: "protocol_version", 80: "internal_error", 112: "unrecognized_name", 116: "certificate_required", 120: "no_application_protocol",
}

// judged is the record of a client that presented these certificates to an endpoint.
func (w *world) judged(t testing.TB, endpoint string, presented ...*x509.Certificate) *termination.Handshake {
	t.Helper()
	known := revocation.New(revocation.Options{Now: func() time.Time { return noon }})
	known.Apply(w.cfg)
	p, err := verify.Compile(w.cfg, w.cfg.Endpoint(endpoint).ClientAuth, verify.Scope{Endpoint: endpoint, Revocation: known})
	if err != nil {
		t.Fatal(err)
	}
	j := p.Judge(verify.Client{Presented: presented}, noon)
	outcome := termination.OutcomeRefused
	switch {
	case j.Verified:
		outcome = termination.OutcomeVerified
	case j.In:
		outcome = termination.OutcomeOpen
	}
	h := w.handshake(endpoint, outcome, j.Reason)
	h.Presented, h.Path, h.PolicyHash = presented, j.Path, p.Hash()
	h.Verdict.Checks = j.Checks
	if len(presented) > 0 {
		h.Client = verify.BestName(presented[0])
		h.Client.Authority, h.Client.Pin = j.Authority, j.Pin
	}
	return h
}

// received makes the alert one that the client sent.
func received(h *termination.Handshake, number uint8, plaintext bool) *termination.Handshake {
	h.Alert = &termination.Alert{Number: number, Name: alertNames[number], Plaintext: plaintext}
	return h
}

func with(h *termination.Handshake, change func(*termination.Handshake)) *termination.Handshake {
	change(h)
	return h
}

func problem(text string) func(*termination.Handshake) {
	return func(h *termination.Handshake) { h.Error = text }
}

// seen makes h one of a handshake that passed through sealed, in which this was seen of the service's certificate.
func seen(h *termination.Handshake, service ...*tlstest.Cert) *termination.Handshake {
	h.TerminateAt = termination.AtUpstream
	h.Passed = &termination.Passed{SealedFrom: termination.SealedFromServerHello}
	for _, c := range service {
		h.Passed.SealedFrom = termination.SealedFromFinished
		h.Passed.Service = append(h.Passed.Service, termination.SeenCertificateOf(c.X509))
	}
	return h
}

// on moves a record to another port.
func on(port uint16, h *termination.Handshake) *termination.Handshake {
	h.Local = netip.AddrPortFrom(h.Local.Addr(), port)
	return h
}

// asking makes h one that belongs to no endpoint and asked for this name.
func asking(name string) func(*termination.Handshake) {
	return func(h *termination.Handshake) { h.Hello.ServerName = name }
}
