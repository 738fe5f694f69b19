package proof

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// Another program that has the endpoint's address, and lets in whom it likes, proves nothing about the gateway.
func TestMeetSomebodyElse(t *testing.T) {
	other := tlstest.TLS(t, &tls.Config{Certificates: []tls.Certificate{tlstest.NewCA().Server("a.test").TLS()}})
	r := &run{Options: Options{
		Patience: 100 * time.Millisecond,
		Dial: func(ctx context.Context) (Connection, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", other.Addr)
			return Connection{Conn: c, Record: make(chan *termination.Handshake)}, err
		},
	}}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // nothing ever comes
	defer cancel()
	s := r.meet(ctx, &attempt{endpoint: &termination.Endpoint{Host: "a.test"}}, &Line{})
	if s.verdict != "" || !strings.Contains(s.detail, "another program") {
		t.Errorf("%q: %s", s.verdict, s.detail)
	}
}
