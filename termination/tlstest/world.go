package tlstest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"
	"time"
)

// The server names of a World.
const (
	OpenName  = "open.example.test"
	StaffName = "staff.example.test"
	VaultName = "vault.example.test"
	DeskName  = "desk.example.test"
	LobbyName = "lobby.example.test"
)

// PrivatePath is the part of the open endpoint that demands a certificate.
const PrivatePath = "/private"

// World is what attacks take place in: five https endpoints on one port, before
// one HTTP upstream each. Whoever serves it, the naive server or the gateway under
// test, must keep to this:
//
//	open.example.test    nobody is asked; but below /private, a certificate of
//	                     ClientCA is demanded
//	staff.example.test   demands a certificate of ClientCA: Alice and Bob may enter
//	vault.example.test   demands Bob's certificate or Carol's, which says CA:TRUE, and
//	                     no other (pins)
//	desk.example.test    demands a certificate of ClientCA or PartnerCA; whoever ClientCA
//	                     calls bob may enter, and nobody else
//	lobby.example.test   asks for a certificate of ClientCA and lets everybody in
//
// Up to four CA certificates may stand above a client's. No endpoint is the fallback
// for unknown names. The identity of clients is forwarded to the upstreams, HTTP/1.1
// and HTTP/2 are spoken, TLS 1.2 and 1.3.
type World struct {
	ServerCA *Cert
	ClientCA *Cert
	Alice    *Cert
	Bob      *Cert

	PartnerCA *Cert
	Carol     *Cert // signed itself, and says CA:TRUE, as the default answers of openssl give

	Open, Staff, Vault, Desk, Lobby *Upstream

	mu      sync.Mutex
	servers map[string]*Cert
	visits  []visit
}

// Target is a World as somebody serves it.
type Target struct {
	Addr string // host:port of all endpoints

	// Losses are changes by which somebody may no longer enter who could. There is
	// one at least.
	Losses []Loss
	// Orphan takes from the staff endpoint the authority that it trusts, by
	// whatever mishap can do that (rows deleted, a file that cannot be read),
	// and nothing else. It need not succeed: refusing is an answer.
	Orphan func()
	// Double declares one endpoint more, which has the staff endpoint's name and
	// upstream and asks nobody. It need not succeed.
	Double func()
	// Hurry lets handshakes take no longer than HandshakeTime from now on.
	Hurry func()
}

// Loss is a change after which a client may no longer enter an endpoint.
type Loss struct {
	Name     string
	Endpoint string
	As       *Cert  // nil: somebody without a certificate
	Prepare  func() // before the client comes; nil: it can come as it is
	Apply    func()
	Undo     func() // so that the client could come again
	Spares   bool   // tickets: it says something of the client, not of the policy, and they are good again after Undo
}

// HandshakeTime is how long a handshake may take after Hurry.
const HandshakeTime = 300 * time.Millisecond

// visit is a request that has reached an upstream.
type visit struct {
	endpoint string
	request  *http.Request
	trailer  http.Header
}

// NewWorld makes the certificates and starts the upstreams.
func NewWorld(t testing.TB) *World {
	t.Helper()
	w := &World{ServerCA: NewCA(CN("Test Servers")), ClientCA: NewCA(CN("Test Clients")), servers: make(map[string]*Cert)}
	w.PartnerCA = NewCA(CN("Test Partners"))
	w.Alice, w.Bob = w.ClientCA.Client("alice"), w.ClientCA.Client("bob")
	w.Carol = SelfSigned(CN("carol"), CATrue())
	for _, name := range endpointNames() {
		w.servers[name] = w.ServerCA.Server(name)
	}
	w.Open = HTTPHandler(t, w.notes(OpenName))
	w.Staff = HTTPHandler(t, w.notes(StaffName))
	w.Vault = HTTPHandler(t, w.notes(VaultName))
	w.Desk = HTTPHandler(t, w.notes(DeskName))
	w.Lobby = HTTPHandler(t, w.notes(LobbyName))
	return w
}

// Server returns the server certificate for an endpoint's name.
func (w *World) Server(name string) *Cert { return w.servers[name] }

// Upstream returns the upstream of an endpoint's name, or nil.
func (w *World) Upstream(name string) *Upstream {
	return map[string]*Upstream{OpenName: w.Open, StaffName: w.Staff, VaultName: w.Vault, DeskName: w.Desk, LobbyName: w.Lobby}[name]
}

func endpointNames() []string { return []string{OpenName, StaffName, VaultName, DeskName, LobbyName} }

// notes echoes, and writes down who came.
func (w *World) notes(endpoint string) http.Handler {
	echo := EchoHandler()
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		// The body is read to its end before anything is answered, and with it
		// the trailers; so whoever has the answer finds the visit written down.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		w.mu.Lock()
		w.visits = append(w.visits, visit{endpoint: endpoint, request: r.Clone(context.Background()), trailer: r.Trailer.Clone()})
		w.mu.Unlock()
		echo.ServeHTTP(rw, r)
	})
}

// mark remembers how many visits there have been.
func (w *World) mark() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.visits)
}

// since says whether a visit after the mark was such a one.
func (w *World) since(mark int, such func(visit) bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range w.visits[mark:] {
		if such(v) {
			return true
		}
	}
	return false
}

// at finds visits to an endpoint.
func at(endpoint string) func(visit) bool {
	return func(v visit) bool { return v.endpoint == endpoint }
}

// inPrivate says whether an application behind the open endpoint would take the
// request for one below PrivatePath. Applications are lenient: they decode, drop
// parameters of segments, take backslashes for slashes, and resolve dots.
func (v visit) inPrivate() bool {
	target := v.request.RequestURI
	if u, err := url.Parse(target); err == nil && u.Scheme != "" {
		target = u.EscapedPath()
	}
	target, _, _ = strings.Cut(target, "?")
	decoded, err := url.PathUnescape(target)
	if err != nil {
		decoded = target
	}
	segments := strings.Split(strings.ReplaceAll(decoded, `\`, "/"), "/")
	for i, s := range segments {
		segments[i], _, _ = strings.Cut(s, ";")
	}
	clean := path.Clean("/" + strings.Join(segments, "/"))
	return v.endpoint == OpenName && (clean == PrivatePath || strings.HasPrefix(clean, PrivatePath+"/"))
}

// forged is what forged identity headers say; no honest header has it.
const forged = "forged-identity-of-bob"

// tells says whether a header holds this text.
func (v visit) tells(text string) bool {
	for _, values := range v.request.Header {
		if strings.Contains(strings.Join(values, "\n"), text) {
			return true
		}
	}
	return false
}

// carriesForged says whether a forged identity has reached the upstream.
func (v visit) carriesForged() bool {
	for _, h := range []http.Header{v.request.Header, v.trailer} {
		for _, values := range h {
			if strings.Contains(strings.Join(values, "\n"), forged) {
				return true
			}
		}
	}
	return false
}
