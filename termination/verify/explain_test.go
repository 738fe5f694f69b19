package verify_test

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

var update = flag.Bool("update", false, "write the explanations that the tests compare with")

type explained struct {
	name   string
	h      *termination.Handshake
	reason termination.Reason
}

func (w *world) cases(t testing.TB) []explained {
	r, b := termination.OutcomeRefused, termination.OutcomeBrokenOff
	us := termination.OutcomeClientRefused
	old := tlstest.Valid(noon.Add(-400*day), noon.Add(-5*day))
	early := tlstest.Valid(noon.Add(4*time.Hour), noon.Add(30*day))
	oldInter := intermediate(w.root, "Acme Issuing CA 1", "Acme", old)
	chain := func(c *tlstest.Cert) []*x509.Certificate { return c.Chain() }
	judged := func(endpoint string, presented ...*x509.Certificate) *termination.Handshake {
		return w.judged(t, endpoint, presented...)
	}
	h := w.handshake
	service := w.public.Server("other.example.com", tlstest.CN("a\u202eb\x1b[31m"), years)
	deep := w.root
	for i := range 5 {
		deep = intermediate(deep, fmt.Sprintf("Acme Level %d", i+1), "Acme")
	}
	bidi := w.stranger.Client("x", tlstest.CN("\u202egpj.exe\x1b[31m$(reboot)`id`'\"\n; rm -rf /"), years)
	return []explained{
		{"verified", judged("payments", chain(client(w.issuing))...), ""},
		{"verified_pin", judged("kiosks", w.pinned.X509), ""},
		{"open", judged("shop"), ""},
		{"identity_elsewhere", judged("payments", w.meter.X509), termination.ReasonIdentityElsewhere},
		{"identity_elsewhere_open", judged("shop", w.meter.X509), termination.ReasonIdentityElsewhere},
		{"blocked_key", judged("payments", chain(w.lost)...), termination.ReasonBlocked},
		{"blocked_serial", judged("erp", client(w.partner, tlstest.Serial(0x7b)).X509), termination.ReasonBlocked},
		{"blocked_ca", judged("bench", chain(client(w.labIssuing))...), termination.ReasonBlocked},
		{"blocked_no_more", with(judged("payments", chain(client(w.issuing))...), func(h *termination.Handshake) {
			h.Verdict.Outcome, h.Verdict.Reason, h.Verdict.Checks = r, termination.ReasonBlocked, nil
		}), termination.ReasonBlocked},
		{"rate_limited", with(judged("badges", w.meter.X509), func(h *termination.Handshake) {
			h.Verdict.Outcome, h.Verdict.Reason = r, termination.ReasonRateLimited
		}), termination.ReasonRateLimited},
		{"passed", h("raw", termination.OutcomePassed, ""), ""},

		{"passed_service_refused", with(seen(h("vault", termination.OutcomePassed, "")), func(h *termination.Handshake) {
			h.Alert = &termination.Alert{Number: 40, Name: "handshake_failure", Plaintext: true, Service: true}
			h.Passed.AsksForCertificate = true
		}), ""},
		{"passed_probably_refused", with(seen(h("vault", termination.OutcomePassed, "")), func(h *termination.Handshake) { h.Passed.ProbablyRefused = true }), ""},
		{"sealed_refused_us_ca", received(seen(h("vault", us, termination.ReasonClientRefusedUsCA)), 48, true), termination.ReasonClientRefusedUsCA},
		{"sealed_refused_us_ca_1.2", received(seen(h("vault", us, termination.ReasonClientRefusedUsCA), service), 48, true), termination.ReasonClientRefusedUsCA},
		{"sealed_refused_us_name", received(seen(h("vault", us, termination.ReasonClientRefusedUsName), service), 42, true), termination.ReasonClientRefusedUsName},
		{"sealed_refused_us_date", received(seen(h("vault", us, termination.ReasonClientRefusedUsDate), w.public.Server("vault.example.com", old)), 45, true), termination.ReasonClientRefusedUsDate},
		{"sealed_refused_us_date_clock", received(seen(h("vault", us, termination.ReasonClientRefusedUsDate), service), 45, true), termination.ReasonClientRefusedUsDate},
		{"sealed_refused_us_date_sealed", received(seen(h("vault", us, termination.ReasonClientRefusedUsDate)), 45, true), termination.ReasonClientRefusedUsDate},
		{"sealed_refused_us", received(seen(h("vault", us, termination.ReasonClientRefusedUs), service), 42, true), termination.ReasonClientRefusedUs},
		{"sealed_client_left", seen(h("vault", b, termination.ReasonClientLeft)), termination.ReasonClientLeft},
		{"sealed_timeout", with(seen(h("vault", b, termination.ReasonTimeout)), func(h *termination.Handshake) { h.Verdict.Beat = termination.BeatServerCert }), termination.ReasonTimeout},

		{"not_tls", with(h("", b, termination.ReasonNotTLS), problem("the client spoke HTTP")), termination.ReasonNotTLS},
		{"silent", h("", b, termination.ReasonSilent), termination.ReasonSilent},
		{"hello_broken", with(h("", b, termination.ReasonHelloBroken), problem("the ClientHello stops half way")), termination.ReasonHelloBroken},
		{"proxy_header", h("", r, termination.ReasonProxyHeader), termination.ReasonProxyHeader},
		{"starttls", with(h("", b, termination.ReasonStartTLS), problem("the client spoke PostgreSQL")), termination.ReasonStartTLS},
		{"starttls_smtp", with(h("", b, termination.ReasonStartTLS), problem("the client does not speak TLS: it looks like SMTP")), termination.ReasonStartTLS},
		{"starttls_nowhere", on(9443, with(h("", b, termination.ReasonStartTLS), problem("it looks like PostgreSQL asking for TLS (SSLRequest)"))), termination.ReasonStartTLS},
		{"starttls_plain", on(5432, with(h("", b, termination.ReasonStartTLS), problem("it looks like PostgreSQL without TLS"))), termination.ReasonStartTLS},
		{"starttls_cancel", on(5432, with(h("", b, termination.ReasonStartTLS), problem("it looks like PostgreSQL cancelling a query (CancelRequest)"))), termination.ReasonStartTLS},
		{"starttls_early", on(5432, with(h("", r, termination.ReasonStartTLS), problem("more came before the request for TLS was answered: it looks like PostgreSQL asking for TLS (SSLRequest)"))), termination.ReasonStartTLS},
		{"starttls_elsewhere", with(h("raw", r, termination.ReasonStartTLS), func(h *termination.Handshake) { h.StartTLS = termination.StartTLSPostgres }), termination.ReasonStartTLS},
		{"not_tls_ssh", with(h("", b, termination.ReasonNotTLS), problem("the client does not speak TLS: it looks like SSH")), termination.ReasonNotTLS},
		{"not_tls_mqtt", with(h("", b, termination.ReasonNotTLS), problem("the client does not speak TLS: it looks like MQTT without TLS")), termination.ReasonNotTLS},
		{"overloaded", h("", r, termination.ReasonOverloaded), termination.ReasonOverloaded},
		{"name_missing", h("", r, termination.ReasonNameMissing), termination.ReasonNameMissing},
		{"name_unknown", with(h("", r, termination.ReasonNameUnknown), asking("payment.example.com")), termination.ReasonNameUnknown},
		{"name_unknown_stopped", with(h("", r, termination.ReasonNameUnknown), asking("archive.example.com")), termination.ReasonNameUnknown},
		{"name_unknown_port", with(h("", r, termination.ReasonNameUnknown), asking("elsewhere.example.com")), termination.ReasonNameUnknown},
		{"name_unknown_hostile", with(h("", r, termination.ReasonNameUnknown), asking("<img src=x onerror=alert(1)>\x00\u202e;reboot")), termination.ReasonNameUnknown},
		{"version_low", with(h("payments", r, termination.ReasonVersionLow), func(h *termination.Handshake) {
			h.Hello.Versions = []uint16{tls.VersionTLS11, tls.VersionTLS10}
		}), termination.ReasonVersionLow},
		{"version_low_minimum", with(h("shop", r, termination.ReasonVersionLow), func(h *termination.Handshake) {
			h.Hello.Versions = []uint16{tls.VersionTLS12}
		}), termination.ReasonVersionLow},
		{"version_low_modern", with(h("erp", r, termination.ReasonVersionLow), func(h *termination.Handshake) {
			h.Hello.Versions = []uint16{tls.VersionTLS12}
		}), termination.ReasonVersionLow},
		{"no_common_suite_list", with(h("bench", r, termination.ReasonNoCommonSuite), func(h *termination.Handshake) {
			h.Hello.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}
		}), termination.ReasonNoCommonSuite},
		{"no_common_suite_key", with(h("payments", r, termination.ReasonNoCommonSuite), func(h *termination.Handshake) {
			h.Hello.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA}
		}), termination.ReasonNoCommonSuite},
		{"alpn_list", with(h("bench", r, termination.ReasonALPN), func(h *termination.Handshake) {
			h.Hello.ALPN = []string{"h2"}
		}), termination.ReasonALPN},
		{"alpn_tls", with(h("raw", r, termination.ReasonALPN), func(h *termination.Handshake) {
			h.Hello.ALPN = []string{"smtp"}
		}), termination.ReasonALPN},
		{"no_common_suite", with(h("payments", r, termination.ReasonNoCommonSuite), func(h *termination.Handshake) {
			h.Hello.CipherSuites = []uint16{0x0a0a, tls.TLS_RSA_WITH_RC4_128_SHA, tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA, 0x00ff}
		}), termination.ReasonNoCommonSuite},
		{"no_common_group", with(h("payments", r, termination.ReasonNoCommonGroup), func(h *termination.Handshake) {
			h.Hello.Groups = []uint16{0x2a2a, 30, 256, 22}
		}), termination.ReasonNoCommonGroup},
		{"alpn", with(h("payments", r, termination.ReasonALPN), func(h *termination.Handshake) {
			h.Hello.ALPN = []string{"mqtt", "\x1b[31mfoo"}
		}), termination.ReasonALPN},
		{"early_data", h("payments", termination.OutcomeOpen, termination.ReasonEarlyData), termination.ReasonEarlyData},
		{"policy_unreadable", with(h("payments", r, termination.ReasonPolicyUnreadable), problem("there is no authority \"acme\"")), termination.ReasonPolicyUnreadable},

		{"client_refused_us_ca", with(received(h("demo", us, termination.ReasonClientRefusedUsCA), 48, true), problem("tls: bad record MAC")), termination.ReasonClientRefusedUsCA},
		{"client_refused_us_ca_uploaded", received(h("payments", us, termination.ReasonClientRefusedUsCA), 48, false), termination.ReasonClientRefusedUsCA},
		{"client_refused_us_name", received(h("payments", us, termination.ReasonClientRefusedUs), 42, false), termination.ReasonClientRefusedUsName},
		{"client_refused_us_date", received(h("old", us, termination.ReasonClientRefusedUs), 42, false), termination.ReasonClientRefusedUsDate},
		{"client_refused_us_date_clock", received(h("shop", us, termination.ReasonClientRefusedUsDate), 45, false), termination.ReasonClientRefusedUsDate},
		{"client_refused_us", received(h("shop", us, termination.ReasonClientRefusedUs), 42, false), termination.ReasonClientRefusedUs},
		{"client_left", h("payments", b, termination.ReasonClientLeft), termination.ReasonClientLeft},
		{"client_left_late", with(judged("payments", chain(client(w.issuing))...), func(h *termination.Handshake) {
			h.Verdict.Reason, h.Verdict.Beat = termination.ReasonClientLeft, termination.BeatEstablished
			h.Hello.ServerName = "" // so that no name can be the cause
		}), termination.ReasonClientLeft},
		{"client_left_name", with(judged("payments", chain(client(w.issuing))...), func(h *termination.Handshake) {
			h.Verdict.Reason, h.Verdict.Beat = termination.ReasonClientLeft, termination.BeatEstablished
			h.Hello.ServerName = "payroll.example.com"
		}), termination.ReasonClientLeft},

		{"cert_missing", judged("payments"), termination.ReasonCertMissing},
		{"cert_missing_local", judged("demo"), termination.ReasonCertMissing},
		{"cert_missing_pins", judged("kiosks"), termination.ReasonCertMissing},
		{"cert_missing_raw", judged("raw"), termination.ReasonCertMissing},
		{"ca_unknown", judged("payments", chain(client(w.stranger))...), termination.ReasonCAUnknown},
		{"ca_unknown_with_root", judged("payments", client(w.stranger).X509, w.stranger.X509), termination.ReasonCAUnknown},
		{"ca_unknown_open", judged("shop", chain(client(w.stranger))...), termination.ReasonCAUnknown},
		{"ca_unknown_hostile", judged("payments", bidi.X509), termination.ReasonCAUnknown},
		{"ca_other_endpoint", judged("payments", chain(client(w.partner))...), termination.ReasonCAOtherEndpoint},
		{"ca_other_endpoint_unused", judged("payments", chain(client(w.spare))...), termination.ReasonCAOtherEndpoint},
		{"ca_same_name", judged("payments", chain(client(w.remade))...), termination.ReasonCASameName},
		{"ca_same_name_sent", judged("payments", client(w.impostor).X509, w.impostor.X509), termination.ReasonCASameName},
		{"chain_gap", judged("payments", client(w.issuing).X509), termination.ReasonChainGap},
		{"chain_gap_kept", judged("bench", client(w.labIssuing).X509), termination.ReasonChainGap},
		{"chain_gap_lately", judged("payments", client(w.lately).X509), termination.ReasonChainGap},
		{"verified_completed", judged("complete", client(w.dockIssuing).X509), ""},
		{"verified_public", judged("payments", chain(client(w.issuing, domainValidated()))...), ""},
		{"cert_use_public", judged("payments", chain(client(w.issuing, domainValidated(), tlstest.EKU(x509.ExtKeyUsageServerAuth)))...), termination.ReasonCertUse},
		{"ca_other_endpoint_same_name", judged("erp", client(w.partnerAnew).X509), termination.ReasonCAOtherEndpoint},
		{"wrong_order", judged("payments", w.issuing.X509, client(w.issuing).X509), termination.ReasonCertUse},
		{"wrong_order_root_first", judged("payments", w.root.X509, w.issuing.X509, client(w.issuing).X509), termination.ReasonCertUse},
		{"wrong_order_stranger", judged("payments", w.stranger.X509, client(w.stranger).X509), termination.ReasonCertSelf},
		{"root_alone", judged("payments", w.root.X509), termination.ReasonCertUse},
		{"root_alone_stranger", judged("payments", w.stranger.X509), termination.ReasonCertSelf},
		{"helper_alone", judged("payments", w.issuing.X509), termination.ReasonCertUse},
		{"cert_self_openssl", judged("payments", tlstest.SelfSigned(tlstest.CN("billing-batch"), tlstest.CATrue(), years).X509), termination.ReasonCertSelf},
		{"server_certificate", judged("payments", w.server.X509), termination.ReasonCAUnknown},
		{"server_certificate_of_a_name", judged("payments", chain(w.issuing.Server("erp.example.com", years))...), termination.ReasonCertUse},
		{"not_listed_elsewhere", judged("badges", w.pinned.X509), termination.ReasonNotListed},
		{"cert_self_elsewhere", judged("payments", w.pinned.X509), termination.ReasonCertSelf},
		{"cert_expired_clock", judged("payments", chain(client(w.issuing, tlstest.Valid(noon.Add(-30*day), noon.Add(-90*time.Minute))))...), termination.ReasonCertExpired},
		{"dates_shift", judged("payments", chain(client(oldInter, old))...), termination.ReasonCertExpired},
		{"dates_never", judged("payments", chain(client(oldInter, early))...), termination.ReasonCertEarly},
		{"cert_self", judged("payments", tlstest.SelfSigned(tlstest.CN("billing-batch"), years).X509), termination.ReasonCertSelf},
		{"cert_expired", judged("payments", chain(client(w.issuing, tlstest.Valid(noon.Add(-30*day), noon.Add(-3*day))))...), termination.ReasonCertExpired},
		{"cert_expired_local", judged("demo", chain(client(w.local, tlstest.Valid(noon.Add(-30*day), noon.Add(-3*day))))...), termination.ReasonCertExpired},
		{"cert_expired_pinned", judged("badges", w.badge.X509), termination.ReasonCertExpired},
		{"cert_early", judged("payments", chain(client(w.issuing, early))...), termination.ReasonCertEarly},
		{"ca_expired", judged("payments", chain(client(oldInter))...), termination.ReasonCAExpired},
		{"ca_expired_renewed", judged("legacy", chain(client(w.oldRoot))...), termination.ReasonCAExpired},
		{"cert_use", judged("payments", chain(client(w.issuing, tlstest.EKU(x509.ExtKeyUsageServerAuth)))...), termination.ReasonCertUse},
		{"cert_use_ca", judged("payments", chain(client(intermediate(w.root, "Acme Server CA", "Acme", tlstest.EKU(x509.ExtKeyUsageServerAuth))))...), termination.ReasonCertUse},
		{"cert_weak", judged("payments", chain(client(w.issuing, tlstest.RSA(1024)))...), termination.ReasonCertWeak},
		{"cert_name_limits", judged("payments", chain(client(intermediate(w.root, "Acme Shops CA", "Acme", tlstest.PermitDNS("shops.example.com")), tlstest.DNS("billing.example.com")))...), termination.ReasonCertNameLimits},
		{"chain_too_deep", judged("payments", chain(client(deep))...), termination.ReasonChainTooDeep},
		{"issuer_not_ca", judged("payments", chain(client(intermediate(w.root, "Acme Printer", "Acme", tlstest.CAFalse())))...), termination.ReasonIssuerNotCA},
		{"cert_extension", judged("payments", chain(client(w.issuing, tlstest.UnknownCritical()))...), termination.ReasonCertExtension},
		{"cert_malformed", with(h("payments", r, termination.ReasonCertMalformed), problem("tls: failed to parse client certificate: x509: malformed certificate")), termination.ReasonCertMalformed},
		{"cert_malformed_number", judged("payments", slices.Repeat(chain(client(w.issuing)), 6)...), termination.ReasonCertMalformed},
		{"several", judged("payments", chain(client(oldInter, old, tlstest.EKU(x509.ExtKeyUsageServerAuth), tlstest.RSA(1024)))...), termination.ReasonCertExpired},
		{"not_listed", judged("kiosks", chain(client(w.stranger))...), termination.ReasonNotListed},
		{"not_listed_appended", judged("kiosks", client(w.stranger).X509, w.pinned.X509), termination.ReasonNotListed},
		{"not_listed_known_ca", judged("kiosks", chain(client(w.partner))...), termination.ReasonNotListed},
		{"key_proof", with(judged("payments", chain(client(w.issuing))...), func(h *termination.Handshake) {
			h.Verdict.Outcome, h.Verdict.Reason = r, termination.ReasonKeyProof
			h.Alert = &termination.Alert{Number: 51, Name: alertNames[51], Sent: true}
		}), termination.ReasonKeyProof},

		{"revoked", with(judged("payments", chain(client(w.issuing))...), func(h *termination.Handshake) {
			h.Verdict.Outcome, h.Verdict.Reason = r, termination.ReasonRevoked
			h.Verdict.Checks = []termination.Check{{Reason: termination.ReasonRevoked, Detail: "It was revoked on 3 April 2026 09:00 UTC (its key was compromised), says the CRL number 7 of Acme Issuing CA 2 from devices.crl."}}
		}), termination.ReasonRevoked},
		{"revocation_unknown", with(judged("payments", chain(client(w.issuing))...), func(h *termination.Handshake) {
			h.Verdict.Outcome, h.Verdict.Reason = r, termination.ReasonRevocationUnknown
			h.Verdict.Checks = []termination.Check{{Reason: termination.ReasonRevocationUnknown, Detail: "It is not known whether billing-batch was revoked. There is no CRL for the issuer Acme Issuing CA 2."}}
		}), termination.ReasonRevocationUnknown},
		{"policy_denied", with(judged("payments", chain(client(w.issuing))...), func(h *termination.Handshake) {
			h.Verdict.Reason = termination.ReasonPolicyDenied
			h.Error = "the route /admin demands a certificate of the authority partners"
		}), termination.ReasonPolicyDenied},
		{"host_mismatch", with(judged("payments", chain(client(w.issuing))...), func(h *termination.Handshake) {
			h.Verdict.Reason = termination.ReasonHostMismatch
		}), termination.ReasonHostMismatch},
		{"http_broken", with(judged("payments", chain(client(w.issuing))...), func(h *termination.Handshake) {
			h.Verdict.Reason = termination.ReasonHTTPBroken
		}), termination.ReasonHTTPBroken},
		{"proof_missing", with(judged("payments", chain(client(w.issuing))...), func(h *termination.Handshake) {
			h.Verdict.Reason = termination.ReasonProofMissing
			h.Error = "A request was refused by the endpoint payments, which demands a bearer token: it brought none."
		}), termination.ReasonProofMissing},
		{"request_too_large", with(judged("payments", chain(client(w.issuing))...), func(h *termination.Handshake) {
			h.Verdict.Reason = termination.ReasonRequestTooLarge
		}), termination.ReasonRequestTooLarge},
		{"upstream_down", with(judged("payments", chain(client(w.issuing))...), func(h *termination.Handshake) {
			h.Verdict.Reason = termination.ReasonUpstreamDown
			h.Upstream = &termination.UpstreamResult{Address: "http://127.0.0.1:8080", Error: "connect: connection refused"}
		}), termination.ReasonUpstreamDown},
		{"identity_left_out", with(judged("payments", chain(client(w.issuing))...), func(h *termination.Handshake) {
			h.Verdict.Reason = termination.ReasonIdentityLeftOut
		}), termination.ReasonIdentityLeftOut},
		{"upstream_down_raw", with(h("raw", r, termination.ReasonUpstreamDown), func(h *termination.Handshake) {
			h.Upstream = &termination.UpstreamResult{Address: "tcp://127.0.0.1:5432", Error: "connect: connection refused"}
		}), termination.ReasonUpstreamDown},
		{"timeout", with(h("payments", b, termination.ReasonTimeout), func(h *termination.Handshake) { h.Verdict.Beat = termination.BeatServerCert }), termination.ReasonTimeout},
		{"acme_challenge", h("", termination.OutcomeOpen, termination.ReasonACMEChallenge), termination.ReasonACMEChallenge},
		{"agent_offline", h("payments", r, termination.ReasonAgentOffline), termination.ReasonAgentOffline},
		{"agent_broke", with(h("payments", b, termination.ReasonAgentOffline), problem("the agent's tunnel broke during the handshake")), termination.ReasonAgentOffline},
		{"shutdown", h("payments", b, termination.ReasonShutdown), termination.ReasonShutdown},
	}
}

