package acme_test

import (
	"encoding/base64"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"countersign/termination"
	"countersign/termination/acme"
	"countersign/termination/tlstest"
)

const tsigName = "acme.key."

func tsigSecret() string {
	return base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
}

// primary is a name server that takes signed dynamic updates of one zone, and hands them to the CA's resolver.
func primary(t *testing.T, a *authority, zone string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		switch {
		case q.Opcode == dns.OpcodeUpdate:
			m.Rcode = update(a, w, q)
			m.SetTsig(tsigName, dns.HmacSHA256, 300, int64(q.IsTsig().TimeSigned))
		case q.Question[0].Qtype == dns.TypeSOA && q.Question[0].Name == zone:
			m.Answer = append(m.Answer, &dns.SOA{Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60}, Ns: "ns." + zone, Mbox: "ops." + zone})
		case q.Question[0].Qtype == dns.TypeTXT:
			for _, text := range a.names.GetDNSTXTRecords(q.Question[0].Name) {
				m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{text}})
			}
		}
		_ = w.WriteMsg(m)
	})
	secrets := map[string]string{tsigName: tsigSecret()}
	for _, s := range []*dns.Server{{Listener: l, Handler: handler, TsigSecret: secrets}, {PacketConn: packets, Handler: handler, TsigSecret: secrets}} {
		s.MsgAcceptFunc = func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept } // updates are refused by default
		done, started := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { defer close(done); _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown(); <-done })
	}
	return l.Addr().String()
}

func update(a *authority, w dns.ResponseWriter, q *dns.Msg) int {
	if q.IsTsig() == nil || w.TsigStatus() != nil {
		return dns.RcodeNotAuth
	}
	for _, rr := range q.Ns {
		txt, ok := rr.(*dns.TXT)
		switch {
		case !ok:
			return dns.RcodeFormatError
		case txt.Hdr.Class == dns.ClassNONE: // RFC 2136, section 2.5.4
			others := a.names.GetDNSTXTRecords(txt.Hdr.Name)
			a.names.DeleteDNSTXTRecord(txt.Hdr.Name) // all of that name
			for _, text := range others {
				if text != txt.Txt[0] {
					a.names.AddDNSTXTRecord(txt.Hdr.Name, text)
				}
			}
		default:
			a.names.AddDNSTXTRecord(txt.Hdr.Name, txt.Txt[0])
		}
	}
	return dns.RcodeSuccess
}

func TestWildcardByDNS(t *testing.T) {
	port := freePort(t)
	a := newAuthority(t, freePort(t), freePort(t))
	settings := a.settings()
	server := primary(t, a, "zone.test.")
	settings.DNS = termination.ACMEDNS{Provider: "rfc2136", Settings: map[string]string{
		"server": server, "key_name": "acme.key", "key": tsigSecret(), "resolvers": server,
	}}
	r := newRig(t, port, options{settings: settings}, "a.zone.test", "*.a.zone.test")
	for _, name := range []string{"a.zone.test", "*.a.zone.test"} {
		if s := r.status(name, acme.StateOK); !slices.Equal(s.Leaf.DNSNames, []string{name}) {
			t.Errorf("%s has a certificate for %q", name, s.Leaf.DNSNames)
		}
	}
	for _, name := range []string{"a.zone.test", "b.a.zone.test"} {
		tlstest.Eventually(t, "the certificate for "+name, func() bool { return r.from(name, a.roots(t)) })
	}
	if left := a.names.GetDNSTXTRecords("_acme-challenge.a.zone.test."); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestWrongKeyOfTheNameServer(t *testing.T) {
	a := newAuthority(t, freePort(t), freePort(t))
	settings := a.settings()
	server := primary(t, a, "other.test.")
	settings.DNS = termination.ACMEDNS{Provider: "rfc2136", Settings: map[string]string{
		"server": server, "key_name": "acme.key", "key": base64.StdEncoding.EncodeToString([]byte("another")), "resolvers": server,
	}}
	r := newRig(t, freePort(t), options{settings: settings}, "a.other.test")
	s := r.status("a.other.test", acme.StateFailed)
	if !strings.HasSuffix(s.Error, "bad authentication") {
		t.Errorf("the name server's words: %q", s.Error)
	}
}
