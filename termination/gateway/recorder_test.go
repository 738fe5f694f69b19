package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"countersign/termination/tlstest"
)

// recorder is an upstream that keeps what it gets to the byte, and answers each request that is whole.
type recorder struct {
	*tlstest.Upstream

	mu    sync.Mutex
	heads []string // of each request, without the empty line
	seen  []string // method, target and body of each whole request
}

func newRecorder(t *testing.T) *recorder {
	r := &recorder{}
	r.Upstream = tlstest.ServeTCP(t, func(_ context.Context, conn net.Conn) {
		in := bufio.NewReader(conn)
		for {
			head, err := readHead(in)
			if err != nil {
				return
			}
			r.mu.Lock()
			r.heads = append(r.heads, head)
			r.mu.Unlock()
			in = bufio.NewReader(io.MultiReader(strings.NewReader(head+"\r\n\r\n"), in))
			request, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			body, err := io.ReadAll(request.Body)
			if err != nil {
				return
			}
			r.mu.Lock()
			r.seen = append(r.seen, strings.TrimSpace(request.Method+" "+request.RequestURI+" "+string(body)))
			r.mu.Unlock()
			if _, err := fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
				return
			}
		}
	})
	return r
}

// readHead reads up to the empty line.
func readHead(in *bufio.Reader) (string, error) {
	var head strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		head.WriteString(line)
		if strings.HasSuffix(head.String(), "\r\n\r\n") {
			return strings.TrimSuffix(head.String(), "\r\n\r\n"), nil
		}
	}
}

// take returns the whole requests that have come since the last call. It fails the test if the head of any, whole or not,
// can be read in more than one way.
func (r *recorder) take(t *testing.T) string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, head := range r.heads {
		checkHead(t, head)
	}
	seen := strings.Join(r.seen, " + ")
	r.heads, r.seen = nil, nil
	return seen
}

func checkHead(t *testing.T, head string) {
	t.Helper()
	lines := strings.Split(head, "\r\n")
	if !regexp.MustCompile(`^[A-Z]+ /[!-~]* HTTP/1\.1$`).MatchString(lines[0]) {
		t.Errorf("the upstream got the request line %q", lines[0])
	}
	field := regexp.MustCompile(`^([A-Za-z0-9_-]+): [!-~]([ -~]*[!-~])?$`)
	framings, hosts := 0, 0
	for _, line := range lines[1:] {
		parts := field.FindStringSubmatch(line)
		if parts == nil {
			t.Errorf("the upstream got the line %q", line)
			continue
		}
		switch strings.ReplaceAll(strings.ToLower(parts[1]), "_", "-") { // as CGI cannot tell them apart
		case "content-length", "transfer-encoding":
			framings++
		case "host":
			hosts++
		}
	}
	if framings > 1 || hosts != 1 {
		t.Errorf("the upstream got %d lengths and %d hosts in %q", framings, hosts, head)
	}
}
