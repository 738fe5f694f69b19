package gateway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

const (
	acceptBackoffMin = 5 * time.Millisecond
	acceptBackoffMax = time.Second
)

// listener accepts on one address for all the endpoints there.
type listener struct {
	address netip.AddrPort // as configured
	socket  *net.TCPListener
	closing chan struct{}
	done    chan struct{}
}

// listen opens an address. Clients wait until startAccepting. 0.0.0.0 means all of IPv4 and no more; net.Listen would
// open IPv6 to everyone too.
func listen(ctx context.Context, address netip.AddrPort) (*listener, error) {
	network := "tcp"
	if address.Addr().Is4() {
		network = "tcp4"
	}
	var config net.ListenConfig
	socket, err := config.Listen(ctx, network, address.String())
	if err != nil {
		return nil, err
	}
	return &listener{address: address, socket: socket.(*net.TCPListener), closing: make(chan struct{}), done: make(chan struct{})}, nil
}

func (g *Gateway) startAccepting(opened []*listener) {
	for _, l := range opened {
		g.workers.Go(func() {
			defer close(l.done)
			g.accept(l)
		})
	}
}

// close stops accepting; connections that were accepted go on.
func (l *listener) close() {
	close(l.closing)
	_ = l.socket.Close() // accepting ends either way
	<-l.done
}

// accept runs until the listener is closed. Other errors, such as too many open files, pass: it backs off and goes on.
func (g *Gateway) accept(l *listener) {
	var backoff time.Duration
	for {
		conn, err := l.socket.AcceptTCP()
		if err == nil {
			backoff = 0
			g.admit(l, conn)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		backoff = min(max(2*backoff, acceptBackoffMin), acceptBackoffMax)
		g.log.Warn("accept failed, waiting", "listener", l.address.String(), "wait", backoff, "error", err)
		select {
		case <-time.After(backoff):
		case <-l.closing:
			return
		}
	}
}

// admit takes a connection that a listener accepted.
func (g *Gateway) admit(l *listener, conn *net.TCPConn) {
	if g.table.Load().agentsAt(l.address) {
		g.agents.Take(conn)
		return
	}
	g.Take(conn, Arrival{Listener: l.address, Accepted: g.now()})
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}
