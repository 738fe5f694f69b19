package upstream

import (
	"context"
	"net"
	"net/http"
	"time"

	"countersign/termination"
)

// MaxResponseHeader bounds the header of an answer, in bytes.
const MaxResponseHeader = 256 << 10

// Bounds of HTTP connections to targets.
const (
	idlePerTarget = 128
	idleTime      = 60 * time.Second
	continueWait  = time.Second      // for the upstream's 100 (RFC 9110, section 10.1.1)
	ping          = 30 * time.Second // HTTP/2: a connection silent for so long is probed
	pingTimeout   = 15 * time.Second
)

// URLScheme is http or https.
func (t *Target) URLScheme() string {
	if t.tls != nil {
		return "https"
	}
	return "http"
}

// NewTransport speaks HTTP to the target, in the version that its scheme says and ALPN agrees on, over connections that
// dial opens. No proxy is taken from the environment and no compression is added. What is not idempotent is never sent
// twice (RFC 9110, section 9.2.2), which net/http sees to.
func (t *Target) NewTransport(dial func(context.Context) (net.Conn, error)) *http.Transport {
	open := func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	tr := &http.Transport{
		DialContext:            open,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idlePerTarget,
		IdleConnTimeout:        idleTime,
		ExpectContinueTimeout:  continueWait,
		MaxResponseHeaderBytes: MaxResponseHeader,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: ping, PingTimeout: pingTimeout},
		Protocols:              new(http.Protocols),
	}
	switch t.scheme {
	case termination.UpstreamHTTPS:
		tr.DialTLSContext = open
		tr.Protocols.SetHTTP1(true)
		tr.Protocols.SetHTTP2(true)
	case termination.UpstreamH2C:
		tr.Protocols.SetUnencryptedHTTP2(true)
	default:
		tr.Protocols.SetHTTP1(true)
	}
	return tr
}
