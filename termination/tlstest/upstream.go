package tlstest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Upstream is a service on loopback that stands behind the code under test. It
// ends with the test, and every connection to it too.
type Upstream struct {
	Addr string // host:port
	URL  string // with the scheme that a client of it would use: http, https, tcp or tls

	accepted atomic.Int64
	requests atomic.Int64
}

// Accepted says how many connections have come in: none, if the code under test
// was to refuse before dialling.
func (u *Upstream) Accepted() int64 { return u.accepted.Load() }

// Requests says how many HTTP requests have come in.
func (u *Upstream) Requests() int64 { return u.requests.Load() }

// Echo is what HTTP upstreams answer, as JSON: the request as it reached them.
type Echo struct {
	Method        string      `json:"method"`
	URI           string      `json:"uri"` // as on the request line, unchanged
	Path          string      `json:"path"`
	Host          string      `json:"host"`
	Proto         string      `json:"proto"`
	Header        http.Header `json:"header"`
	Body          []byte      `json:"body"`
	ContentLength int64       `json:"content_length"`
	Trailer       http.Header `json:"trailer"`
	RemoteAddr    string      `json:"remote_addr"`
	TLSVersion    uint16      `json:"tls_version"` // 0 without TLS
	ServerName    string      `json:"server_name"`
	ClientCN      string      `json:"client_cn"` // of the certificate that the gateway presented
}

// ReadEcho reads the answer of an HTTP upstream and closes its body.
func ReadEcho(t testing.TB, res *http.Response) Echo {
	t.Helper()
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("read the upstream's answer: %v", err)
	}
	var e Echo
	if err := json.Unmarshal(body, &e); err != nil {
		t.Fatalf("the answer (%s) is not the upstream's: %v: %.200s", res.Status, err, body)
	}
	return e
}

// HTTP starts an upstream that speaks HTTP/1.1 and echoes; see EchoHandler.
func HTTP(t testing.TB) *Upstream {
	return serveHTTP(t, "http", EchoHandler(), nil, func(p *http.Protocols) { p.SetHTTP1(true) })
}

// H2C starts an upstream that speaks HTTP/2 without TLS, and nothing else.
func H2C(t testing.TB) *Upstream {
	return serveHTTP(t, "http", EchoHandler(), nil, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })
}

// HTTPS starts an upstream that speaks HTTP/1.1 and HTTP/2 in TLS with this
// configuration, which it takes over.
func HTTPS(t testing.TB, config *tls.Config) *Upstream {
	return serveHTTP(t, "https", EchoHandler(), config, func(p *http.Protocols) {
		p.SetHTTP1(true)
		p.SetHTTP2(true)
	})
}

// HTTPHandler starts an upstream that speaks HTTP/1.1 and answers with handler.
func HTTPHandler(t testing.TB, handler http.Handler) *Upstream {
	return serveHTTP(t, "http", handler, nil, func(p *http.Protocols) { p.SetHTTP1(true) })
}

func serveHTTP(t testing.TB, scheme string, handler http.Handler, config *tls.Config, speak func(*http.Protocols)) *Upstream {
	t.Helper()
	listener := listen(t)
	up := &Upstream{Addr: listener.Addr().String()}
	up.URL = (&url.URL{Scheme: scheme, Host: up.Addr}).String()

	var running sync.WaitGroup // handlers, and with them connections that were taken over
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{
		BaseContext: func(net.Listener) context.Context { return ctx },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			running.Add(1)
			defer running.Done()
			up.requests.Add(1)
			handler.ServeHTTP(w, r)
		}),
		TLSConfig:         config,
		ReadHeaderTimeout: 30 * time.Second,
		Protocols:         new(http.Protocols),
		ErrorLog:          quiet(),
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				up.accepted.Add(1)
			}
		},
	}
	speak(server.Protocols)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var err error
		if config != nil {
			err = server.ServeTLS(listener, "", "")
		} else {
			err = server.Serve(listener)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("HTTP upstream: %v", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		server.Close()
		<-done
		running.Wait()
	})
	return up
}

// EchoHandler answers each request with an Echo of it. The query asks for more:
//
//	status=503     the status of the answer
//	trailer=x      an answer trailer Echo-Trailer with this value
//	header=N:V     an answer header; may be given several times
//	size=n         instead of the echo, n bytes of body
//	events=n       instead of the echo, n server-sent events, each flushed;
//	               the stream then stays open until the client leaves
//	hang=1         no answer until the client leaves
//
// A WebSocket upgrade is accepted and its messages come back; see WebSocketEcho.
func EchoHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isWebSocket(r) {
			serveWebSocketEcho(w, r)
			return
		}
		q := r.URL.Query()
		for _, nv := range q["header"] {
			name, value, _ := cutColon(nv)
			w.Header().Add(name, value)
		}
		if q.Has("hang") {
			<-r.Context().Done()
			return
		}
		if n, ok := number(q, "events"); ok {
			serveEvents(r.Context(), w, n)
			return
		}
		if n, ok := number(q, "size"); ok {
			w.Header().Set("Content-Length", strconv.Itoa(n))
			io.CopyN(w, zeros{}, int64(n))
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client left half way: there is nobody to answer
		}
		e := Echo{
			Method: r.Method, URI: r.RequestURI, Path: r.URL.Path, Host: r.Host, Proto: r.Proto, Header: r.Header,
			Body: body, ContentLength: r.ContentLength, Trailer: r.Trailer, RemoteAddr: r.RemoteAddr,
		}
		if r.TLS != nil {
			e.TLSVersion, e.ServerName = r.TLS.Version, r.TLS.ServerName
			if len(r.TLS.PeerCertificates) > 0 {
				e.ClientCN = r.TLS.PeerCertificates[0].Subject.CommonName
			}
		}
		answer, err := json.Marshal(e)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if q.Has("trailer") {
			w.Header().Set("Trailer", "Echo-Trailer")
		}
		if n, ok := number(q, "status"); ok {
			w.WriteHeader(n)
		}
		w.Write(answer)
		if q.Has("trailer") {
			w.Header().Set("Echo-Trailer", q.Get("trailer"))
		}
	})
}

func serveEvents(ctx context.Context, w http.ResponseWriter, n int) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	for i := range n {
		fmt.Fprintf(w, "id: %d\ndata: event %d\n\n", i, i)
		if control.Flush() != nil {
			return
		}
	}
	<-ctx.Done()
}

func number(q url.Values, key string) (int, bool) {
	n, err := strconv.Atoi(q.Get(key))
	return n, err == nil && n >= 0
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
