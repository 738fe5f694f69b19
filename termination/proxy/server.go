package proxy

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"countersign/termination"
)

// Limits of HTTP/2 on the client's side (RFC 9113, sections 6.5.2 and 10.5). A connection costs at most streams × stream
// buffer, or the connection buffer, whichever is less.
const (
	maxStreams         = 128
	streamBuffer       = 256 << 10
	connectionBuffer   = 1 << 20
	readFrame          = 64 << 10
	headerTable        = 4 << 10
	clientPing         = 60 * time.Second
	clientPingTimeout  = 15 * time.Second
	clientWriteTimeout = 60 * time.Second // without a single byte getting through
)

// ServerOptions say how clients are served.
type ServerOptions struct {
	Limits termination.Limits
	Log    *slog.Logger // nil: discards
	// Conn returns the Conn of a connection that the listener has given out. A connection without one is served nothing.
	Conn func(net.Conn) *Conn
}

// NewServer returns a server for connections whose TLS handshake is done: its listener gives out *tls.Conn, of which
// net/http takes the protocol that ALPN has chosen. Every limit is set, since net/http's defaults have none for most.
// Bodies are not bounded in time, since streams are meant to stay open; a client that does not take what is sent to it is.
func NewServer(handler http.Handler, o ServerOptions) *http.Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler:                      boundStalls(handler, o.Limits.IdleTimeout),
		ReadHeaderTimeout:            o.Limits.HandshakeTimeout,
		IdleTimeout:                  o.Limits.IdleTimeout,
		MaxHeaderBytes:               headerRoom * o.Limits.Header,
		DisableGeneralOptionsHandler: true, // "OPTIONS *" is refused like any other target that is no path
		Protocols:                    protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReceiveBufferPerStream:     streamBuffer,
			MaxReceiveBufferPerConnection: connectionBuffer,
			MaxReadFrameSize:              readFrame,
			MaxDecoderHeaderTableSize:     headerTable,
			MaxEncoderHeaderTableSize:     headerTable,
			SendPingTimeout:               clientPing,
			PingTimeout:                   clientPingTimeout,
			WriteByteTimeout:              clientWriteTimeout,
		},
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			if c := o.Conn(nc); c != nil {
				return WithConn(ctx, c)
			}
			return ctx
		},
		ConnState: func(nc net.Conn, state http.ConnState) {
			c := o.Conn(nc)
			if c == nil {
				return
			}
			switch state {
			case http.StateActive:
				c.setIdle(false)
				c.beginRequest()
			case http.StateIdle, http.StateHijacked:
				c.setIdle(true)
				if state == http.StateHijacked {
					c.own.end() // it makes no further request
				}
			case http.StateClosed:
				c.own.end()
			case http.StateNew:
			}
		},
	}
}
