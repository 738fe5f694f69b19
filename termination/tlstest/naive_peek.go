package tlstest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
)

// peeked is a connection whose ClientHello has been looked at; reading it begins
// with the hello again.
type peeked struct {
	net.Conn
	replay   io.Reader
	endpoint string
	fallback bool // the endpoint is not the one that the client named

	once   sync.Once
	closed chan struct{}
}

type admittedKey struct{}

func (p *peeked) Read(b []byte) (int, error) { return p.replay.Read(b) }

func (p *peeked) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.Conn.Close()
}

var errNoEndpoint = errors.New("no endpoint of that name")

// peek finds the endpoint by the server name, by a throw-away handshake that
// crypto/tls aborts as soon as it has read the hello.
func (n *naive) peek(conn net.Conn) (*peeked, error) {
	var seen bytes.Buffer
	var source io.Reader = io.TeeReader(conn, &seen)
	if n.has(OneRecord) {
		record, err := readRecord(source)
		if err != nil {
			return nil, err
		}
		source = bytes.NewReader(record)
	}
	name, err := serverName(conn, source)
	p := &peeked{Conn: conn, replay: io.MultiReader(&seen, conn), endpoint: name, closed: make(chan struct{})}
	switch {
	case err != nil && n.has(OneRecord), err == nil && n.world.Upstream(name) == nil && n.has(DefaultEndpoint):
		p.endpoint, p.fallback = OpenName, true
		return p, nil
	case err != nil:
		return nil, err
	case n.world.Upstream(name) == nil:
		const fatal, unrecognizedName = 2, 112
		conn.Write([]byte{21, 3, 3, 0, 2, fatal, unrecognizedName})
		return nil, errNoEndpoint
	}
	return p, nil
}

// serverName reads a ClientHello from source and writes nothing.
func serverName(conn net.Conn, source io.Reader) (name string, err error) {
	enough := errors.New("seen enough")
	err = tls.Server(&readOnly{Conn: conn, source: source}, &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			name = hello.ServerName
			return nil, enough
		},
	}).Handshake()
	if errors.Is(err, enough) {
		err = nil
	}
	return name, err
}

// readRecord reads one TLS record.
func readRecord(r io.Reader) ([]byte, error) {
	var header [5]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	body := make([]byte, int(header[3])<<8|int(header[4]))
	_, err := io.ReadFull(r, body)
	return append(header[:], body...), err
}

// readOnly reads from source and swallows what is written.
type readOnly struct {
	net.Conn
	source io.Reader
}

func (c *readOnly) Read(p []byte) (int, error)  { return c.source.Read(p) }
func (c *readOnly) Write(p []byte) (int, error) { return len(p), nil }
func (c *readOnly) Close() error                { return nil }
