package tunnel

import (
	"fmt"
	"io"
	"net"
	"time"

	"github.com/libp2p/go-yamux/v5"
)

const (
	// connectTime bounds TLS and the first words of both sides, and any write to a peer that does not read.
	connectTime = 10 * time.Second
	// windowMost is how much of one stream may wait unread at the other end, in bytes: so much memory a client's slow
	// service may cost.
	windowMost = 1 << 20
	// fromAgent is how many streams an agent may open: control, reports, and room for a later version.
	fromAgent = 4
	// toOneAgent is how many clients' connections an agent takes at a time.
	toOneAgent = 100000
)

// muxConfig has no keepalive of its own: beats are ours, and carry the state.
func muxConfig(incoming uint32) *yamux.Config {
	c := yamux.DefaultConfig()
	c.EnableKeepAlive = false
	c.ConnectionWriteTimeout = connectTime
	c.MaxIncomingStreams = incoming
	c.MaxStreamWindowSize = windowMost
	c.ReadBufSize = 16 << 10
	c.LogOutput = io.Discard // what matters is in the errors that it returns
	return c
}

func gatewayMux(conn net.Conn) (*yamux.Session, error) {
	m, err := yamux.Server(conn, muxConfig(fromAgent), nil)
	if err != nil {
		return nil, fmt.Errorf("multiplex the tunnel: %w", err)
	}
	return m, nil
}

func agentMux(conn net.Conn) (*yamux.Session, error) {
	m, err := yamux.Client(conn, muxConfig(toOneAgent), nil)
	if err != nil {
		return nil, fmt.Errorf("multiplex the tunnel: %w", err)
	}
	return m, nil
}

// beatEvery is how often the gateway beats: often enough that an agent with a short patience does not close for
// nothing.
func beatEvery(stale time.Duration) time.Duration {
	return min(5*time.Second, max(stale/4, 50*time.Millisecond))
}

// missedBeats is how many beats may be missing until a side gives the other up.
const missedBeats = 4
