package gateway_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/netip"
	"testing"

	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/live"
	"countersign/termination/tlstest"
)

// BenchmarkHandshake measures whole connections with a full mutual TLS 1.3 handshake and one byte through, with no, one
// and ten watchers of the live feed. Client and gateway share the machine; compare the lines of one run.
func BenchmarkHandshake(b *testing.B) {
	for _, watchers := range []int{0, 1, 10} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) {
			address, config := benchGateway(b, watchers)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := oneByte(address, config); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "handshakes/s")
		})
	}
}

// BenchmarkResumed measures the same with a resumed session.
func BenchmarkResumed(b *testing.B) {
	address, config := benchGateway(b, 0)
	config.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	if err := oneByte(address, config); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for b.Loop() {
		if err := oneByte(address, config); err != nil {
			b.Fatal(err)
		}
	}
}

// oneByte connects, sends a byte, reads it back and closes.
func oneByte(address string, config *tls.Config) error {
	conn, err := tls.Dial("tcp", address, config)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{1}); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

// benchGateway starts a gateway with one tls endpoint before an echo, and watchers that read all frames.
func benchGateway(b *testing.B, watchers int) (string, *tls.Config) {
	b.Helper()
	clients, servers := tlstest.NewCA(tlstest.CN("Clients")), tlstest.NewCA(tlstest.CN("Servers"))
	server := servers.Server("a.localhost")
	echo := tlstest.TCP(b)
	upstream, err := termination.ParseUpstream(echo.URL)
	if err != nil {
		b.Fatal(err)
	}
	port := freePort(b)
	limits := termination.DefaultLimits()
	limits.ConnectionsPerAddress, limits.HalfOpenPerAddress = limits.Connections, limits.HalfOpen
	config := &termination.Config{
		Revision: 1, Limits: limits,
		Authorities:  []termination.Authority{{ID: "ca_1", Name: "clients", Certificates: []termination.CACertificate{{Certificate: clients.X509, Role: termination.RoleAnchor}}}},
		Certificates: []termination.Certificate{{ID: "crt_1", Name: "a", Chain: []*x509.Certificate{server.X509}, Key: server.Key}},
		Endpoints: []termination.Endpoint{{
			ID: "ep_1", Name: "a", Enabled: true, Scheme: termination.SchemeTLS, Host: "a.localhost", Listen: netip.MustParseAddr("127.0.0.1"), Port: port,
			TerminateAt: termination.AtEdge, Certificates: []string{"a"}, Upstream: upstream,
			ClientAuth: termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"clients"}, Announce: true, OnLoss: termination.OnLossClose},
		}},
	}
	hub := live.New(live.Options{Sink: func(termination.HistoryBatch) error { return nil }})
	g := gateway.New(gateway.Options{Hub: hub})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, watchers)
	for range watchers {
		sub, err := hub.Subscribe(live.Request{})
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			defer func() { done <- struct{}{} }()
			defer sub.Close()
			for {
				if _, err := sub.Next(ctx); err != nil {
					return
				}
			}
		}()
	}
	b.Cleanup(func() {
		cancel()
		for range watchers {
			<-done
		}
		_ = g.Close(b.Context())
		_ = hub.Close(context.Background())
	})
	if err := g.Apply(b.Context(), config); err != nil {
		b.Fatal(err)
	}
	alice := clients.Client("alice").TLS()
	return address(port), &tls.Config{
		ServerName: "a.localhost", RootCAs: servers.Pool(), CurvePreferences: []tls.CurveID{tls.X25519},
		Certificates: []tls.Certificate{alice},
	}
}
