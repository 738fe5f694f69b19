package tlstest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn.(*net.TCPConn)
}

func TestHTTPEchoes(t *testing.T) {
	ca := NewCA()
	server := ca.Server("127.0.0.1")
	client := ca.Client("gateway")
	ups := map[string]*Upstream{
		"HTTP/1.1": HTTP(t),
		"HTTP/2.0": H2C(t),
		"TLS": HTTPS(t, &tls.Config{
			Certificates: []tls.Certificate{server.TLS()},
			ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(),
		}),
	}
	for name, up := range ups {
		t.Run(name, func(t *testing.T) {
			transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{
				RootCAs: ca.Pool(), Certificates: []tls.Certificate{client.TLS()},
			}}
			defer transport.CloseIdleConnections()
			transport.Protocols.SetHTTP1(name == "HTTP/1.1")
			transport.Protocols.SetUnencryptedHTTP2(name == "HTTP/2.0")
			transport.Protocols.SetHTTP2(name == "TLS")

			req, err := http.NewRequest("POST", up.URL+"/a%2fb/../c?trailer=end&status=201&header=X-Up:yes", struct{ io.Reader }{strings.NewReader("hello")})
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Test", "1")
			req.Trailer = http.Header{"Req-Trailer": {"t"}}
			res, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			e := ReadEcho(t, res)
			if res.StatusCode != 201 || res.Header.Get("X-Up") != "yes" || res.Trailer.Get("Echo-Trailer") != "end" {
				t.Errorf("answer: %s %v trailer %v", res.Status, res.Header, res.Trailer)
			}
			if e.Method != "POST" || string(e.Body) != "hello" || e.Header.Get("X-Test") != "1" || e.Trailer.Get("Req-Trailer") != "t" ||
				!strings.HasPrefix(e.URI, "/a%2fb/../c?") || e.Host != up.Addr {
				t.Errorf("echo: %+v", e)
			}
			if name == "TLS" && (e.ClientCN != "gateway" || e.TLSVersion != tls.VersionTLS13) {
				t.Errorf("echo of TLS: %q %x", e.ClientCN, e.TLSVersion)
			}
			if up.Accepted() != 1 || up.Requests() != 1 {
				t.Errorf("%d connections, %d requests", up.Accepted(), up.Requests())
			}
		})
	}
}

func TestHTTPStreams(t *testing.T) {
	up := HTTP(t)
	res, err := http.Get(up.URL + "/?events=3")
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(res.Body)
	for seen := 0; seen < 3; {
		if !lines.Scan() {
			t.Fatal("the stream ended early")
		}
		if strings.HasPrefix(lines.Text(), "data: event") {
			seen++
		}
	}
	res.Body.Close()

	res, err = http.Get(up.URL + "/?size=100000")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); n != 100000 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestWebSocketEcho(t *testing.T) {
	up := HTTP(t)
	ws, res, err := (&websocket.Dialer{Subprotocols: []string{"x", "y"}}).Dial("ws"+strings.TrimPrefix(up.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	defer res.Body.Close()
	if res.StatusCode != 101 || ws.Subprotocol() != "x" {
		t.Errorf("%s, protocol %q", res.Status, ws.Subprotocol())
	}
	for _, size := range []int{0, 5, 125, 126, 70000} {
		sent := bytes.Repeat([]byte{0xa5}, size)
		if err := ws.WriteMessage(websocket.BinaryMessage, sent); err != nil {
			t.Fatal(err)
		}
		if _, got, err := ws.ReadMessage(); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes came back as %d (%v)", size, len(got), err)
		}
	}
	ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("close: %v", err)
	}
}

func TestTCPEchoAndHalfClose(t *testing.T) {
	ca := NewCA()
	up := TCP(t)
	conn := dial(t, up.Addr)
	conn.Write([]byte("abc"))
	conn.CloseWrite()
	if got, err := io.ReadAll(conn); string(got) != "abc" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	secure := TLS(t, &tls.Config{Certificates: []tls.Certificate{ca.Server("up.example.com").TLS()}})
	inner := tls.Client(dial(t, secure.Addr), &tls.Config{RootCAs: ca.Pool(), ServerName: "up.example.com"})
	inner.Write([]byte("abc"))
	inner.CloseWrite()
	if got, err := io.ReadAll(inner); string(got) != "abc" || err != nil {
		t.Errorf("TLS: %q, %v", got, err)
	}
	if up.Accepted() != 1 || secure.Accepted() != 1 {
		t.Error("connections are not counted")
	}
}

func TestBadUpstreams(t *testing.T) {
	if _, err := net.Dial("tcp", Refusing(t).Addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refusing: %v", err)
	}

	resetting := dial(t, Resetting(t).Addr)
	resetting.Write([]byte("x"))
	if _, err := resetting.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("resetting: %v", err)
	}

	silent := dial(t, Silent(t).Addr)
	silent.Write([]byte("x"))
	silent.CloseWrite()
	if n, err := silent.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("silent: %d bytes, %v", n, err)
	}

	pace := make(chan struct{})
	slow := dial(t, Slow(t, []byte("abc"), pace).Addr)
	pace <- struct{}{}
	one := make([]byte, 4)
	if n, err := slow.Read(one); n != 1 || err != nil {
		t.Errorf("slow: %d bytes, %v", n, err)
	}
	close(pace)
	if rest, err := io.ReadAll(slow); string(rest) != "bc" || err != nil {
		t.Errorf("slow: %q, %v", rest, err)
	}
}
