package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// bothVersions runs a test in TLS 1.2 and 1.3, as a client whom the endpoint requires to have a certificate.
func bothVersions(t *testing.T, test func(t *testing.T, version uint16)) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) { test(t, version) })
	}
}

// strictRig is a rig with one endpoint that requires a certificate of Devices.
func strictRig(t *testing.T, upstream string, change func(*termination.Endpoint)) (*rig, uint16, *tlstest.Cert) {
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	r := newRig(t)
	r.trust("devices", devices)
	port := freePort(t)
	r.endpoint("a", port, upstream, func(e *termination.Endpoint) {
		require("devices")(e)
		if change != nil {
			change(e)
		}
	})
	r.apply()
	return r, port, devices.Client("alice")
}

// A WebSocket passes, lives as long as its connection, ends when the policy changes, and does not hold Close up.
func TestWebSocket(t *testing.T) {
	upstream := tlstest.HTTP(t)
	bothVersions(t, func(t *testing.T, version uint16) {
		r, port, alice := strictRig(t, upstream.URL, nil)
		open := func() *websocket.Conn {
			dialer := websocket.Dialer{
				TLSClientConfig: r.clientConfig("a.localhost", version, alice),
				NetDialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return (&net.Dialer{}).DialContext(ctx, network, address(port))
				},
			}
			ws, _, err := dialer.Dial("wss://a.localhost/", nil) //nolint:bodyclose // there is none
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ws.Close() })
			_ = ws.SetReadDeadline(time.Now().Add(patience))
			for _, message := range []string{"one", strings.Repeat("two", 50_000)} {
				if err := ws.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
					t.Fatal(err)
				}
				if _, got, err := ws.ReadMessage(); err != nil || string(got) != message {
					t.Fatalf("%d bytes came back, %v", len(got), err)
				}
			}
			return ws
		}
		ws, rec := open(), r.next()
		r.trust("others", tlstest.NewCA(tlstest.CN("Others")))
		for _, loss := range []termination.OnLoss{termination.OnLossLeave, termination.OnLossDrain} {
			r.change("a", func(e *termination.Endpoint) {
				e.ClientAuth.Authorities, e.ClientAuth.OnLoss = []string{"others"}, loss
			})
			if loss == termination.OnLossLeave {
				if err := ws.WriteMessage(websocket.TextMessage, []byte("still here")); err != nil {
					t.Fatal(err)
				}
				if _, _, err := ws.ReadMessage(); err != nil {
					t.Errorf("on_loss leave: %v", err)
				}
			}
		}
		if _, _, err := ws.ReadMessage(); err == nil {
			t.Error("on_loss drain left the WebSocket open")
		}
		if end := r.end(rec.ID); end.ClosedBy != termination.ClosedByPolicy {
			t.Errorf("closed by %s", end.ClosedBy)
		}
		r.change("a", func(e *termination.Endpoint) { e.ClientAuth.Authorities = []string{"devices"} })
		ws, rec = open(), r.next()
		_ = r.close()
		if _, _, err := ws.ReadMessage(); err == nil {
			t.Error("Close left the WebSocket open")
		}
		if end := r.end(rec.ID); end.ClosedBy != termination.ClosedByGateway {
			t.Errorf("closed by %s", end.ClosedBy)
		}
	})
}

// With on_loss drain a request in flight is finished, and its connection ends after it.
func TestDrainFinishesTheRequest(t *testing.T) {
	finish, started := make(chan struct{}), make(chan struct{}, 1)
	upstream := tlstest.HTTPHandler(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		started <- struct{}{}
		<-finish
		_, _ = io.WriteString(w, "done")
	}))
	r, port, alice := strictRig(t, upstream.URL, nil)
	conn := r.dial(port, "a.localhost", tls.VersionTLS13, alice)
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a.localhost\r\n\r\n")
	<-started
	r.trust("others", tlstest.NewCA(tlstest.CN("Others")))
	r.change("a", func(e *termination.Endpoint) {
		e.ClientAuth.Authorities, e.ClientAuth.OnLoss = []string{"others"}, termination.OnLossDrain
	})
	close(finish)
	answer, err := io.ReadAll(conn)
	if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) || !bytes.HasSuffix(answer, []byte("done")) {
		t.Errorf("read %q, %v", answer, err)
	}
}

// Each event of a stream passes at once.
func TestServerSentEvents(t *testing.T) {
	upstream := tlstest.HTTP(t)
	bothVersions(t, func(t *testing.T, version uint16) {
		r, port, alice := strictRig(t, upstream.URL, nil)
		conn := r.dial(port, "a.localhost", version, alice)
		_, _ = io.WriteString(conn, "GET /?events=3 HTTP/1.1\r\nHost: a.localhost\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(); _ = res.Body.Close() }() // else the body would wait for its end
		lines := bufio.NewScanner(res.Body)                       // the stream stays open behind the third
		for events := 0; events < 3 && lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "data: event ") {
				events++
			}
		}
		if lines.Err() != nil {
			t.Error(lines.Err())
		}
	})
}