// domainValidated makes a certificate say that a public CA has issued it.
func domainValidated() tlstest.Option {
	oid, err := x509.OIDFromInts([]uint64{2, 23, 140, 1, 2, 1})
	if err != nil {
		panic(err)
	}
	return tlstest.Template(func(c *x509.Certificate) { c.Policies = append(c.Policies, oid) })
}

var (
	sha256Hex = regexp.MustCompile(`[0-9a-f]{64}`)
	base64DER = regexp.MustCompile(`echo [A-Za-z0-9+/=]{100,}`)
	shortHex  = regexp.MustCompile(`[0-9a-f]{12}…[0-9a-f]{2}`)
)

// text is an explanation as the golden files hold it. Keys are new in every run, so fingerprints are masked.
func text(v termination.Verdict) string {
	var b strings.Builder
	ex := v.Explanation
	fmt.Fprintf(&b, "reason: %s\noutcome: %s\nturn: %s\n\n%s\n", v.Reason, v.Outcome, ex.Turn, ex.Sentence)
	if ex.Right != "" {
		fmt.Fprintf(&b, "%s\n", ex.Right)
	}
	for i, f := range ex.Fixes {
		lowers := ""
		if f.Lowers {
			lowers = " (lowers security)"
		}
		fmt.Fprintf(&b, "\n%d. %s%s\n", i+1, f.Text, lowers)
		for line := range strings.Lines(f.Command) {
			fmt.Fprintf(&b, "   $ %s\n", strings.TrimSuffix(line, "\n"))
		}
		if f.Action != "" {
			fmt.Fprintf(&b, "   → %s\n", f.Action)
		}
	}
	if ex.ClientTo != "" {
		fmt.Fprintf(&b, "\nto the client's owner:\n%s\n", ex.ClientTo)
	}
	if len(v.Checks) > 0 {
		fmt.Fprintf(&b, "\nchecks:%s\n", details(v.Checks))
	}
	masked := base64DER.ReplaceAllString(b.String(), "echo <DER>")
	return shortHex.ReplaceAllString(sha256Hex.ReplaceAllString(masked, "<SHA-256>"), "<SHA-256>")
}

