package doctor

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"countersign/termination"
	"countersign/termination/wire"
)

// markerPrefix begins the name that ends the ALPN list.
const markerPrefix = "countersign-doctor-"

// maxBody bounds what is read of an answer, in bytes.
const maxBody = 64 << 10

// trial is how one handshake is made.
type trial struct {
	what     string
	max      uint16 // TLS version; 0: the newest
	trusting bool   // go on whatever the server presents; then nothing is sent to it
	identity *Identity
	request  bool // ask over HTTP
}

// seen is what was parsed of a handshake.
type seen struct {
	chain []*x509.Certificate
	named [][]byte // names of CAs, as DER
	err   error
	// distrust says why the client refuses the server's certificate.
	distrust error
}

// errDistrust ends a handshake from the client's side.
var errDistrust = errors.New("this client does not accept the server's certificate")

// meet makes one handshake over raw, which it closes.
func (x *examination) meet(ctx context.Context, raw net.Conn, how trial) *Attempt {
	a := &Attempt{What: how.what, Started: x.o.Now(), Local: addressOf(raw.LocalAddr()), Remote: addressOf(raw.RemoteAddr())}
	defer func() {
		_ = raw.Close()
		a.Ended = x.o.Now()
	}()
	defer context.AfterFunc(ctx, func() { _ = raw.Close() })() // told to end, it waits for no answer
	ctx, cancel := context.WithTimeout(ctx, x.o.Patience)
	defer cancel()
	ticket := &ticketWatch{raw: raw}
	conn := tls.Client(raw, x.config(a, how, ticket))
	err := conn.HandshakeContext(ctx)
	state := conn.ConnectionState()
	if state.Version != 0 {
		a.Version, a.CipherSuite, a.ALPN = wire.VersionName(state.Version), wire.CipherSuiteName(state.CipherSuite), state.NegotiatedProtocol
		if state.CurveID != 0 {
			a.Group = wire.GroupName(uint16(state.CurveID))
		}
	}
	if err != nil {
		a.failed(err)
		return a
	}
	a.Finished = true
	_ = raw.SetDeadline(time.Now().Add(x.o.Patience)) // fails only on a closed connection, and then so does the rest
	switch {
	case how.trusting:
	case how.request:
		x.ask(conn, a)
	case state.Version == tls.VersionTLS13:
		x.listen(conn, a, ticket)
	}
	return a
}

func (x *examination) config(a *Attempt, how trial, ticket *ticketWatch) *tls.Config {
	c := &tls.Config{
		ServerName: x.target.name, MaxVersion: how.max, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection below verifies, and says all that is wrong instead of the first
		NextProtos:         slices.Clone(x.o.ALPN),
		VerifyConnection: func(state tls.ConnectionState) error {
			a.parsed.chain = state.PeerCertificates
			for _, cert := range state.PeerCertificates {
				a.Server = append(a.Server, presented(cert))
			}
			if a.parsed.distrust = x.distrust(state.PeerCertificates); a.parsed.distrust != nil && !how.trusting {
				return errDistrust
			}
			return nil
		},
		GetClientCertificate: func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			a.Asked, a.parsed.named = true, info.AcceptableCAs
			for _, name := range info.AcceptableCAs {
				a.Named = append(a.Named, nameOf(name))
			}
			if how.identity == nil || !how.identity.Fits() {
				return &tls.Certificate{}, nil
			}
			a.Sent = true // whatever the server names: so do curl and openssl
			pair := &tls.Certificate{PrivateKey: how.identity.Key}
			for _, c := range how.identity.Chain {
				pair.Certificate = append(pair.Certificate, c.Raw)
			}
			return pair, nil
		},
	}
	if !how.request && how.max != tls.VersionTLS12 {
		c.ClientSessionCache = ticket
	}
	if x.target.https {
		c.NextProtos = []string{termination.ALPNHTTP1}
	}
	if len(c.NextProtos) > 0 { // alone it would be the only protocol, and a server that has others would refuse
		var random [8]byte
		_, _ = rand.Read(random[:]) // never fails
		a.Marker = markerPrefix + hex.EncodeToString(random[:])
		c.NextProtos = append(c.NextProtos, a.Marker)
	}
	return c
}

func (a *Attempt) failed(err error) {
	a.parsed.err, a.Error = err, err.Error()
	if number, is := wire.RemoteAlert(err); is {
		a.Alert = &termination.Alert{Number: number, Name: wire.AlertName(number)}
	}
}

// ask sends one request. What a server that refuses in TLS 1.3 answers to it is an alert.
func (x *examination) ask(conn *tls.Conn, a *Attempt) {
	method := http.MethodGet
	if x.o.Head {
		method = http.MethodHead
	}
	host := x.target.hostHeader()
	// An error of writing may mean that the refusal is on its way already: it is read below.
	_, _ = io.WriteString(conn, method+" "+x.target.path+" HTTP/1.1\r\nHost: "+host+"\r\nUser-Agent: countersign-doctor\r\nAccept: application/problem+json, */*\r\nConnection: close\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxBody)), &http.Request{Method: method})
	if err != nil {
		a.failed(err)
		return
	}
	defer func() { _ = res.Body.Close() }()
	h := &HTTPAnswer{Status: res.StatusCode, Server: res.Header.Get("Server")}
	a.HTTP = h
	if h.Date, err = http.ParseTime(res.Header.Get("Date")); err != nil {
		h.Date = time.Time{}
	}
	text, _ := io.ReadAll(res.Body) // as much as there is
	var problem struct{ Title, Detail, Code, Handshake string }
	if json.Unmarshal(text, &problem) == nil && (problem.Code != "" || problem.Title != "") {
		h.Code, h.Handshake, h.Detail = problem.Code, problem.Handshake, problem.Detail
		if h.Detail == "" {
			h.Detail = problem.Title
		}
		return
	}
	// nginx answers what TLS let pass with 400 and these words in a page.
	for _, words := range []string{"No required SSL certificate was sent", "The SSL certificate error"} {
		if h.Status == http.StatusBadRequest && strings.Contains(string(text), words) {
			h.Detail = words
		}
	}
}

// ticketWatch notices the first session ticket: a TLS 1.3 server that lets a client in sends one, mostly (RFC 8446, section
// 4.6.1), and then nobody has to wait for an alert any more.
type ticketWatch struct {
	raw  net.Conn
	seen bool
}

// Get implements tls.ClientSessionCache: every handshake is a full one.
func (t *ticketWatch) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

// Put implements tls.ClientSessionCache.
func (t *ticketWatch) Put(_ string, session *tls.ClientSessionState) {
	if session != nil {
		t.seen = true
		_ = t.raw.SetReadDeadline(time.Unix(1, 0)) // enough was read
	}
}

// listen waits for what a TLS 1.3 server says once the client has finished.
func (x *examination) listen(conn *tls.Conn, a *Attempt, ticket *ticketWatch) {
	if !ticket.seen {
		_ = conn.SetReadDeadline(time.Now().Add(x.o.Listen))
	}
	n, err := conn.Read(make([]byte, 1))
	timeout, _ := errors.AsType[net.Error](err)
	if n > 0 || ticket.seen || timeout != nil && timeout.Timeout() {
		return
	}
	a.failed(err)
}

func addressOf(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	address := tcp.AddrPort()
	return netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
}
