package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// While the gateway closes, what is under way goes on: requests, streams, and connections that had only begun. Nobody
// else gets in, and what is cut at the end says why.
func TestDrain(t *testing.T) {
	answer := make(chan struct{})
	arrived := make(chan struct{}, 10)
	slow := tlstest.HTTPHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			arrived <- struct{}{}
			<-answer
		}
		_, _ = io.WriteString(w, "done")
	}))
	r := newRig(t)
	port := freePort(t)
	r.endpoint("web", port, slow.URL, nil)
	r.endpoint("raw", port, tlstest.TCP(t).URL, raw)
	r.apply()

	stream := r.dial(port, "raw.localhost", tls.VersionTLS13, nil)
	if err := echo(stream); err != nil {
		t.Fatal(err)
	}
	streamID := r.next().ID
	young := r.dial(port, "web.localhost", tls.VersionTLS13, nil) // is in, and has not asked for anything yet
	begun := r.dialTCP(port, nil)
	r.wait("the connection that has begun", func() bool { return r.gateway.Status().HalfOpen == 1 })
	transports := map[string]*http.Transport{}
	got := make(chan error, 2)
	for name, h2 := range map[string]bool{"HTTP/1": false, "HTTP/2": true} {
		tr := &http.Transport{
			TLSClientConfig: r.clientConfig("web.localhost", tls.VersionTLS13, nil), ForceAttemptHTTP2: h2,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, address(port))
			},
		}
		t.Cleanup(tr.CloseIdleConnections)
		transports[name] = tr
		go func() {
			got <- roundTrip(tr, "/slow")
		}()
		<-arrived
	}

	ctx, cut := context.WithCancel(context.Background())
	defer cut()
	closed := make(chan error, 1)
	go func() { closed <- r.gateway.Close(ctx) }()
	r.wait("the port to close", func() bool {
		conn, err := net.Dial("tcp", address(port))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	// Who had begun is served, and told not to stay.
	for who, conn := range map[string]*tls.Conn{
		"who had begun to connect": tls.Client(begun, r.clientConfig("web.localhost", tls.VersionTLS13, nil)), "who is in": young,
	} {
		request, _ := http.NewRequest(http.MethodGet, "https://web.localhost/", nil) // the connection has a deadline
		if err := request.Write(conn); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), request)
		if err != nil || res.StatusCode != http.StatusOK || !res.Close {
			t.Errorf("%s: %v, %v", who, res, err)
		} else {
			_ = res.Body.Close()
		}
	}
	if err := echo(stream); err != nil {
		t.Errorf("the stream: %v", err)
	}
	close(answer)
	for range transports {
		if err := <-got; err != nil {
			t.Errorf("a request under way: %v", err)
		}
	}
	for name, tr := range transports {
		if err := roundTrip(tr, "/"); err == nil {
			t.Errorf("%s: the connection still takes requests", name)
		}
	}
	select {
	case err := <-closed:
		t.Fatalf("closed before the stream ended: %v", err)
	default:
	}
	cut()
	if err := <-closed; err == nil {
		t.Error("a stream was cut, and Close says nothing")
	}
	if end := r.end(streamID); end.ClosedBy != termination.ClosedByGateway || end.Reason != termination.ReasonShutdown {
		t.Errorf("the stream's end: %+v", end)
	}
}

func roundTrip(tr *http.Transport, path string) error {
	r, err := http.NewRequest(http.MethodGet, "https://web.localhost"+path, nil) // the test waits with a deadline
	if err != nil {
		return err
	}
	res, err := tr.RoundTrip(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return err
}
