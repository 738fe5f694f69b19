package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"countersign/server/api"
	"countersign/store"
	"countersign/termination"
)

// ControlFile is the name of the control socket in the data directory.
const ControlFile = "control.sock"

const (
	controlBody    = 16 << 10         // largest request and answer, in bytes
	controlTimeout = 10 * time.Second // of one request
)

// viaCommand is the way of a change that was asked for on the command line.
const viaCommand = "command"

// Control answers the command line on a Unix socket in the data directory. Whoever can open the socket owns the data
// directory already, so there is no other credential; it can make a sign-in link, an API token and an invitation of an
// agent, have an endpoint for as long as a command runs, prove one, show handshakes, and explain what is handed to it, and
// nothing else. No browser can reach it.
type Control struct {
	server *Server
	path   string
	http   *http.Server
	done   chan error // gets what Serve returned
	socket net.Listener
	left   atomic.Bool // by Leave

	commands commands

	closing sync.Once
	err     error // of closing
}

// OpenControl makes the control socket and answers on it until Close. Listen must have been called, and the store's lock
// on the data directory must be held: a socket that is there already was left by a process that was killed.
func (s *Server) OpenControl(ctx context.Context) (*Control, error) {
	c := &Control{server: s, path: filepath.Join(s.store.Dir(), ControlFile), done: make(chan error, 1), commands: newCommands()}
	if err := removeSocket(c.path); err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	l, err := listenUnix(ctx, c.path)
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /sign-in-link", c.signInLink)
	mux.HandleFunc("POST /tokens", c.createToken)
	mux.HandleFunc("POST /invitations", c.invite)
	mux.HandleFunc("POST /upgrade", c.upgrade)
	mux.HandleFunc("POST /leave/{id}", c.serveLeave)
	mux.HandleFunc("POST /prove/{ref}", c.serveProve)
	mux.HandleFunc("POST /ready/{id}", c.serveReady)
	all := http.NewServeMux() // of bodies that are bounded otherwise
	c.handleHandshakes(mux, all)
	all.Handle("/", http.MaxBytesHandler(mux, controlBody))
	all.HandleFunc("POST /join", c.serveJoin)
	c.http = &http.Server{
		Handler: all, ErrorLog: s.http.ErrorLog,
		ReadHeaderTimeout: controlTimeout, ReadTimeout: controlTimeout, WriteTimeout: controlTimeout, MaxHeaderBytes: controlBody,
	}
	c.socket = l
	go func() { c.done <- c.http.Serve(l) }()
	return c, nil
}

// Leave stops listening, so that another process can put its own socket in the place; requests in flight go on until
// Close.
func (c *Control) Leave() {
	c.left.Store(true)
	c.commands.stop()    // their endpoints go with the store
	_ = c.socket.Close() // it is closed either way
}

// Close finishes the requests in flight, as far as ctx allows, and removes the socket, unless Leave left it to others.
func (c *Control) Close(ctx context.Context) error {
	c.closing.Do(func() {
		c.commands.stop()
		if err := c.http.Shutdown(ctx); err != nil {
			_ = c.http.Close()
			c.err = fmt.Errorf("close the control socket: %w", err)
		}
		err := <-c.done
		if c.left.Load() {
			return
		}
		if !errors.Is(err, http.ErrServerClosed) {
			c.err = errors.Join(c.err, fmt.Errorf("serve the control socket: %w", err))
		}
		if err := removeSocket(c.path); err != nil {
			c.err = errors.Join(c.err, fmt.Errorf("close the control socket: %w", err))
		}
	})
	return c.err
}

// removeSocket removes a socket, and nothing that is none.
func removeSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is in the way and no socket; move it away", path)
	}
	return os.Remove(path)
}

// listenUnix opens a socket that its owner alone can use.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	var l net.Listener
	err := withShortPath(path, func(short string) error {
		var config net.ListenConfig
		var err error
		if l, err = config.Listen(ctx, "unix", short); err != nil {
			return err
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false) // of network unix
		// The directory keeps others out; the mode does so if somebody opens it.
		if err := os.Chmod(short, 0o600); err != nil {
			_ = l.Close()
			return err
		}
		return nil
	})
	return l, err
}

// maxSocketPath is what every system takes as the path of a socket; the shortest limit is that of the BSDs, 104 bytes
// with the final zero.
const maxSocketPath = 100

