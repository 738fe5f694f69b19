package proof

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"countersign/termination"
	"countersign/termination/wire"
)

// attempt is one client of the proof.
type attempt struct {
	endpoint *termination.Endpoint
	cert     *tls.Certificate // nil: none
	min, max uint16           // TLS versions; 0: those of this library
	// path, where HTTP and not TLS decides: a request for it is sent, which the policy says goes no further than the gateway.
	path string
}

// sight is what a client saw.
type sight struct {
	verdict verdict // empty: the connection broke, and detail says how
	detail  string
	alert   *termination.Alert
	version uint16
	asked   bool // for a certificate
	leaf    *x509.Certificate
	record  *termination.Handshake // what the gateway recorded of it; nil: it was not told
}

// meet makes one handshake over raw and waits until it is plain whether this client is let in. It sends no byte inside
// TLS unless HTTP has to decide, so nothing reaches the service behind that was not let in already.
func (a *attempt) meet(ctx context.Context, raw net.Conn, patience time.Duration) sight {
	if err := a.preface(raw); err != nil {
		return sight{detail: err.Error()}
	}
	var s sight
	ticket := &ticketWatch{raw: raw}
	conn := tls.Client(raw, a.config(&s, ticket))
	err := conn.HandshakeContext(ctx)
	state := conn.ConnectionState()
	s.version = state.Version
	switch {
	case err != nil:
		s.failed(err)
	case a.path != "":
		a.ask(conn, &s)
	case state.Version < tls.VersionTLS13:
		// The server's Finished comes after it has looked at the certificate (RFC 5246, section 7.3).
		s.in(state)
	default:
		s.watch(ctx, conn, ticket, patience)
	}
	return s
}

// config is that of a client that presents what it is told to, whatever the server announces.
func (a *attempt) config(s *sight, ticket *ticketWatch) *tls.Config {
	// What is to be shown is whom the server lets in. Its own certificate is looked at as such, see passthrough.go.
	config := &tls.Config{
		ServerName:         a.endpoint.Host,
		InsecureSkipVerify: true, //nolint:gosec // see above
		MinVersion:         a.min, MaxVersion: a.max,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			s.asked = true
			if a.cert == nil {
				return &tls.Certificate{}, nil
			}
			return a.cert, nil
		},
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) > 0 {
				s.leaf = state.PeerCertificates[0]
			}
			return nil
		},
	}
	if a.path == "" {
		config.ClientSessionCache = ticket
	}
	config.NextProtos = a.endpoint.TLSPolicy().ALPN
	if a.path != "" {
		config.NextProtos = []string{termination.ALPNHTTP1}
	}
	return config
}

// in notes that the client was let in.
func (s *sight) in(state tls.ConnectionState) {
	s.verdict = letIn
	s.detail = wire.VersionName(state.Version)
	if state.CurveID != 0 {
		s.detail += ", " + wire.GroupName(uint16(state.CurveID))
	}
}

// failed notes what ended a handshake. Only an alert is a refusal: anything else may have broken the connection.
func (s *sight) failed(err error) {
	number, isAlert := wire.RemoteAlert(err)
	if !isAlert {
		s.detail = "the connection broke: " + err.Error()
		return
	}
	s.verdict = refused
	s.alert = &termination.Alert{Number: number, Name: wire.AlertName(number)}
	s.detail = fmt.Sprintf("alert %d %s", number, s.alert.Name)
}

// ticketWatch notices the first session ticket. A TLS 1.3 client has finished before the server looks at its
// certificate; what comes then is an alert or, from a server that let it in, a ticket (RFC 8446, section 4.6.1).
type ticketWatch struct {
	raw  net.Conn
	seen bool // by the goroutine that reads
}

// Get implements tls.ClientSessionCache: every handshake is a full one.
func (t *ticketWatch) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

// Put implements tls.ClientSessionCache.
func (t *ticketWatch) Put(_ string, session *tls.ClientSessionState) {
	if session == nil {
		return
	}
	t.seen = true
	_ = t.raw.SetReadDeadline(longAgo()) // enough was read
}