func TestExplanations(t *testing.T) {
	w, ruled := newWorld(t), newWorld(t)
	explain(t, w, w.cases(t))
	explain(t, ruled, ruled.ruleCases(t))
}

func explain(t *testing.T, w *world, cases []explained) {
	t.Helper()
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			w.search.Explain(tt.h, noon)
			if tt.h.Verdict.Reason != tt.reason {
				t.Errorf("reason %q, want %q", tt.h.Verdict.Reason, tt.reason)
			}
			got := text(tt.h.Verdict)
			file := filepath.Join("testdata", "explanations", tt.name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("%v; run the test with -update and read what it wrote", err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			again := text(tt.h.Verdict)
			w.search.Explain(tt.h, noon.Add(time.Hour))
			if twice := text(tt.h.Verdict); twice != again {
				t.Errorf("explained again, it says\n%s\ninstead of\n%s", twice, again)
			}
		})
	}
}

func TestEveryReasonOfThisVersionIsExplained(t *testing.T) {
	covered := map[termination.Reason]bool{}
	for _, tt := range append(newWorld(t).cases(t), newWorld(t).ruleCases(t)...) {
		covered[tt.reason] = true
	}
	for _, info := range termination.Reasons() {
		if !info.Later && !covered[info.Code] {
			t.Errorf("no explanation is tested for %q", info.Code)
		}
	}
}

