package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// examination is one run.
type examination struct {
	o      Options
	target target
	report *Report

	guessed bool // the addresses, of a name below localhost
}

// Examine looks at a service and returns what its client sees. The error says that the options mean nothing; whatever the
// service does is in the report. It ends within a minute, or with ctx.
func Examine(ctx context.Context, o Options) (*Report, error) {
	o.defaults()
	t, err := o.target()
	if err != nil {
		return nil, err
	}
	if o.Identity != nil && (len(o.Identity.Chain) == 0 || o.Identity.Key == nil) {
		return nil, errors.New("the client's identity has no certificate, or no key")
	}
	x := &examination{o: o, target: t, report: &Report{URL: o.URL, Name: t.name, Time: o.Now(), Result: NotTried}}
	x.lookAtClient()
	if addresses := x.resolve(ctx); len(addresses) > 0 {
		if conn := x.connect(ctx, addresses); conn != nil {
			x.handshakes(ctx, conn)
		}
	}
	return x.report, nil
}

func (t *target) hostHeader() string {
	host := t.name
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if t.port != 443 {
		host += ":" + strconv.Itoa(int(t.port))
	}
	return host
}

// resolve finds the addresses of the host.
func (x *examination) resolve(ctx context.Context) []netip.Addr {
	host := x.target.host
	if address, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{address.Unmap()}
	}
	ctx, cancel := context.WithTimeout(ctx, x.o.Patience)
	defer cancel()
	found, err := x.o.Resolve(ctx, host)
	if len(found) > 0 {
		names := make([]string, 0, len(found))
		for i := range found {
			found[i] = found[i].Unmap()
			names = append(names, found[i].String())
		}
		state, more := OK, ""
		if len(found) > mostAddresses {
			found, state, more = found[:mostAddresses], Note, fmt.Sprintf("; only the first %d are looked at", mostAddresses)
			names = names[:mostAddresses]
		}
		x.report.add("name", state, host+" is "+strings.Join(names, ", ")+more, "")
		return found
	}
	if host == "localhost" || strings.HasSuffix(strings.TrimSuffix(host, "."), ".localhost") {
		x.report.add("name", Warn, host+" is unknown to this system's resolver; taken for loopback, as curl and browsers do by themselves (RFC 6761, section 6.3)",
			"for programs that do not resolve it by themselves, add to the hosts file: 127.0.0.1 "+host)
		x.guessed = true
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	text := host + " has no address"
	if err != nil {
		text = host + " does not resolve: " + resolverWords(err)
	}
	x.report.add("name", Bad, text, "check the spelling; for a name that only some machines know, connect to its address and give the name with --servername")
	return nil
}

func resolverWords(err error) string {
	dns, is := errors.AsType[*net.DNSError](err)
	switch {
	case is && dns.IsNotFound:
		return "no such name"
	case is && dns.IsTimeout, errors.Is(err, context.DeadlineExceeded):
		return "the name server does not answer"
	case is:
		return dns.Err
	}
	return err.Error()
}

// connect opens a connection to each address, and returns the first.
func (x *examination) connect(ctx context.Context, addresses []netip.Addr) net.Conn {
	var first net.Conn
	for _, address := range addresses {
		to := netip.AddrPortFrom(address, x.target.port)
		begun := time.Now()
		dialing, cancel := context.WithTimeout(ctx, x.o.Patience)
		conn, err := x.o.Dial(dialing, to)
		cancel()
		if err != nil {
			x.report.add("connect", Bad, to.String()+": "+dialWords(err), dialFix(err))
			continue
		}
		x.report.add("connect", OK, fmt.Sprintf("%s in %.1f ms", to, float64(time.Since(begun).Microseconds())/1000), "")
		if first != nil {
			_ = conn.Close()
			continue
		}
		first = conn
	}
	if first == nil {
		return nil
	}
	// One address that works is enough. Where the addresses were guessed, the other is no fault.
	if x.guessed {
		x.report.Steps = slices.DeleteFunc(x.report.Steps, func(s Step) bool { return s.Name == "connect" && s.State == Bad })
	}
	for i := range x.report.Steps {
		if s := &x.report.Steps[i]; s.Name == "connect" && s.State == Bad {
			s.State = Warn
		}
	}
	return first
}

func dialWords(err error) string {
	timeout, _ := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused, nothing listens on this port"
	case timeout != nil && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "no answer"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route from here"
	}
	return err.Error()
}

func dialFix(err error) string {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "check the port, and that the service runs and listens on this address and not on loopback alone"
	}
	return "check the address, and firewalls in between"
}

// handshakes makes the one that counts, and those that explain it.
func (x *examination) handshakes(ctx context.Context, conn net.Conn) {
	r := x.report
	own := x.meet(ctx, conn, trial{what: "as clients do", identity: x.o.Identity, request: x.target.https})
	r.Attempts = append(r.Attempts, own)
	if len(own.parsed.chain) > 0 {
		x.lookAtServer(own.parsed.chain)
	}
	switch {
	case own.parsed.distrust != nil:
		r.Result, r.RefusedBy = NotLetIn, SideClient
		r.add("handshake", Bad, "this client ended the handshake, because it does not accept the server's certificate", "")
		x.lookAgain(ctx, own.Remote)
		return
	case len(own.parsed.chain) == 0:
		x.noAgreement(own)
		return
	}
	x.agreed(own)
	x.lookAtRequest(own)
	x.decide(own)
	x.older(ctx, own)
	x.clock(own)
}