// watch waits for what a TLS 1.3 server says after the client has finished.
func (s *sight) watch(ctx context.Context, conn *tls.Conn, ticket *ticketWatch, patience time.Duration) {
	_ = conn.SetReadDeadline(time.Now().Add(patience)) // fails only on a closed connection, and then so does the read
	n, err := conn.Read(make([]byte, 1))
	timeout, _ := errors.AsType[net.Error](err)
	switch {
	case n > 0, ticket.seen:
		s.in(conn.ConnectionState())
	case ctx.Err() != nil:
		s.detail = "it took too long"
	case timeout != nil && timeout.Timeout():
		s.in(conn.ConnectionState())
		s.detail += ", and the connection stays open"
	case errors.Is(err, io.EOF):
		s.detail = "the connection was closed without an alert"
	default:
		s.failed(err)
	}
}

// maxAnswer bounds what is read of an HTTP answer, in bytes.
const maxAnswer = 64 << 10

// longAgo is a deadline that ends what is under way.
func longAgo() time.Time { return time.Unix(1, 0) }

// ask sends a request that HTTP has to refuse, since TLS let the client in for the sake of another path.
func (a *attempt) ask(conn *tls.Conn, s *sight) {
	host := strings.TrimPrefix(a.endpoint.URL(), "https://")
	if a.endpoint.Host == "" {
		host = a.endpoint.Address().String()
	}
	request := "GET " + a.path + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: countersign-proof\r\nAccept: application/problem+json\r\nConnection: close\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		s.failed(err)
		return
	}
	answer, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxAnswer)), nil)
	if err != nil {
		s.failed(err)
		return
	}
	defer func() { _ = answer.Body.Close() }()
	s.detail = fmt.Sprintf("HTTP %d", answer.StatusCode)
	switch {
	case answer.StatusCode == http.StatusForbidden && fromGateway(answer):
		s.verdict = refused
	case answer.StatusCode == http.StatusBadRequest, answer.StatusCode == http.StatusMisdirectedRequest:
		s.detail = "the request was not understood: " + s.detail
	default:
		s.verdict = letIn
	}
}

// fromGateway tells the gateway's own refusal from one of the service behind, which it would not have reached.
func fromGateway(answer *http.Response) bool {
	var problem struct {
		Handshake string `json:"handshake"`
		Code      string `json:"code"`
	}
	return answer.Header.Get("Content-Type") == "application/problem+json" &&
		json.NewDecoder(answer.Body).Decode(&problem) == nil && problem.Handshake != "" && problem.Code != ""
}

// preface sends what has to come before TLS on this endpoint.
func (a *attempt) preface(raw net.Conn) error {
	if err := proxyHeader(a.endpoint, raw); err != nil {
		return err
	}
	if a.endpoint.StartTLS != termination.StartTLSPostgres {
		return nil
	}
	// An SSLRequest, which the server answers with one byte (PostgreSQL, section 54.2.11).
	if _, err := raw.Write([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}); err != nil {
		return fmt.Errorf("ask for TLS: %w", err)
	}
	var answer [1]byte
	if _, err := io.ReadFull(raw, answer[:]); err != nil {
		return fmt.Errorf("ask for TLS: %w", err)
	}
	if answer[0] != 'S' {
		return fmt.Errorf("the endpoint does not take TLS: it answered %q", answer[0])
	}
	return nil
}

// proxyHeader sends a PROXY protocol header where this machine has to. LOCAL says that the connection is the sender's
// own, as that of a health check (the PROXY protocol, section 2.2).
func proxyHeader(e *termination.Endpoint, raw net.Conn) error {
	own, ok := raw.LocalAddr().(*net.TCPAddr)
	if !ok {
		return nil
	}
	address := own.AddrPort().Addr().Unmap()
	for _, p := range e.ProxyProtocol {
		if p.Contains(address) {
			if _, err := raw.Write([]byte(proxyLocal)); err != nil {
				return fmt.Errorf("send a PROXY header: %w", err)
			}
			return nil
		}
	}
	return nil
}

// proxyLocal is a PROXY protocol header, version 2, command LOCAL, without addresses.
const proxyLocal = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
