package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// A client that never reads is waited for no longer than the idle time, and neither is one that reads nothing of one
// stream: the upstream is let go, and the record says why.
func TestClientNeverReads(t *testing.T) {
	over := make(chan error, 1)
	upstream := tlstest.HTTPHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			_ = rw.Flush()
			_, err = io.Copy(conn, &pattern{})
			over <- err
			return
		}
		if r.URL.Path == "/short" {
			fmt.Fprint(w, "short")
			return
		}
		_, err := io.Copy(w, &pattern{})
		over <- err
	}))
	const request = "GET / HTTP/1.1\r\nHost: a.localhost\r\n"
	for name, head := range map[string]string{
		"HTTP/1.1":  request + "\r\n",
		"WebSocket": request + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"HTTP/2":    "",
	} {
		t.Run(name, func(t *testing.T) {
			r, port, alice := impatientRig(t, upstream.URL)
			if head != "" {
				conn := r.dial(port, "a.localhost", tls.VersionTLS13, alice)
				if _, err := io.WriteString(conn, head); err != nil {
					t.Fatal(err)
				}
			} else {
				c := r.rawH2(port, "a.localhost", alice)
				c.Must(c.Framer.WriteWindowUpdate(0, 1<<20))                                  // the window of the stream stays closed
				if _, body := c.Answer(c.ask("a.localhost", "/")); body != "INTERNAL_ERROR" { //nolint:bodyclose // it was read
					t.Errorf("the stream ended with %q", body)
				}
				// The other streams are left alone.
				if res, body := c.Answer(c.ask("a.localhost", "/short")); res.StatusCode != 200 || body != "short" { //nolint:bodyclose // it was read
					t.Errorf("then answered %s %q", res.Status, body)
				}
				_ = c.Conn.Close()
			}
			select {
			case err := <-over:
				if err == nil {
					t.Error("an endless answer ended")
				}
			case <-time.After(patience):
				t.Fatal("the upstream still writes")
			}
			end := r.end(r.next().ID)
			if end.Reason != termination.ReasonTimeout || !strings.Contains(end.Detail, "read nothing") {
				t.Errorf("ended %+v", end)
			}
		})
	}
}

// impatientRig is a strictRig with a short idle time.
func impatientRig(t *testing.T, upstream string) (*rig, uint16, *tlstest.Cert) {
	r, port, alice := strictRig(t, upstream, nil)
	r.config.Limits.IdleTimeout = 200 * time.Millisecond
	r.apply()
	return r, port, alice
}

// A stream that is quiet for longer than the idle time, after the client has half-closed it, lives on.
func TestQuietStreamStays(t *testing.T) {
	next := make(chan struct{})
	upstream := tlstest.HTTPHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_, _ = io.Copy(w, r.Body)
		for {
			_ = http.NewResponseController(w).Flush()
			select {
			case <-next:
				fmt.Fprint(w, "more")
			case <-r.Context().Done():
				return
			}
		}
	}))
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint("h2=", h2), func(t *testing.T) {
			r, port, alice := impatientRig(t, upstream.URL)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			in, out := io.Pipe()
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "https://a.localhost/", in)
			go func() { _, _ = io.WriteString(out, "hello"); _ = out.Close() }()
			res, err := r.client(port, alice, h2).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body := bufio.NewReader(res.Body)
			for _, want := range []string{"hello", "more", "more"} {
				got := make([]byte, len(want))
				if _, err := io.ReadFull(body, got); err != nil || string(got) != want {
					t.Fatalf("read %q, %v; want %q", got, err, want)
				}
				<-time.After(500 * time.Millisecond) // well over the idle time
				select {
				case next <- struct{}{}:
				case <-ctx.Done():
					t.Fatal("the upstream has gone")
				}
			}
		})
	}
}

// client is an HTTP client of one endpoint.
func (r *rig) client(port uint16, cert *tlstest.Cert, h2 bool) *http.Client {
	transport := &http.Transport{
		TLSClientConfig: r.clientConfig("a.localhost", tls.VersionTLS13, cert), Protocols: new(http.Protocols), DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address(port))
		},
	}
	transport.Protocols.SetHTTP1(!h2)
	transport.Protocols.SetHTTP2(h2)
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// rawH2 is HTTP/2 frame by frame on a connection of its own.
type rawH2 struct{ *tlstest.RawH2 }

func (r *rig) rawH2(port uint16, name string, cert *tlstest.Cert) rawH2 {
	r.t.Helper()
	config := r.clientConfig(name, tls.VersionTLS13, cert)
	config.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", address(port), config)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return rawH2{tlstest.NewRawH2(r.t, conn)}
}

// ask sends a GET.
func (c rawH2) ask(host, target string) uint32 {
	return c.Open(true, ":method", "GET", ":scheme", "https", ":authority", host, ":path", target)
}