// withShortPath calls use with a path that leads to the given one and is short enough for a socket's address: where need
// be through a link in a private temporary directory, which only has to last that long.
func withShortPath(path string, use func(string) error) error {
	if len(path) <= maxSocketPath {
		return use(path)
	}
	dir, err := os.MkdirTemp("", "cs")
	if err != nil {
		return fmt.Errorf("shorten the path %s: %w", path, err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	link := filepath.Join(dir, "d")
	if err := os.Symlink(filepath.Dir(path), link); err != nil {
		return fmt.Errorf("shorten the path %s: %w", path, err)
	}
	return use(filepath.Join(link, filepath.Base(path)))
}

// controlError is what the socket answers when it cannot do something.
type controlError struct {
	Error string `json:"error"`
}

type controlLink struct {
	Link string `json:"link"`
}

// controlTokenRequest asks for an API token.
type controlTokenRequest struct {
	Name  string      `json:"name"`
	Scope store.Scope `json:"scope"`
	By    string      `json:"by"` // who asks, for the audit log
}

// NewToken is an API token that was just made, with its secret, which is not kept anywhere.
type NewToken struct {
	ID     string      `json:"id"`
	Name   string      `json:"name"`
	Scope  store.Scope `json:"scope"`
	Secret string      `json:"token"`
}

func (c *Control) signInLink(w http.ResponseWriter, r *http.Request) {
	link, err := c.server.SignInLink(r.Context())
	if err != nil {
		c.fail(w, fmt.Errorf("make a sign-in link: %w", err))
		return
	}
	c.server.log.Info("a sign-in link was asked for on the command line")
	answerJSON(w, http.StatusCreated, controlLink{link})
}

func (c *Control) createToken(w http.ResponseWriter, r *http.Request) {
	var ask controlTokenRequest
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&ask); err != nil || d.More() {
		answerJSON(w, http.StatusBadRequest, controlError{"the request is no single JSON object of a token"})
		return
	}
	token, err := CreateToken(r.Context(), c.server.store, ask.Name, ask.Scope, ask.By)
	if err != nil {
		c.fail(w, err)
		return
	}
	answerJSON(w, http.StatusCreated, token)
}

// controlInvitation asks for an invitation of an agent.
type controlInvitation struct {
	Endpoint string   `json:"endpoint"`
	Expires  string   `json:"expires"` // as in 1h; empty: the default
	Gateways []string `json:"gateways"`
	By       string   `json:"by"` // who asks, for the audit log
}

func (c *Control) invite(w http.ResponseWriter, r *http.Request) {
	var ask controlInvitation
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&ask); err != nil || d.More() {
		answerJSON(w, http.StatusBadRequest, controlError{"the request is no single JSON object of an invitation"})
		return
	}
	life, err := api.ParseLife(ask.Expires)
	if err != nil {
		c.fail(w, err)
		return
	}
	made, err := c.server.Invite(r.Context(), store.Actor{Name: ask.By, Via: viaCommand}, api.InviteRequest{Endpoint: ask.Endpoint, Life: life, Gateways: ask.Gateways})
	if err != nil {
		c.fail(w, err)
		return
	}
	answerJSON(w, http.StatusCreated, made)
}

// CreateToken makes an API token on behalf of somebody on the command line.
func CreateToken(ctx context.Context, s *store.Store, name string, scope store.Scope, by string) (NewToken, error) {
	token, secret, err := s.CreateToken(ctx, store.Actor{Name: by, Via: viaCommand}, name, scope)
	if err != nil {
		return NewToken{}, fmt.Errorf("make the token: %w", err)
	}
	return NewToken{ID: token.ID, Name: token.Name, Scope: token.Scope, Secret: secret}, nil
}

// fail tells the command line what went wrong: its user owns the gateway.
func (c *Control) fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	_, invalid := errors.AsType[termination.ValidationError](err)
	_, taken := errors.AsType[store.NameTakenError](err)
	_, text := errors.AsType[store.TextError](err)
	_, missing := errors.AsType[store.NotFoundError](err)
	if invalid || taken || text || missing {
		status = http.StatusUnprocessableEntity
	} else {
		c.server.log.Error("the control socket could not answer", "error", err)
	}
	answerJSON(w, status, controlError{err.Error() + c.endpointsInstead(err)})
}

