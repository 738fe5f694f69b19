package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"

	"countersign/termination/tlstest"
)

// slow is a service that answers when it is told to.
type slow struct {
	arrived chan struct{} // gets a value for each request
	answer  chan struct{} // closed: answer
}

func newSlow(t *testing.T, s *site) *slow {
	t.Helper()
	service := &slow{arrived: make(chan struct{}, 10), answer: make(chan struct{})}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		service.arrived <- struct{}{}
		select {
		case <-service.answer:
			fmt.Fprint(w, "done")
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(upstream.Close)
	s.up = upstream.URL
	return service
}

type answer struct {
	body string
	err  error
}

// ask begins a request and returns once it is in flight.
func (s *site) ask(service *slow) <-chan answer {
	got := make(chan answer, 1)
	go func() {
		res, err := s.client.Get(fmt.Sprintf("https://one.test:%d/", s.port)) // the client has a timeout
		if err != nil {
			got <- answer{err: err}
			return
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		got <- answer{string(body), err}
	}()
	<-service.arrived
	return got
}

func TestDraining(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			s := newSite(t)
			service := newSlow(t, s)
			s.write(s.config("one"))
			p := spawn(t, nil, "--data", dataDir(t), "--config", s.path, "--dashboard", "127.0.0.1:0")
			got := s.ask(service)
			p.signal(signal)
			eventually(t, "it says that it stops", func() bool { return strings.Contains(p.err.String(), "stopping; Ctrl-C again ends at once") })
			eventually(t, "it accepts nobody any more", func() bool {
				conn, err := s.dial(t.Context(), "", "")
				if err != nil {
					return true
				}
				_ = conn.Close()
				return false
			})
			// A signal to reload is no reason to end, nor to reload.
			p.signal(syscall.SIGHUP)
			close(service.answer)
			if a := <-got; a.err != nil || a.body != "done" {
				t.Errorf("the request in flight: %+v", a)
			}
			if code := p.wait(); code != exitDone {
				t.Errorf("exit %d:\n%s", code, p.err)
			}
			if n := strings.Count(p.err.String(), "the configuration file is in force"); n != 1 {
				t.Errorf("applied %d times:\n%s", n, p.err)
			}
		})
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	s := newSite(t)
	service := newSlow(t, s)
	s.write(s.config("one"))
	p := spawn(t, nil, "--data", dataDir(t), "--config", s.path, "--dashboard", "127.0.0.1:0")
	got := s.ask(service)
	p.signal(syscall.SIGTERM)
	eventually(t, "it says that it stops", func() bool { return strings.Contains(p.err.String(), "stopping;") })
	p.signal(syscall.SIGINT)
	if code := p.wait(); code != exitFailed || !strings.Contains(p.err.String(), "ended at once") {
		t.Errorf("exit %d:\n%s", code, p.err)
	}
	if a := <-got; a.err == nil && a.body == "done" {
		t.Error("a request that was never answered was answered")
	}
}

// A stream that does not end by itself lives for the grace time, and its record says why it ended.
func TestGrace(t *testing.T) {
	s := newSite(t)
	echo := tlstest.TLS(t, &tls.Config{Certificates: []tls.Certificate{s.ca.Server("two.test").TLS()}})
	s.write(s.config("one") + fmt.Sprintf("  - {name: two, url: \"tls://two.test:%d\", terminate_at: upstream, upstream: \"tcp://%s\"}\n", s.port, echo.Addr))
	dir := dataDir(t)
	args := []string{"--data", dir, "--config", s.path, "--dashboard", "127.0.0.1:0", "--grace", "2s"}
	p := spawn(t, nil, args...)
	stream := s.stream(t, "two")
	p.signal(syscall.SIGTERM)
	eventually(t, "it accepts nobody any more", func() bool {
		conn, err := s.dial(t.Context(), "", "")
		if err != nil {
			return true
		}
		_ = conn.Close()
		return false
	})
	if _, err := stream.Write([]byte("ping")); err != nil {
		t.Errorf("the stream did not outlive the signal: %v", err)
	}
	if _, err := io.ReadFull(stream, make([]byte, 4)); err != nil {
		t.Errorf("the stream did not outlive the signal: %v", err)
	}
	if _, err := stream.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the stream outlived the grace time: %v", err)
	}
	if code := p.wait(); code != exitDone {
		t.Errorf("exit %d:\n%s", code, p.err)
	}
	p = spawn(t, nil, args...)
	secret, errs, code := run(t, nil, "token", "create", "test", "--scope", "read", "--data", dir)
	if code != exitDone {
		t.Fatal(errs)
	}
	var page struct {
		Items []struct {
			End struct {
				Reason   string `json:"reason"`
				ClosedBy string `json:"closed_by"`
			} `json:"end"`
		}
	}
	status, err := newAPI(t, p.out.String(), strings.TrimSpace(secret)).ask(http.MethodGet, "/api/v1/handshakes?f=endpoint:two", nil, &page)
	if err != nil || status != http.StatusOK || len(page.Items) != 1 || page.Items[0].End.Reason != "shutdown" || page.Items[0].End.ClosedBy != "gateway" {
		t.Errorf("status %d, %v: %+v", status, err, page)
	}
	if _, errs, code := run(t, nil, "serve", "--grace", "-1s"); code != exitUsage || !strings.Contains(errs, "--grace") {
		t.Errorf("exit %d: %s", code, errs)
	}
}
