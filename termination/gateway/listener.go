package gateway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"countersign/termination/sockets"
)

// SocketUse is what the gateway's listening sockets are called in their [sockets.Set].
const SocketUse = "gateway"

const (
	acceptBackoffMin = 5 * time.Millisecond
	acceptBackoffMax = time.Second
	// retireTime is how long a listener that is not wanted any more still accepts the clients that had begun to connect:
	// the time that their last segment may be on its way.
	retireTime = 500 * time.Millisecond
	// retireTimeHere is that for clients on this machine.
	retireTimeHere = 50 * time.Millisecond
)

// listener accepts on one address for all the endpoints there.
type listener struct {
	address netip.AddrPort // as configured
	socket  *sockets.Listener
	done    chan struct{} // closed when nobody is accepted any more

	mu      sync.Mutex
	retired bool
	closed  bool
}

// listen opens an address. Clients wait until startAccepting. 0.0.0.0 means all of IPv4 and no more; net.Listen would
// open IPv6 to everyone too.
func (g *Gateway) listen(ctx context.Context, address netip.AddrPort) (*listener, error) {
	network := "tcp"
	if address.Addr().Is4() {
		network = "tcp4"
	}
	socket, err := g.sockets.Listen(ctx, SocketUse, network, address.String())
	if err != nil {
		return nil, err
	}
	return &listener{address: address, socket: socket, done: make(chan struct{})}, nil
}

func (g *Gateway) startAccepting(opened []*listener) {
	for _, l := range opened {
		g.workers.Go(func() {
			defer close(l.done)
			g.accept(l)
		})
	}
	for _, l := range g.revived {
		if err := l.socket.TakeNew(); err != nil {
			g.log.Error("a listener that is wanted again takes no clients; restart the gateway", "address", l.address.String(), "error", err)
		}
	}
	g.revived = nil
}

// retire closes the listener once everyone is accepted who had begun to connect: closing at once would reset them. It
// does not wait for that.
func (l *listener) retire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.retired {
		return
	}
	l.retired = true
	_ = l.socket.TakeNoNew() // who is missed by this gets through too, unless he comes at the last moment
	_ = l.socket.SetDeadline(l.retireBy())
}

func (l *listener) retireBy() time.Time {
	if l.address.Addr().IsLoopback() {
		return time.Now().Add(retireTimeHere)
	}
	return time.Now().Add(retireTime)
}

// revive takes retire back, but for new clients, whom startAccepting lets in. It reports whether there was still time.
func (l *listener) revive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.socket.SetDeadline(time.Time{}) != nil {
		return false
	}
	l.retired = false
	return true
}

func (l *listener) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// expired closes a retired listener at whose socket nobody waits any more. It reports whether accepting ends.
func (l *listener) expired() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return true
	case !l.retired: // revived meanwhile
		return false
	}
	if n, err := l.socket.Waiting(); err == nil && n > 0 {
		return l.socket.SetDeadline(l.retireBy()) != nil
	}
	l.closed = true
	_ = l.socket.Close() // accepting ends either way
	return true
}

// leave closes at once. Who waits is left to whom the socket was passed on, else reset.
func (l *listener) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		_ = l.socket.Close()
	}
}

// accept runs until the listener is closed. Other errors, such as too many open files, pass: it backs off and goes on.
func (g *Gateway) accept(l *listener) {
	if g.hold != nil {
		select {
		case <-g.hold:
		case <-g.stopped.Done():
			return
		}
	}
	var backoff time.Duration
	for {
		conn, err := l.socket.AcceptTCP()
		switch {
		case err == nil:
			backoff = 0
			g.admit(l, conn)
			continue
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			if l.expired() {
				return
			}
			continue
		}
		backoff = min(max(2*backoff, acceptBackoffMin), acceptBackoffMax)
		g.log.Warn("accept failed, waiting", "listener", l.address.String(), "wait", backoff, "error", err)
		select {
		case <-time.After(backoff):
		case <-g.stopped.Done():
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
