package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign/termination/tlstest"
)

// runKilled makes the test's binary a service at the address that it holds: HTTP, and at the next port an echo inside TLS.
const runKilled = "COUNTERSIGN_TEST_RUN_KILLED"

// endMark is the end of every whole answer of the service.
const endMark = "the end"

// serveUntilKilled answers requests slowly, so that a kill meets some in the middle.
func serveUntilKilled(address string) {
	at := netip.MustParseAddrPort(address)
	l, err := net.Listen("tcp", at.String()) // ended by a kill
	if err != nil {
		panic(err)
	}
	cert := tlstest.NewCA(tlstest.CN("Service")).Server("service.test").TLS()
	inner, err := tls.Listen("tcp", netip.AddrPortFrom(at.Addr(), at.Port()+1).String(), &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			conn, err := inner.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn) }()
		}
	}()
	fmt.Println("ready")
	panic(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // a service of a test
		if r.URL.Path == "/counted" {
			w.Header().Set("Content-Length", fmt.Sprint(20*100+len(endMark)))
		}
		for range 20 {
			_, _ = w.Write(bytes.Repeat([]byte("x"), 100))
			_ = http.NewResponseController(w).Flush()
			time.Sleep(time.Millisecond) //nolint:forbidigo // the time in which it is killed
		}
		_, _ = io.WriteString(w, endMark)
	})))
}

// killed is a process that can be killed.
type killed struct {
	t       *testing.T
	address netip.AddrPort
	cmd     *exec.Cmd
}

func (s *killed) start() {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd = exec.Command(self) // killed by the test
	s.cmd.Env = append(os.Environ(), runKilled+"="+s.address.String())
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready"))); err != nil {
		s.t.Fatal(err)
	}
}

func (s *killed) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// twoPorts finds a port whose next one is free too.
func twoPorts(t *testing.T) netip.AddrPort {
	t.Helper()
	for range 100 {
		first, release := listener(t, "127.0.0.1:0")
		second, err := net.Listen("tcp", netip.AddrPortFrom(first.Addr(), first.Port()+1).String())
		release()
		if err == nil {
			_ = second.Close()
			return first
		}
	}
	t.Fatal("no two ports in a row are free")
	return netip.AddrPort{}
}

// A service that is killed at any moment leaves its clients with a whole answer, with an error of the gateway, or with one
// that cannot be taken for whole; the record says why, and once the service is back, so are the answers.
func TestKillUpstream(t *testing.T) {
	const kills = 12
	s := newSite(t)
	up := &killed{t: t, address: twoPorts(t)}
	up.start()
	defer func() { up.kill() }()
	s.up = "http://" + up.address.String()
	sealed := netip.AddrPortFrom(up.address.Addr(), up.address.Port()+1)
	s.write(s.config("one") + fmt.Sprintf(`  - {name: two, url: "tls://two.test:%d", terminate_at: upstream, upstream: "tcp://%s"}
`, s.port, sealed))
	dir := dataDir(t)
	p := s.start(dir)
	secret, errs, code := run(t, nil, "token", "create", "test", "--scope", "read", "--data", dir)
	if code != exitDone {
		t.Fatal(errs)
	}
	a := newAPI(t, p.out.String(), strings.TrimSpace(secret))

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var clients sync.WaitGroup
	var whole, broken, refused atomic.Int64
	for n := range 8 {
		h2 := n%2 == 0
		transport := &http.Transport{TLSClientConfig: tlsConfig(s.ca, s.ca.Client("rhea")), DialContext: s.dial, ForceAttemptHTTP2: h2}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport, Timeout: deadline}
		path := []string{"/counted", "/chunked"}[n/2%2]
		clients.Go(func() {
			for ctx.Err() == nil {
				res, err := client.Get(fmt.Sprintf("https://one.test:%d%s", s.port, path)) // the client has a timeout
				if err != nil {                                                            // broken off before the headers were out
					if ctx.Err() == nil {
						broken.Add(1)
					}
					continue
				}
				body, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				switch {
				case err != nil:
					broken.Add(1) // and the client knows
				case res.StatusCode == http.StatusOK && strings.HasSuffix(string(body), endMark):
					whole.Add(1)
				case res.StatusCode == http.StatusOK:
					t.Errorf("HTTP/%d %s: %d bytes were taken for the whole answer", res.ProtoMajor, path, len(body))
				default:
					if res.StatusCode < 502 || res.StatusCode > 504 {
						t.Errorf("status %d", res.StatusCode)
					}
					refused.Add(1)
					select {
					case <-ctx.Done():
					case <-time.After(5 * time.Millisecond):
					}
				}
			}
		})
	}
	for range kills {
		seen := whole.Load()
		eventually(t, "the service answers again", func() bool { return whole.Load() > seen+8 })
		timer := time.NewTimer(time.Duration(rand.IntN(40)) * time.Millisecond)
		<-timer.C
		stream := s.stream(t, "two")
		up.kill()
		// Bytes that pass through sealed end with their service.
		if _, err := stream.Read(make([]byte, 1)); err == nil {
			t.Error("a stream outlived its service")
		}
		_ = stream.Close()
		failed := refused.Load()
		eventually(t, "clients are told that it is away", func() bool { return refused.Load() > failed })
		up.start()
	}
	stop()
	clients.Wait()
	t.Logf("%d whole answers, %d broken off, %d refused by the gateway", whole.Load(), broken.Load(), refused.Load())
	if broken.Load() == 0 {
		t.Error("no kill met an answer in the middle")
	}
	a.handshakes("endpoint:one", 1)
	var page struct {
		Items []struct {
			End *struct {
				Reason   string `json:"reason"`
				ClosedBy string `json:"closed_by"`
			} `json:"end"`
		}
	}
	for endpoint, fits := range map[string]func(reason, closedBy string) bool{
		"one": func(reason, _ string) bool { return reason == "upstream_down" },
		"two": func(_, closedBy string) bool { return closedBy == "upstream" },
	} {
		eventually(t, "the service's end is recorded at "+endpoint, func() bool {
			if status, err := a.ask(http.MethodGet, "/api/v1/handshakes?limit=100&f=endpoint:"+endpoint, nil, &page); err != nil || status != http.StatusOK {
				t.Fatalf("status %d, %v", status, err)
			}
			for _, item := range page.Items {
				if item.End != nil && fits(item.End.Reason, item.End.ClosedBy) {
					return true
				}
			}
			return false
		})
	}
}

// stream opens a stream through an endpoint where bytes pass sealed, and uses it once.
func (s *site) stream(t *testing.T, name string) net.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", netip.AddrPortFrom(loopback(), s.port).String(), &tls.Config{ServerName: name + ".test", InsecureSkipVerify: true}) // the service's certificate is its own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(deadline))
	if _, err := conn.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	return conn
}
