package tunnel

import (
	"context"
	"crypto/tls"
	"io"
	"math"
	"net"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-yamux/v5"

	"countersign/termination"
)

// What tests of the other side of the wire need of its insides.
const (
	ProtocolJoin        = protocolJoin
	ProtocolTunnel      = protocolTunnel
	MaxState            = maxState
	FromAgent           = fromAgent
	RefusalsAllowed     = refusalsAllowed
	RenewalGrace        = renewalGrace
	MostGreetingAddress = mostGreetingAddress
)

// Exhaust makes a tunnel as old as one that has carried two thousand million connections.
func (s *Server) Exhaust() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.sessions {
		next := reflect.ValueOf(n.mux).Elem().FieldByName("nextStreamID")
		atomic.StoreUint32((*uint32)(next.Addr().UnsafePointer()), math.MaxUint32-1)
	}
}

// WriteFrame sends a message as the wire has it.
func WriteFrame(w io.Writer, v any) error { return writeFrame(w, v) }

// ReadAny reads a message of any kind.
func ReadAny(r io.Reader) (map[string]any, error) {
	m := map[string]any{}
	return m, readFrame(r, maxControl, &m)
}

// Request makes a certificate request for an identity's key.
func (id *Identity) Request() []byte {
	csr, err := request(id.Key)
	if err != nil {
		panic(err)
	}
	return csr
}

// RawAgent is an agent that does what a test wants.
type RawAgent struct {
	TLS     *tls.Conn
	Mux     *yamux.Session
	Control *yamux.Stream
	Reports *yamux.Stream
}

// DialRaw opens the tunnel of an identity, up to the streams.
func DialRaw(ctx context.Context, address string, id *Identity, now func() time.Time) (*RawAgent, error) {
	conn, err := dialTLS(ctx, (&net.Dialer{}).DialContext, address, tunnelTLS(id, now))
	if err != nil {
		return nil, err
	}
	a := &RawAgent{TLS: conn}
	if a.Mux, err = agentMux(conn); err != nil {
		return nil, err
	}
	if a.Control, err = a.Mux.OpenStream(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

// Greet says hello and opens the stream of reports.
func (a *RawAgent) Greet(ctx context.Context) (map[string]any, error) {
	if err := writeFrame(a.Control, toGateway{Hello: &agentHello{Name: "raw", Version: "v0"}}); err != nil {
		return nil, err
	}
	m, err := ReadAny(a.Control)
	if err != nil {
		return nil, err
	}
	a.Reports, err = a.Mux.OpenStream(ctx)
	return m, err
}

// Confirm says that the policy of a revision is in force.
func (a *RawAgent) Confirm(revision uint64) error {
	return writeFrame(a.Control, toGateway{State: &agentState{Revision: revision}})
}

// Report tells about a handshake.
func (a *RawAgent) Report(h *termination.Handshake) error {
	return writeFrame(a.Reports, handshakeReport(h))
}