// again makes one more handshake with an address.
func (x *examination) again(ctx context.Context, address netip.AddrPort, how trial) *Attempt {
	dialing, cancel := context.WithTimeout(ctx, x.o.Patience)
	defer cancel()
	conn, err := x.o.Dial(dialing, address)
	if err != nil {
		return nil
	}
	a := x.meet(ctx, conn, how)
	x.report.Attempts = append(x.report.Attempts, a)
	return a
}

// lookAgain learns what else a server wants whose certificate this client does not accept.
func (x *examination) lookAgain(ctx context.Context, address netip.AddrPort) {
	if a := x.again(ctx, address, trial{what: "looking only: nothing verified, nothing presented", trusting: true}); a != nil && len(a.parsed.chain) > 0 {
		x.agreed(a)
		x.lookAtRequest(a)
	}
}

func (x *examination) agreed(a *Attempt) {
	if a.Version == "" {
		return
	}
	text := a.Version + ", " + a.CipherSuite
	if a.Group != "" {
		text += ", " + a.Group
	}
	if a.ALPN != "" {
		text += ", ALPN " + a.ALPN
	}
	x.report.add("agreement", OK, text, "")
}

// older tries TLS 1.2 alone, for clients that have nothing newer. No request is sent.
func (x *examination) older(ctx context.Context, own *Attempt) {
	if own.Version != "TLS 1.3" {
		return
	}
	a := x.again(ctx, own.Remote, trial{what: "TLS 1.2 alone", max: tls.VersionTLS12, identity: x.o.Identity})
	switch {
	case a == nil:
	case a.Finished && x.report.Result == LetIn:
		x.report.add("TLS 1.2", OK, "clients that have nothing newer are let in too", "")
	case a.Finished:
		x.report.add("TLS 1.2", Note, "with it alone, the handshake is finished", "")
	case a.Alert != nil:
		x.report.add("TLS 1.2", Note, "with it alone, the server answers alert "+alertWords(a), "")
	default:
		x.report.add("TLS 1.2", Note, "with it alone, there is no handshake: "+a.Error, "")
	}
}

// clock compares clocks where the server told its own, in whole seconds.
func (x *examination) clock(a *Attempt) {
	if a.HTTP == nil || a.HTTP.Date.IsZero() {
		return
	}
	const tolerated = 30 * time.Second
	ahead := a.Ended.Sub(a.HTTP.Date)
	if ahead.Abs() < tolerated {
		return
	}
	way := "ahead of"
	if ahead < 0 {
		way = "behind"
	}
	x.report.add("clock", Warn, fmt.Sprintf("this machine's clock is %s %s the server's; certificates are judged by it", ahead.Abs().Round(time.Second), way), "set the clock that is wrong, as with: timedatectl set-ntp true")
}

// noAgreement says why no certificate came.
func (x *examination) noAgreement(a *Attempt) {
	r := x.report
	plain, isPlain := errors.AsType[tls.RecordHeaderError](a.parsed.err)
	timeout, _ := errors.AsType[net.Error](a.parsed.err)
	switch {
	case isPlain && strings.HasPrefix(string(plain.RecordHeader[:]), "HTTP/"):
		r.add("handshake", Bad, "the server speaks plain HTTP on this port", "use http:// or the port of its TLS")
	case isPlain:
		r.add("handshake", Bad, fmt.Sprintf("the server does not speak TLS on this port: it begins with %q", plain.RecordHeader[:]), "use the port of its TLS; protocols that begin in plaintext (STARTTLS) are not spoken here")
	case a.Alert != nil:
		r.Result, r.RefusedBy = NotLetIn, SideServer
		text, fix := x.alertStory(a)
		r.add("handshake", Bad, text, fix)
	case strings.Contains(a.Error, "unsupported protocol version"):
		r.Result, r.RefusedBy = NotLetIn, SideClient
		r.add("handshake", Bad, "the server chose a version of TLS below 1.2, which this client does not speak", "raise the server's versions to TLS 1.2 and 1.3")
	case timeout != nil && timeout.Timeout(), errors.Is(a.parsed.err, context.DeadlineExceeded):
		r.add("handshake", Bad, "the server accepts the connection and says nothing", "check that TLS is spoken on this port, and that nothing in between holds it up")
	case errors.Is(a.parsed.err, io.EOF), errors.Is(a.parsed.err, io.ErrUnexpectedEOF), errors.Is(a.parsed.err, syscall.ECONNRESET):
		r.Result, r.RefusedBy = NotLetIn, SideServer
		r.add("handshake", Bad, "the connection was closed after the ClientHello, without an alert", "check the port; some balancers and firewalls close what carries a name that they do not know")
	default:
		r.add("handshake", Bad, "the handshake broke: "+a.Error, "")
	}
}
