package tunnel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-yamux/v5"

	"countersign/termination"
)

// ErrOffline says that no agent is online for an endpoint, or none that was not tried yet.
var ErrOffline = errors.New("no agent is online for this endpoint")

// openTime bounds how long opening a stream may take: an agent that is alive takes it at once.
const openTime = 2 * time.Second

// Search looks for an agent for one client's connection.
type Search struct {
	server     *Server
	endpointID string
	header     Header
	tried      []*session
}

// Search begins to look for an agent of an endpoint.
func (s *Server) Search(endpointID string, h Header) *Search {
	return &Search{server: s, endpointID: endpointID, header: h}
}

// Next opens a passage through the agent with the fewest connections that was not tried yet. It waits a moment for one
// whose tunnel has just broken. The error is [ErrOffline] when there is none.
func (r *Search) Next(ctx context.Context) (*Passage, error) {
	for {
		came := r.server.rejoin.arrivals()
		n := r.server.choose(r.endpointID, r.tried)
		if n == nil {
			if r.server.hopeless(r.endpointID) || !r.server.rejoin.wait(ctx, r.endpointID, came) {
				return nil, ErrOffline
			}
			continue
		}
		r.tried = append(r.tried, n)
		p, err := n.open(ctx, r.header)
		if err == nil {
			return p, nil
		}
		n.connections.Add(-1)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("open a stream to an agent: %w", context.Cause(ctx))
		}
	}
}

// More reports whether another agent is there that could be tried.
func (r *Search) More() bool {
	n := r.server.choose(r.endpointID, r.tried)
	if n == nil {
		return false
	}
	n.connections.Add(-1)
	return true
}

// Passage is one client's connection on its way through an agent.
type Passage struct {
	*Stream

	// Handshake gets the agent's record of the handshake, and End what it tells about the connection's end. Neither
	// need ever come, and what comes is what the agent says.
	Handshake <-chan *termination.Handshake
	End       <-chan termination.ConnectionEnd

	session   *session
	id        string
	handshake chan *termination.Handshake
	end       chan termination.ConnectionEnd
}

func (n *session) open(ctx context.Context, h Header) (*Passage, error) {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	inner, err := n.mux.OpenStream(ctx)
	if errors.Is(err, yamux.ErrStreamsExhausted) {
		n.end(err) // a tunnel has 2^31 streams in its life; the agent comes back with a new one
	}
	if err != nil {
		return nil, fmt.Errorf("open a stream to the agent: %w", err)
	}
	p := &Passage{
		Stream: newStream(inner, h), session: n, id: h.Handshake,
		handshake: make(chan *termination.Handshake, 1), end: make(chan termination.ConnectionEnd, 1),
	}
	p.Handshake, p.End = p.handshake, p.end
	n.mu.Lock()
	n.given[p.id] = p
	n.mu.Unlock()
	_ = p.SetWriteDeadline(time.Now().Add(openTime)) // fails only on a closed stream, and then so does the write
	if err := writeFrame(p.Stream, h); err != nil {
		p.forget()
		_ = p.Reset()
		return nil, err
	}
	_ = p.SetWriteDeadline(time.Time{})
	return p, nil
}

// Agent is the ID of the agent that the passage leads through.
func (p *Passage) Agent() string { return p.session.agent.ID }

// Unanswered tells that the agent did not answer the client in time. Until it is heard again, others are tried before it:
// it has the fewest connections, and so every client would wait for it first.
func (p *Passage) Unanswered() { p.session.mute.Store(true) }

// Gone is closed when the agent's tunnel has ended: nothing more will be reported.
func (p *Passage) Gone() <-chan struct{} { return p.session.mux.CloseChan() }

// Release ends the passage, once: nothing about the connection is taken from the agent any more.
func (p *Passage) Release() {
	p.forget()
	_ = p.Reset() // no more than what is still open
	p.session.connections.Add(-1)
}

func (p *Passage) forget() {
	p.session.mu.Lock()
	defer p.session.mu.Unlock()
	delete(p.session.given, p.id)
}

// readReports takes the agent's reports. What is about a connection that was not given to this agent is dropped: it may
// be over already, or another's.
func (n *session) readReports() error {
	stream, err := n.mux.AcceptStream()
	if err != nil {
		return fmt.Errorf("wait for the stream of reports: %w", err)
	}
	for {
		var r report
		if err := readFrame(stream, maxReport, &r); err != nil {
			return fmt.Errorf("read a report: %w", err)
		}
		id, err := r.id()
		if err != nil {
			return err
		}
		n.mu.Lock()
		p := n.given[id]
		n.mu.Unlock()
		if p == nil {
			continue
		}
		if r.End != nil {
			select {
			case p.end <- r.End.End():
			default: // it was told already
			}
			continue
		}
		select {
		case p.handshake <- r.record():
		default: // likewise
		}
	}
}