// TestRulesOfExplanations holds what every explanation has to keep, whatever it says.
func TestRulesOfExplanations(t *testing.T) {
	w := newWorld(t)
	cases := w.cases(t)
	for _, info := range termination.Reasons() { // those without any detail
		cases = append(cases, explained{"bare " + string(info.Code), w.handshake("payments", info.Outcome, info.Code), info.Code})
		cases = append(cases, explained{"nowhere " + string(info.Code), w.handshake("", info.Outcome, info.Code), info.Code})
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			w.search.Explain(tt.h, noon)
			ex := tt.h.Verdict.Explanation
			if ex.Sentence == "" {
				t.Fatal("no sentence")
			}
			if tt.h.Verdict.Reason != "" && (ex.Turn == "" || len(ex.Fixes) == 0) {
				t.Errorf("turn %q, %d fixes", ex.Turn, len(ex.Fixes))
			}
			if len(ex.Fixes) > 0 && ex.Fixes[0].Lowers {
				t.Errorf("the first fix lowers security: %s", ex.Fixes[0].Text)
			}
			if strings.Contains(ex.ClientTo, "203.0.113.9") || strings.Contains(ex.ClientTo, "127.0.0.1") {
				t.Errorf("an address for the client's owner: %s", ex.ClientTo)
			}
			all := []string{ex.Sentence, ex.Right, ex.ClientTo}
			for _, f := range ex.Fixes {
				all = append(all, f.Text, f.Action)
				if i := strings.IndexFunc(f.Command, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }); i >= 0 {
					t.Errorf("command %q", f.Command)
				}
				if strings.ContainsAny(f.Command, "`;&<") || strings.Contains(f.Command, "$(") {
					t.Errorf("command %q", f.Command)
				}
				if f.Action != "" && !strings.HasPrefix(f.Action, "/") {
					t.Errorf("action %q", f.Action)
				}
			}
			for _, c := range tt.h.Verdict.Checks {
				all = append(all, c.Detail)
			}
			for _, s := range all {
				if len(s) > 2000 {
					t.Errorf("%d bytes: %s", len(s), s)
				}
				if strings.Contains(s, "bad record MAC") {
					t.Errorf("it repeats bad record MAC: %s", s)
				}
				if i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x202a && r <= 0x202e }); i >= 0 {
					t.Errorf("raw control characters: %q", s)
				}
				if tt.h.Verdict.Reason != termination.ReasonKeyProof && regexp.MustCompile(`(?i)key (is|was|of the client) (proven|right)`).MatchString(s) {
					t.Errorf("it speaks of a key that was not proven: %s", s)
				}
			}
		})
	}
}

