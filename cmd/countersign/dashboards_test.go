package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// BenchmarkDashboards asks an endpoint of a gateway that runs as a process for a page, each time with a full mutual
// handshake, while some dashboards read the live stream over WebSockets. Rounds with different numbers of them take turns,
// so that a machine that changes its pace changes all of them.
func BenchmarkDashboards(b *testing.B) {
	withoutRaceDetector(b)
	s := newSite(b)
	s.write(s.config("one"))
	dir := dataDir(b)
	p := spawn(b, nil, "--data", dir, "--dashboard", "127.0.0.1:0", "--config", s.path)
	secret, errs, code := run(b, nil, "token", "create", "watcher", "--scope", "read", "--data", dir)
	if code != exitDone {
		b.Fatal(errs)
	}
	base, _, _ := strings.Cut(link(b, p.out.String()), "/?t=")
	config := tlsConfig(s.ca, s.ca.Client("rhea"))
	config.ServerName = "one.test"
	header := http.Header{"Authorization": {"Bearer " + strings.TrimSpace(secret)}}
	address := netip.AddrPortFrom(loopback(), s.port).String()
	visit := func() error {
		conn, err := tls.Dial("tcp", address, config) // ends with the answer
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: one.test\r\nConnection: close\r\n\r\n"); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, conn)
		return err
	}
	if err := visit(); err != nil {
		b.Fatal(err)
	}
	for round := range 5 {
		for _, dashboards := range []int{0, 1, 10} {
			b.Run(fmt.Sprintf("round=%d/dashboards=%d", round+1, dashboards), func(b *testing.B) {
				var watching sync.WaitGroup
				var seen atomic.Int64
				var open []*websocket.Conn
				for range dashboards {
					ws, _, err := websocket.DefaultDialer.DialContext(b.Context(), "ws"+strings.TrimPrefix(base, "http")+"/api/v1/handshakes/live", header) //nolint:bodyclose // it is the stream
					if err != nil {
						b.Fatal(err)
					}
					open = append(open, ws)
					if err := ws.WriteMessage(websocket.TextMessage, []byte(`{"op":"sub"}`)); err != nil {
						b.Fatal(err)
					}
					if _, _, err := ws.ReadMessage(); err != nil {
						b.Fatal(err)
					}
					watching.Go(func() { // as cheap as it can be: browsers work on other machines' cores
						for {
							_, r, err := ws.NextReader()
							if err != nil {
								return
							}
							n, _ := io.Copy(io.Discard, r)
							seen.Add(n)
						}
					})
				}
				used := cpuTime(b, p.cmd.Process.Pid)
				b.ResetTimer()
				b.SetParallelism(4)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := visit(); err != nil {
							b.Error(err)
							return
						}
					}
				})
				b.StopTimer()
				used = cpuTime(b, p.cmd.Process.Pid) - used
				for _, ws := range open {
					_ = ws.Close()
				}
				watching.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "handshakes/s")
				b.ReportMetric(used.Seconds()*1e6/float64(b.N), "gateway-µs/handshake")
				if dashboards > 0 {
					b.ReportMetric(float64(seen.Load())/float64(b.N*dashboards), "bytes-seen/handshake")
				}
			})
		}
	}
}

// cpuTime returns how long the machine's cores have worked for a process.
func cpuTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal("run it on Linux, where the time of a process is known:", err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name before may hold anything
	ticks := 0
	for _, field := range strings.Fields(rest)[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
