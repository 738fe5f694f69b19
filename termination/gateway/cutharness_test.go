package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/net/http2"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// kinds are the ways in which a client can stay connected.
func kinds() []string { return []string{"raw", "h1", "h2", "websocket"} }

// liveClient is a client that was let in and stays.
type liveClient struct {
	kind  string
	local string
	gone  chan struct{} // closed when the connection has ended for the client
	after time.Time     // when it ended
	say   func() error  // makes the service answer
	close func()
}

// watched is a connection that notes its end.
type watched struct {
	net.Conn
	client *liveClient
	once   sync.Once
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil {
		w.once.Do(func() {
			w.client.after = time.Now()
			close(w.client.gone)
		})
	}
	return n, err
}

func (c *liveClient) isGone() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// theatre is a gateway with one endpoint of HTTP, a, and one of raw bytes, b, under the same policy.
type theatre struct {
	*rig
	port uint16
}

// newTheatre has its endpoints at the edge or in agents, under a policy.
func newTheatre(t *testing.T, r *rig, policy func(*termination.Endpoint)) *theatre {
	t.Helper()
	th := &theatre{rig: r, port: freePort(t)}
	r.config.Limits.ConnectionsPerAddress, r.config.Limits.Connections = 50_000, 50_000
	r.config.Limits.HalfOpen, r.config.Limits.HalfOpenPerAddress = 10_000, 10_000
	web, echo := tlstest.HTTP(t).URL, "tcp://"+tlstest.TCP(t).Addr
	r.endpoint("a", th.port, web, policy)
	r.endpoint("b", th.port, echo, func(e *termination.Endpoint) { policy(e); asTLS(e) })
	r.apply()
	return th
}

// policy changes that of both endpoints.
func (th *theatre) policy(f func(*termination.ClientAuth)) func(*termination.Config) {
	return func(c *termination.Config) {
		for i := range c.Endpoints {
			f(&c.Endpoints[i].ClientAuth)
		}
	}
}

// open lets a client come in and say something.
func (th *theatre) open(kind string, version uint16, cert *tlstest.Cert) (*liveClient, error) {
	c := &liveClient{kind: kind, gone: make(chan struct{})}
	name := "a.localhost"
	if kind == "raw" {
		name = "b.localhost"
	}
	config := th.clientConfig(name, version, cert)
	if kind == "h2" {
		config.NextProtos = []string{"h2"}
	}
	conn, err := tls.Dial("tcp", address(th.port), config)
	if err != nil {
		return nil, err
	}
	c.local = conn.LocalAddr().String()
	c.close = func() { _ = conn.Close() }
	w := &watched{Conn: conn, client: c}
	switch kind {
	case "raw":
		c.say = echoing(w)
	case "h1":
		c.say = asking(w)
	case "h2":
		over, err := (&http2.Transport{}).NewClientConn(w) //nolint:staticcheck // one connection, over ours
		if err != nil {
			return nil, err
		}
		c.say = func() error { return ask(over) }
	case "websocket":
		if c.say, err = upgraded(w); err != nil {
			return nil, err
		}
	}
	if err := c.say(); err != nil {
		c.close()
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	return c, nil
}

// answers tells of each answer that read reads, until it fails.
func answers(read func() error) (answered chan struct{}, failed chan error) {
	answered, failed = make(chan struct{}, 8), make(chan error, 1)
	go func() {
		for {
			if err := read(); err != nil {
				failed <- err
				return
			}
			answered <- struct{}{}
		}
	}()
	return answered, failed
}

func exchange(write, read func() error) func() error {
	answered, failed := answers(read)
	return func() error {
		if err := write(); err != nil {
			return err
		}
		select {
		case <-answered:
			return nil
		case err := <-failed:
			failed <- err
			return err
		case <-time.After(patience):
			return errors.New("no answer")
		}
	}
}

func echoing(conn net.Conn) func() error {
	in := bufio.NewReader(conn)
	return exchange(func() error { _, err := fmt.Fprintln(conn, "hello"); return err }, func() error {
		_, err := in.ReadString('\n')
		return err
	})
}

func asking(conn net.Conn) func() error {
	in := bufio.NewReader(conn)
	return exchange(func() error {
		_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a.localhost\r\n\r\n")
		return err
	}, func() error { return drained(http.ReadResponse(in, nil)) })
}

func ask(over http.RoundTripper) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://a.localhost/", nil)
	if err != nil {
		return err
	}
	return drained(over.RoundTrip(req))
}

func drained(res *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}

func upgraded(conn net.Conn) (func() error, error) {
	dialer := websocket.Dialer{NetDialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	ws, _, err := dialer.Dial("ws://a.localhost/", nil) //nolint:bodyclose // there is none
	if err != nil {
		return nil, err
	}
	return exchange(func() error { return ws.WriteMessage(websocket.TextMessage, []byte("hello")) }, func() error {
		_, _, err := ws.ReadMessage()
		return err
	}), nil
}

// all opens one connection of each kind, in TLS 1.2 and 1.3.
func (th *theatre) all(cert *tlstest.Cert) (out []*liveClient) {
	th.t.Helper()
	for _, kind := range kinds() {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			c, err := th.open(kind, version, cert)
			if err != nil {
				th.t.Fatalf("%s %s: %v", kind, tls.VersionName(version), err)
			}
			th.t.Cleanup(c.close)
			out = append(out, c)
		}
	}
	return out
}

// mustGo waits until the clients have lost their connections, and compares what is recorded.
func (th *theatre) mustGo(clients []*liveClient, reasons ...termination.Reason) {
	th.t.Helper()
	deadline := time.After(patience)
	for _, c := range clients {
		select {
		case <-c.gone:
		case <-deadline:
			th.t.Fatalf("%s is still connected", c.kind)
		}
	}
	for _, c := range clients {
		end := th.endOf(c)
		if end.ClosedBy != termination.ClosedByPolicy || !slices.Contains(reasons, end.Reason) || end.Detail == "" {
			th.t.Errorf("%s was closed by %s for %q (%s), want %q", c.kind, end.ClosedBy, end.Reason, end.Detail, reasons)
		}
	}
}

func (th *theatre) endOf(c *liveClient) termination.ConnectionEnd {
	th.t.Helper()
	id := ""
	th.waitFor("the record of "+c.kind, func() bool {
		for _, rec := range th.records {
			if rec.Peer.String() == c.local {
				id = rec.ID
			}
		}
		return id != ""
	})
	return th.end(id)
}

func (th *theatre) mustStay(clients []*liveClient) {
	th.t.Helper()
	for _, c := range clients {
		if err := c.say(); err != nil || c.isGone() {
			th.t.Errorf("%s, which is still admitted: %v", c.kind, err)
		}
	}
}