// Nothing in a handshake leads to trust by a click: a CA comes in only by a file and a comparison.
func TestNoFixTrustsWhatWasPresented(t *testing.T) {
	w := newWorld(t)
	for _, tt := range w.cases(t) {
		w.search.Explain(tt.h, noon)
		for _, f := range tt.h.Verdict.Explanation.Fixes {
			for _, c := range tt.h.Presented {
				if fp := termination.FingerprintOf(c).String(); strings.Contains(f.Action, fp[:16]) {
					t.Errorf("%s: an action carries what was presented: %s", tt.name, f.Action)
				}
			}
			if strings.HasPrefix(f.Action, "/authorities") && strings.Contains(f.Text, "everyone comes in") && (!f.Lowers || !strings.Contains(f.Text, "compare")) {
				t.Errorf("%s: trusting a CA must be marked and ask for a comparison: %s", tt.name, f.Text)
			}
		}
	}
}

func TestExplainDecidesNothing(t *testing.T) {
	w := newWorld(t)
	for _, tt := range w.cases(t) {
		outcome, beat := tt.h.Verdict.Outcome, tt.h.Verdict.Beat
		name, path := tt.h.Client, slices.Clone(tt.h.Path)
		w.search.Explain(tt.h, noon)
		if tt.h.Verdict.Outcome != outcome || tt.h.Verdict.Beat != beat || tt.h.Client != name || len(tt.h.Path) != len(path) {
			t.Errorf("%s: the record changed", tt.name)
		}
	}
}