// endpointsInstead names the endpoints that are there to somebody who asked for one that is not; else it is empty.
func (c *Control) endpointsInstead(err error) string {
	e, is := errors.AsType[store.NotFoundError](err)
	if !is || e.Kind != store.KindEndpoint {
		return ""
	}
	const most = 8
	all := c.server.current().Endpoints
	names := make([]string, 0, most)
	for i := range all[:min(len(all), most)] {
		names = append(names, strconv.Quote(all[i].Name))
	}
	switch {
	case len(all) == 0:
		return "; there is none yet: make one in the dashboard or in the configuration file"
	case len(all) > most:
		return "; there are " + strings.Join(names, ", ") + fmt.Sprintf(" and %d more", len(all)-most)
	}
	return "; there is " + strings.Join(names, ", ")
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // an error means that whoever asked has left
}

// ErrNoGateway says that no gateway answers in a data directory.
var ErrNoGateway = errors.New("no gateway is running there")

// ControlClient asks the gateway that runs on a data directory.
type ControlClient struct {
	http *http.Client
	dial func(ctx context.Context, network, address string) (net.Conn, error) // to the socket, whatever the address
}

// NewControlClient returns a client for the gateway that runs on dir. Nothing is opened until something is asked.
func NewControlClient(dir string) (*ControlClient, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find data directory: %w", err)
	}
	path := filepath.Join(dir, ControlFile)
	dial := func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
		var dialer net.Dialer
		err = withShortPath(path, func(short string) error {
			conn, err = dialer.DialContext(ctx, "unix", short)
			return err
		})
		return conn, err
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: dial}
	return &ControlClient{http: &http.Client{Transport: transport, Timeout: controlTimeout}, dial: dial}, nil
}

// SignInLink asks for a one-time sign-in link. When no gateway answers, the error wraps [ErrNoGateway].
func (c *ControlClient) SignInLink(ctx context.Context) (string, error) {
	var answer controlLink
	err := c.post(ctx, "/sign-in-link", struct{}{}, &answer)
	return answer.Link, err
}

// CreateToken asks for an API token. When no gateway answers, the error wraps [ErrNoGateway].
func (c *ControlClient) CreateToken(ctx context.Context, name string, scope store.Scope, by string) (NewToken, error) {
	var answer NewToken
	err := c.post(ctx, "/tokens", controlTokenRequest{Name: name, Scope: scope, By: by}, &answer)
	return answer, err
}

// Invite asks for an invitation of an agent. When no gateway answers, the error wraps [ErrNoGateway].
func (c *ControlClient) Invite(ctx context.Context, endpoint, expires string, gateways []string, by string) (api.NewInvitation, error) {
	var answer api.NewInvitation
	err := c.post(ctx, "/invitations", controlInvitation{Endpoint: endpoint, Expires: expires, Gateways: gateways, By: by}, &answer)
	return answer, err
}

func (c *ControlClient) post(ctx context.Context, path string, ask, answer any) error {
	return postTo(ctx, c.http, path, ask, answer)
}

func postTo(ctx context.Context, client *http.Client, path string, ask, answer any) error {
	res, err := askControl(ctx, client, path, ask)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, controlBody))
	if err != nil {
		return fmt.Errorf("ask the gateway: %w", err)
	}
	if res.StatusCode != http.StatusCreated {
		var failed controlError
		if json.Unmarshal(text, &failed) != nil || failed.Error == "" {
			failed.Error = "the gateway answered " + res.Status
		}
		return errors.New(failed.Error)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("read the gateway's answer: %w", err)
	}
	return nil
}

// askControl posts a question as JSON. When no gateway answers, the error wraps [ErrNoGateway].
func askControl(ctx context.Context, client *http.Client, path string, ask any) (*http.Response, error) {
	body, err := json.Marshal(ask)
	if err != nil {
		return nil, fmt.Errorf("ask the gateway: %w", err)
	}
	// The host means nothing: the transport opens the socket whatever it says.
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+controlHost+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask the gateway: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := client.Do(r)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w (%w)", ErrNoGateway, err)
	}
	if err != nil {
		return nil, fmt.Errorf("ask the gateway: %w", err)
	}
	return res, nil
}

// ShowProblem lists something under the problems of the settings page, in place of what was said of the same object
// before. It stays until a change is in force, which says anew what is wrong: whoever knows that it still holds shows it
// again.
func (s *Server) ShowProblem(p store.Problem) {
	s.applying.Lock()
	defer s.applying.Unlock()
	shown := []store.Problem{}
	for _, other := range *s.problems.Load() {
		if other.Kind != p.Kind || other.Name != p.Name {
			shown = append(shown, other)
		}
	}
	shown = append(shown, p)
	s.problems.Store(&shown)
}
