package acme

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/libdns/libdns"
	"github.com/mholt/acmez/v3"
	"github.com/miekg/dns"

	"countersign/termination"
)

const (
	recordTTL = time.Minute
	// spreadTime bounds how long a record may take to be seen by all its name servers.
	spreadTime = 3 * time.Minute
)

// provider returns the DNS provider that the settings name. The settings were validated with the configuration; the names
// and keys are those of [termination.DNSProviders].
func provider(a termination.ACMEDNS) (certmagic.DNSProvider, error) {
	s := a.Settings
	switch a.Provider {
	case "cloudflare":
		return &cloudflare{api: rest{base: "https://api.cloudflare.com/client/v4", token: s["api_token"]}}, nil
	case "digitalocean":
		return &digitalOcean{api: rest{base: "https://api.digitalocean.com/v2", token: s["api_token"]}}, nil
	case "rfc2136":
		return newRFC2136(s)
	}
	return nil, fmt.Errorf("the DNS provider %q is unknown", a.Provider)
}

// dnsSolver answers DNS-01 challenges (RFC 8555, section 8.4).
func dnsSolver(a termination.ACMEDNS) (acmez.Solver, error) {
	p, err := provider(a)
	if err != nil {
		return nil, err
	}
	solver := &certmagic.DNS01Solver{DNSManager: certmagic.DNSManager{DNSProvider: p, TTL: recordTTL, PropagationTimeout: spreadTime}}
	for server := range strings.SplitSeq(a.Settings["resolvers"], ",") {
		if server = strings.TrimSpace(server); server != "" {
			solver.Resolvers = append(solver.Resolvers, server)
		}
	}
	return solver, nil
}

// rfc2136 writes records by dynamic updates (RFC 2136) signed with a shared key (RFC 8945), as BIND, Knot and PowerDNS
// take them.
type rfc2136 struct {
	server    string
	keyName   string
	key       string
	algorithm string
}

var _ certmagic.DNSProvider = (*rfc2136)(nil)

func newRFC2136(s map[string]string) (*rfc2136, error) {
	algorithm := s["key_algorithm"]
	switch algorithm {
	case "":
		algorithm = "hmac-sha256"
	case "hmac-sha256", "hmac-sha384", "hmac-sha512":
	default:
		return nil, fmt.Errorf("key_algorithm %q is unknown; use hmac-sha256, hmac-sha384 or hmac-sha512", algorithm)
	}
	return &rfc2136{server: s["server"], keyName: dns.Fqdn(s["key_name"]), key: s["key"], algorithm: dns.Fqdn(algorithm)}, nil
}

// AppendRecords implements libdns.RecordAppender.
func (p *rfc2136) AppendRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return records, p.update(ctx, zone, records, (*dns.Msg).Insert)
}

// DeleteRecords implements libdns.RecordDeleter.
func (p *rfc2136) DeleteRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return records, p.update(ctx, zone, records, (*dns.Msg).Remove)
}

func (p *rfc2136) update(ctx context.Context, zone string, records []libdns.Record, change func(*dns.Msg, []dns.RR)) error {
	m := new(dns.Msg)
	m.SetUpdate(dns.Fqdn(zone))
	for _, r := range records {
		rr := r.RR()
		change(m, []dns.RR{&dns.TXT{
			Hdr: dns.RR_Header{Name: dns.Fqdn(libdns.AbsoluteName(rr.Name, zone)), Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: uint32(recordTTL / time.Second)},
			Txt: []string{rr.Data}, // of a challenge: 43 characters
		}})
	}
	const fudge = 300
	m.SetTsig(p.keyName, p.algorithm, fudge, time.Now().Unix())
	c := dns.Client{Net: "tcp", TsigSecret: map[string]string{p.keyName: p.key}, Timeout: requestTime}
	answer, _, err := c.ExchangeContext(ctx, m, p.server)
	if err != nil {
		return fmt.Errorf("update zone %s at %s: %w", zone, p.server, err)
	}
	if answer.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("update zone %s at %s: the name server says %s", zone, p.server, dns.RcodeToString[answer.Rcode])
	}
	return nil
}