// gRPC passes in both directions at a time, with the client's half-close, the trailers and the final status.
func TestGRPC(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		stream.SetTrailer(metadata.Pairs("x-sum", "42"))
		for {
			var message wrapperspb.BytesValue
			if err := stream.RecvMsg(&message); errors.Is(err, io.EOF) {
				return status.Error(codes.DataLoss, "after the half-close")
			} else if err != nil {
				return err
			}
			if err := stream.SendMsg(&message); err != nil {
				return err
			}
		}
	}))
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-served })
	bothVersions(t, func(t *testing.T, version uint16) {
		r, port, alice := strictRig(t, "h2c://"+listener.Addr().String(), nil)
		config := r.clientConfig("a.localhost", version, alice)
		config.NextProtos = []string{"h2"}
		conn, err := grpc.NewClient("passthrough:///"+address(port), grpc.WithTransportCredentials(credentials.NewTLS(config)), grpc.WithAuthority("a.localhost"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/test.Echo/Both")
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 100, 1 << 20} {
			message := wrapperspb.Bytes(make([]byte, size))
			if err := stream.SendMsg(message); err != nil {
				t.Fatal(err)
			}
			var got wrapperspb.BytesValue
			if err := stream.RecvMsg(&got); err != nil || len(got.GetValue()) != size {
				t.Fatalf("%d bytes came back as %d, %v", size, len(got.GetValue()), err)
			}
		}
		_ = stream.CloseSend()
		err = stream.RecvMsg(&wrapperspb.BytesValue{})
		if s := status.Convert(err); s.Code() != codes.DataLoss || s.Message() != "after the half-close" {
			t.Errorf("ended with %v", err)
		}
		if got := stream.Trailer()["x-sum"]; len(got) != 1 || got[0] != "42" {
			t.Errorf("trailer %v", got)
		}
	})
}

// Raw bytes inside TLS pass in large amounts and with the client's half-close, before tcp and tls upstreams.
func TestRawHalfClose(t *testing.T) {
	const volume = 8 << 20
	service := tlstest.NewCA(tlstest.CN("Service CA"))
	cert := service.Server("service.internal").TLS()
	plain, secured := tlstest.TCP(t), tlstest.TLS(t, &tls.Config{Certificates: []tls.Certificate{cert}})
	for name, upstream := range map[string]*tlstest.Upstream{"tcp": plain, "tls": secured} {
		t.Run(name, func(t *testing.T) {
			bothVersions(t, func(t *testing.T, version uint16) {
				r, port, alice := strictRig(t, upstream.URL, func(e *termination.Endpoint) {
					raw(e)
					e.Upstream.TLS.Roots, e.Upstream.TLS.ServerName = append(e.Upstream.TLS.Roots, service.X509), "service.internal"
				})
				conn := r.dial(port, "a.localhost", version, alice)
				sent := make(chan error, 1)
				go func() {
					_, err := io.Copy(conn, io.LimitReader(&pattern{}, volume))
					sent <- errors.Join(err, conn.CloseWrite())
				}()
				n, err := io.Copy(&pattern{t: t}, conn)
				if err != nil || n != volume {
					t.Errorf("%d bytes came back, %v", n, err)
				}
				if err := <-sent; err != nil {
					t.Error(err)
				}
				if end := r.end(r.next().ID); end.ClosedBy != termination.ClosedByClient || end.Upstream == nil || end.Upstream.Error != "" {
					t.Errorf("ended %+v", end)
				}
			})
		})
	}
}

// A service that speaks slowly is heard byte by byte, and one that never finishes its TLS handshake is given up.
func TestSlowUpstream(t *testing.T) {
	pace := make(chan struct{})
	slow := tlstest.Slow(t, []byte("slow"), pace)
	stuck := tlstest.Silent(t)
	r := newRig(t)
	port := freePort(t)
	r.endpoint("slow", port, slow.URL, raw)
	r.endpoint("stuck", port, "tls://"+stuck.Addr, raw)
	r.apply()
	conn := r.dial(port, "slow.localhost", tls.VersionTLS12, nil)
	for _, want := range []byte("slow") {
		pace <- struct{}{}
		var got [1]byte
		if _, err := io.ReadFull(conn, got[:]); err != nil || got[0] != want {
			t.Fatalf("read %q, %v", got, err)
		}
	}
	rec := r.next()
	_, _ = io.Copy(io.Discard, conn) // until the service has closed
	_ = conn.Close()
	if end := r.end(rec.ID); end.ClosedBy != termination.ClosedByUpstream {
		t.Errorf("closed by %s", end.ClosedBy)
	}
	conn = r.dial(port, "stuck.localhost", tls.VersionTLS13, nil)
	if _, err := io.ReadAll(conn); err != nil {
		t.Error(err)
	}
	if end := r.end(r.next().ID); end.Reason != termination.ReasonUpstreamDown || !strings.Contains(end.Detail, "handshake") {
		t.Errorf("ended %+v", end)
	}
}

// A renamed authority is recorded by its new name at once, and the rename costs nobody a ticket.
func TestRenamedAuthority(t *testing.T) {
	r, port, alice := strictRig(t, tlstest.HTTP(t).URL, nil)
	cache := tls.NewLRUClientSessionCache(1)
	for i, name := range []string{"devices", "appliances"} {
		if i > 0 {
			renamed := r.config.Authorities[0]
			renamed.Name = name
			next := *r.config
			next.Authorities = []termination.Authority{renamed}
			r.config = &next
			r.change("a", func(e *termination.Endpoint) { e.ClientAuth.Authorities = []string{name} })
		}
		config := r.clientConfig("a.localhost", tls.VersionTLS13, alice)
		config.ClientSessionCache = cache
		if _, _, err := get(config, port, "a.localhost"); err != nil {
			t.Fatal(err)
		}
		if rec := r.next(); rec.Client.Authority != name || rec.Chosen.Resumed != (i > 0) {
			t.Errorf("recorded under %q, resumed %v; want %q", rec.Client.Authority, rec.Chosen.Resumed, name)
		}
	}
}
