package tlstest

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// client is the configuration of a client that says this server name, speaks one
// version and one protocol, and checks no certificate: an attacker does not care.
func (r *raid) client(serverName string, version uint16, protocol string, as *Cert) *tls.Config {
	config := &tls.Config{
		ServerName: serverName, MinVersion: version, MaxVersion: version, NextProtos: []string{protocol},
		InsecureSkipVerify: true,
	}
	if as != nil {
		config.GetClientCertificate = present(as.TLS())
	}
	return config
}

// present sends a certificate whether or not the server names its issuer.
func present(pair tls.Certificate) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
}

// session is a connection for any number of HTTP requests.
type session struct {
	conn      *tls.Conn
	protocol  string
	transport *http.Transport // of HTTP/2
	reader    *bufio.Reader   // of HTTP/1.1
}

// open connects. Its error may be that the server refuses; with TLS 1.3 that may
// also show later.
func (r *raid) open(config *tls.Config, wrap func(net.Conn) net.Conn) (*session, error) {
	raw, err := net.DialTimeout("tcp", r.target.Addr, patience)
	if err != nil {
		r.t.Fatalf("the target does not even accept connections: %v", err)
	}
	raw.SetDeadline(time.Now().Add(patience))
	if wrap != nil {
		raw = wrap(raw)
	}
	s := &session{conn: tls.Client(raw, config), protocol: config.NextProtos[0]}
	if err := s.conn.Handshake(); err != nil {
		raw.Close()
		return nil, err
	}
	if s.protocol == "h2" {
		if got := s.conn.ConnectionState().NegotiatedProtocol; got != "h2" {
			raw.Close()
			return nil, fmt.Errorf("asked for h2, got %q", got)
		}
		dialled := false
		s.transport = &http.Transport{
			ForceAttemptHTTP2: true,
			DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
				if dialled {
					return nil, fmt.Errorf("the connection was closed")
				}
				dialled = true
				return s.conn, nil
			},
		}
	}
	s.reader = bufio.NewReader(s.conn)
	return s, nil
}

func (s *session) close() {
	if s.transport != nil {
		s.transport.CloseIdleConnections()
	}
	s.conn.Close()
}

// get sends a request for this host and target and returns the answer's status.
func (s *session) get(host, target string, header http.Header) (status int, err error) {
	if s.protocol != "h2" {
		var lines strings.Builder
		for name, values := range header {
			for _, v := range values {
				fmt.Fprintf(&lines, "%s: %s\r\n", name, v)
			}
		}
		return s.raw(fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", target, host, lines.String()))
	}
	raw, _, _ := strings.Cut(target, "?")
	path, err := url.PathUnescape(raw)
	if err != nil {
		return 0, err
	}
	if header == nil {
		header = http.Header{}
	}
	req := &http.Request{
		Method: http.MethodGet, Host: host, Header: header,
		URL: &url.URL{Scheme: "https", Host: "target.invalid", Path: path, RawPath: raw},
	}
	res, err := s.transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

// raw sends these bytes as an HTTP/1.1 request and returns the answer's status.
func (s *session) raw(request string) (status int, err error) {
	if _, err := io.WriteString(s.conn, request); err != nil {
		return 0, err
	}
	res, err := http.ReadResponse(s.reader, nil)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

// get connects, sends one request and leaves.
func (r *raid) get(config *tls.Config, host, target string) (status int, err error) {
	s, err := r.open(config, nil)
	if err != nil {
		return 0, err
	}
	defer s.close()
	return s.get(host, target, nil)
}

// oneTicket is the session cache of somebody who offers the ticket that he has to
// whomever he meets.
type oneTicket struct{ tls.ClientSessionCache }

func newOneTicket() oneTicket { return oneTicket{tls.NewLRUClientSessionCache(1)} }

func (o oneTicket) Get(string) (*tls.ClientSessionState, bool) { return o.ClientSessionCache.Get("") }
func (o oneTicket) Put(_ string, s *tls.ClientSessionState)    { o.ClientSessionCache.Put("", s) }

// fragmenting sends the ClientHello in records of at most size bytes, each in a
// segment of its own if so wished.
type fragmenting struct {
	net.Conn
	size     int
	segments bool
	done     bool
}

func (f *fragmenting) Write(p []byte) (int, error) {
	const headerLen = 5
	if f.done || len(p) < headerLen {
		return f.Conn.Write(p)
	}
	f.done = true
	n := headerLen + int(p[3])<<8 + int(p[4])
	var all []byte
	for body := p[headerLen:n]; len(body) > 0; {
		cut := min(f.size, len(body))
		record := append([]byte{p[0], p[1], p[2], byte(cut >> 8), byte(cut)}, body[:cut]...)
		body = body[cut:]
		if !f.segments {
			all = append(all, record...)
			continue
		}
		for i := range record {
			if _, err := f.Conn.Write(record[i : i+1]); err != nil {
				return 0, err
			}
		}
	}
	if _, err := f.Conn.Write(append(all, p[n:]...)); err != nil {
		return 0, err
	}
	return len(p), nil
}
