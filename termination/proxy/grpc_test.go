package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// grpcService starts a gRPC server: the health service, and under every other name one that sends each message back and
// ends with an error, details and a trailer.
func grpcService(t *testing.T, options ...grpc.ServerOption) (address string, identity <-chan metadata.MD) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan metadata.MD, 10)
	echo := func(_ any, stream grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(stream.Context())
		seen <- md
		stream.SetTrailer(metadata.Pairs("x-sum", "42", "x-blob-bin", "\x00\xff"))
		for {
			var message wrapperspb.BytesValue
			if err := stream.RecvMsg(&message); errors.Is(err, io.EOF) {
				return status.Error(codes.DataLoss, "end: ✓ 100%")
			} else if err != nil {
				return err
			}
			if err := stream.SendMsg(&message); err != nil {
				return err
			}
		}
	}
	server := grpc.NewServer(append(options, grpc.UnknownServiceHandler(echo), grpc.MaxRecvMsgSize(8<<20))...)
	healthpb.RegisterHealthServer(server, health.NewServer())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return listener.Addr().String(), seen
}

// TestGRPC drives the real client and server through the proxy.
func TestGRPC(t *testing.T) {
	ca := tlstest.NewCA()
	for name, start := range map[string]func(*testing.T) (termination.Upstream, <-chan metadata.MD){
		"h2c": func(t *testing.T) (termination.Upstream, <-chan metadata.MD) {
			address, seen := grpcService(t)
			return termination.Upstream{Scheme: termination.UpstreamH2C, Address: address}, seen
		},
		"h2c behind a dead target": func(t *testing.T) (termination.Upstream, <-chan metadata.MD) {
			address, seen := grpcService(t)
			return termination.Upstream{Scheme: termination.UpstreamH2C, Address: tlstest.Refusing(t).Addr, More: []string{address}}, seen
		},
		"https": func(t *testing.T) (termination.Upstream, <-chan metadata.MD) {
			cert := ca.Server("service.internal").TLS()
			address, seen := grpcService(t, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}})))
			u := termination.Upstream{Scheme: termination.UpstreamHTTPS, Address: address}
			u.TLS.Roots, u.TLS.ServerName = append(u.TLS.Roots, ca.X509), "service.internal"
			return u, seen
		},
	} {
		t.Run(name, func(t *testing.T) {
			upstream, seen := start(t)
			f := newFront(t, frontOptions{})
			f.apply(f.endpoint("public.test", "http://unused.invalid", mode(termination.ModeRequire), forwardNginx,
				func(e *termination.Endpoint) { e.Upstream = upstream }))
			conn := f.grpc(f.clients.Client("alice"))
			ctx, cancel := context.WithTimeout(context.Background(), patient)
			defer cancel()

			t.Run("unary", func(t *testing.T) {
				got, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
				if err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
					t.Errorf("%v, %v", got, err)
				}
			})
			t.Run("error without a message", func(t *testing.T) {
				_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: "unknown"})
				if status.Code(err) != codes.NotFound {
					t.Errorf("%v", err)
				}
			})
			t.Run("server stream", func(t *testing.T) {
				watch, stop := context.WithCancel(ctx)
				stream, err := healthpb.NewHealthClient(conn).Watch(watch, &healthpb.HealthCheckRequest{})
				if err != nil {
					t.Fatal(err)
				}
				if got, err := stream.Recv(); err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
					t.Errorf("%v, %v", got, err)
				}
				stop()
				if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
					t.Errorf("%v", err)
				}
			})
			t.Run("both ways", func(t *testing.T) { bothWays(ctx, t, conn, seen) })
			f.noNote(termination.ReasonUpstreamDown)
		})
	}
}

// grpc opens a gRPC client's connection to the front.
func (f *front) grpc(cert *tlstest.Cert) *grpc.ClientConn {
	f.t.Helper()
	config := f.tlsConfig(clientOptions{h2: true, serverName: "public.test", cert: cert})
	conn, err := grpc.NewClient("passthrough:///"+f.address.String(), grpc.WithTransportCredentials(credentials.NewTLS(config)), grpc.WithAuthority("public.test"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(8<<20)))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// bothWays sends messages and waits for each to come back before it sends the next: nothing on the way may hold one back.
func bothWays(ctx context.Context, t *testing.T, conn *grpc.ClientConn, seen <-chan metadata.MD) {
	ctx = metadata.AppendToOutgoingContext(ctx, "x-client-cn", "FORGED", "x-mine", "yes")
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/test.Echo/Both")
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, 100, 100_000, 4 << 20} {
		message := wrapperspb.Bytes(bytes.Repeat([]byte{byte(size)}, size))
		if err := stream.SendMsg(message); err != nil {
			t.Fatal(err)
		}
		var got wrapperspb.BytesValue
		if err := stream.RecvMsg(&got); err != nil || !bytes.Equal(got.GetValue(), message.GetValue()) {
			t.Fatalf("%d bytes came back as %d, %v", size, len(got.GetValue()), err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	var last wrapperspb.BytesValue
	err = stream.RecvMsg(&last)
	if s := status.Convert(err); s.Code() != codes.DataLoss || s.Message() != "end: ✓ 100%" {
		t.Errorf("ended with %v", err)
	}
	if trailer := stream.Trailer(); fmt.Sprint(trailer["x-sum"]) != "[42]" || fmt.Sprint(trailer["x-blob-bin"]) != "[\x00\xff]" {
		t.Errorf("the trailers are %v", trailer)
	}
	md := <-seen
	if fmt.Sprint(md["x-client-cn"], md["x-client-verify"], md["x-mine"]) != "[alice] [SUCCESS] [yes]" {
		t.Errorf("the service saw %v", md)
	}
}

// TestGRPCRefused: a refusal reads as one in gRPC, too.
func TestGRPCRefused(t *testing.T) {
	address, _ := grpcService(t)
	f := newFront(t, frontOptions{})
	f.apply(f.endpoint("public.test", "h2c://"+address, mode(termination.ModeRequire)))
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	if _, err := healthpb.NewHealthClient(f.grpc(nil)).Check(ctx, &healthpb.HealthCheckRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("%v", err)
	}
	f.apply(f.endpoint("public.test", "h2c://"+tlstest.Refusing(t).Addr))
	if _, err := healthpb.NewHealthClient(f.grpc(nil)).Check(ctx, &healthpb.HealthCheckRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
}

// TestQuietStreamOutlivesPatience: a service may be quiet on a gRPC stream for longer than others may think.
func TestQuietStreamOutlivesPatience(t *testing.T) {
	address, _ := grpcService(t)
	f := newFront(t, frontOptions{proxy: Options{Patience: time.Nanosecond}})
	f.apply(f.endpoint("public.test", "h2c://"+address))
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	got, err := healthpb.NewHealthClient(f.grpc(nil)).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", got, err)
	}
}