// A signature that cannot be checked proves neither a chain to another authority nor another key of that name.
func TestUncheckedSignatureNamesNoAuthority(t *testing.T) {
	w := newWorld(t)
	for _, issuer := range []*tlstest.Cert{w.partner, w.labIssuing, w.root, w.stranger} {
		leaf := *client(issuer).X509
		leaf.SignatureAlgorithm = x509.MD5WithRSA
		h := w.judged(t, "erp", &leaf)
		if issuer == w.partner {
			h = w.judged(t, "bench", &leaf)
		}
		w.search.Explain(h, noon)
		if h.Verdict.Reason != termination.ReasonCAUnknown || !failed(h.Verdict.Checks, termination.ReasonCertWeak) {
			t.Errorf("%s: reason %q%s", issuer.X509.Subject, h.Verdict.Reason, details(h.Verdict.Checks))
		}
	}
}

func TestUncheckedSignatureIsNoEvidence(t *testing.T) {
	w := newWorld(t)
	below := *client(w.labIssuing).X509
	below.SignatureAlgorithm = x509.MD5WithRSA
	h := w.judged(t, "bench", &below)
	w.search.Explain(h, noon)
	if s := h.Verdict.Explanation.Sentence; strings.Contains(s, "we have it") {
		t.Errorf("a kept intermediate is named as the issuer: %s", s)
	}
	foreign := *client(w.stranger).X509
	foreign.SignatureAlgorithm = x509.MD5WithRSA
	h = w.judged(t, "erp", &foreign, w.stranger.X509)
	w.search.Explain(h, noon)
	if s := h.Verdict.Explanation.Sentence; strings.Contains(s, "(key ") {
		t.Errorf("the key of a root is named that may not have signed: %s", s)
	}
}

// crypto/tls may have refused before our own verification ran: then the checks are made up for.
func TestMissingChecksAreFilledIn(t *testing.T) {
	w := newWorld(t)
	h := w.judged(t, "payments", client(w.issuing, tlstest.Expired(), tlstest.Valid(noon.Add(-30*day), noon.Add(-3*day))).Chain()...)
	h.Verdict.Checks = nil
	w.search.Explain(h, noon)
	if !failed(h.Verdict.Checks, termination.ReasonCertExpired) {
		t.Errorf("checks:%s", details(h.Verdict.Checks))
	}
}
