package acme

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

const (
	// listenAgain is how often an address that is taken is tried again.
	listenAgain = 5 * time.Second
	// challengeConns bounds how many ask at a time; a CA asks from a handful of places.
	challengeConns = 256
	challengeTime  = 10 * time.Second
)

// SocketUse is what the socket for challenges over HTTP is called in its [sockets.Set].
const SocketUse = "acme"

// challengeListener is the plain HTTP listener that answers challenges and nothing else.
type challengeListener struct {
	address netip.AddrPort
	server  *http.Server
	cancel  context.CancelFunc
	done    chan struct{}

	mu     sync.Mutex
	failed string
}

// listen opens the listener where it is wanted. The caller holds the lock.
func (m *Manager) listen(address netip.AddrPort) {
	if m.listener != nil && m.listener.address == address {
		return
	}
	before := m.listener
	m.listener = nil
	if address.IsValid() {
		m.listener = m.newListener(address, before)
	} else if before != nil {
		before.close()
	}
}

func (m *Manager) newListener(address netip.AddrPort, before *challengeListener) *challengeListener {
	ctx, cancel := context.WithCancel(context.Background())
	l := &challengeListener{address: address, cancel: cancel, done: make(chan struct{}), server: &http.Server{
		Handler: &m.tokens, ReadHeaderTimeout: challengeTime, ReadTimeout: challengeTime, WriteTimeout: challengeTime,
		IdleTimeout: challengeTime, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(m.options.Log.Handler(), slog.LevelDebug), // of strangers, who could fill a log
	}}
	m.workers.Go(func() {
		defer close(l.done)
		if before != nil {
			before.close() // it may hold the port
			<-before.done
		}
		l.serve(ctx, m)
	})
	return l
}

// serve opens the address, again and again while another program has it, and answers until close.
func (l *challengeListener) serve(ctx context.Context, m *Manager) {
	network := "tcp"
	if l.address.Addr().Is4() {
		network = "tcp4" // 0.0.0.0 means all of IPv4 and no more
	}
	for ctx.Err() == nil {
		socket, err := m.options.Sockets.Listen(ctx, SocketUse, network, l.address.String())
		if err == nil {
			l.say("")
			// Serve returns at once after close, whichever came first.
			if err = l.server.Serve(netutil.LimitListener(socket, challengeConns)); errors.Is(err, http.ErrServerClosed) {
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
		if l.say(err.Error()) {
			m.options.Log.Error("cannot answer ACME challenges over HTTP", "address", l.address.String(), "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(listenAgain):
		}
	}
}

// say notes why the address cannot be opened, and reports whether that is news.
func (l *challengeListener) say(problem string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	news := l.failed != problem
	l.failed = problem
	return news
}

func (l *challengeListener) problem() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

func (l *challengeListener) close() {
	l.cancel()
	_ = l.server.Close() // it answers nobody any more either way
}
