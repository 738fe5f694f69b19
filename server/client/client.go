package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"countersign/termination"
)

// Bounds of what a gateway may answer.
const (
	maxAnswer  = 32 << 20 // bytes of a page of records
	maxProblem = 64 << 10
	patience   = 15 * time.Second // of one request
)

// prefix is the path of the API.
const prefix = "/api/v1"

// ErrAway says that nothing answers where the gateway should be.
var ErrAway = errors.New("no gateway answers there")

// Options say where the gateway is.
type Options struct {
	// URL of the dashboard, as in http://127.0.0.1:7443.
	URL string
	// Token of the scope read; empty where Dial leads to somewhere that needs none.
	Token string
	// Dial opens connections in place of the URL's address; nil: to that address. No proxy is ever used.
	Dial func(context.Context) (net.Conn, error)
}

// Client asks one gateway. Its methods may be called by several goroutines.
type Client struct {
	base  *url.URL
	token string
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
	http  *http.Client
	wait  time.Duration // before the first try to come back to a stream that was lost
}

// New returns a client. Nothing is opened until something is asked.
func New(o Options) (*Client, error) {
	base, err := url.Parse(o.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.User != nil || strings.Trim(base.Path, "/") != "" {
		return nil, fmt.Errorf("%q is no URL of a dashboard; expected one as in http://127.0.0.1:7443", o.URL)
	}
	if o.Dial == nil && base.Scheme == "http" && !loopback(base.Hostname()) {
		return nil, fmt.Errorf("the token would cross the network unencrypted to %s: use https, or a tunnel, as in ssh -L 7443:127.0.0.1:7443 %s", o.URL, base.Hostname())
	}
	c := &Client{base: &url.URL{Scheme: base.Scheme, Host: base.Host}, token: o.Token, wait: 500 * time.Millisecond}
	c.dial = (&net.Dialer{}).DialContext
	if o.Dial != nil {
		c.dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return o.Dial(ctx) }
	}
	c.http = &http.Client{
		Transport: &http.Transport{DialContext: c.dial, DisableKeepAlives: true},
		Timeout:   patience,
		// A token goes to nobody but whom it was meant for.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback() || strings.EqualFold(host, "localhost")
}

// AnswerError is an answer of the gateway that is none of those hoped for.
type AnswerError struct {
	Status int // of HTTP
	Title  string
	Detail string
	Advice string
}

// Error implements error.
func (e *AnswerError) Error() string {
	text := strings.TrimSuffix(e.Title, ".")
	if e.Detail != "" {
		text += ": " + strings.TrimSuffix(e.Detail, ".")
	}
	if e.Advice != "" {
		text += ". " + e.Advice
	}
	return text
}

// Record is a recorded handshake.
type Record struct {
	termination.Handshake
	Presented []Certificate              `json:"presented,omitempty"`
	End       *termination.ConnectionEnd `json:"end,omitempty"`
}

// Certificate is what is told of one that was presented.
type Certificate struct {
	Subject     string                  `json:"subject"`
	Issuer      string                  `json:"issuer"`
	Fingerprint termination.Fingerprint `json:"fingerprint"`
}

// Page is a page of records, newest first, without their certificates.
type Page struct {
	Items    []Record   `json:"items"`
	Cursor   string     `json:"cursor"`         // of what is older; empty: there is nothing
	Searched *time.Time `json:"searched_until"` // down to where was searched before the gateway gave up for now
	// At is the gateway's clock, in whole seconds; zero: it did not tell.
	At time.Time `json:"-"`
}

// Handshakes returns recorded handshakes that a filter selects, newest first, from a cursor on.
func (c *Client) Handshakes(ctx context.Context, filter, before string, limit int) (Page, error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if filter != "" {
		q.Set("f", filter)
	}
	if before != "" {
		q.Set("before", before)
	}
	var page Page
	at, err := c.get(ctx, "/handshakes?"+q.Encode(), &page)
	page.At = at
	if err != nil {
		return page, fmt.Errorf("ask for recorded handshakes: %w", err)
	}
	return page, nil
}

// Handshake returns one record, by its ID.
func (c *Client) Handshake(ctx context.Context, id string) (*Record, error) {
	var r Record
	if _, err := c.get(ctx, "/handshakes/"+url.PathEscape(id), &r); err != nil {
		return nil, fmt.Errorf("ask for handshake %s: %w", id, err)
	}
	return &r, nil
}

func (c *Client) get(ctx context.Context, path string, into any) (at time.Time, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.String()+prefix+path, nil)
	if err != nil {
		return at, err
	}
	c.authorize(r.Header)
	res, err := c.http.Do(r)
	if err != nil {
		return at, away(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return at, answerError(res)
	}
	if at, err = http.ParseTime(res.Header.Get("Date")); err != nil {
		at = time.Time{}
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(into); err != nil {
		return at, fmt.Errorf("read the answer: %w", err)
	}
	return at, nil
}

func (c *Client) authorize(h http.Header) {
	if c.token != "" {
		h.Set("Authorization", "Bearer "+c.token)
	}
}

// away marks errors that say that nobody is there.
func away(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w (%w)", ErrAway, err)
	}
	return err
}

// answerError reads a problem document (RFC 9457), or whatever came in its place.
func answerError(res *http.Response) error {
	e := &AnswerError{Status: res.StatusCode}
	var problem struct{ Title, Detail, Advice string }
	text, _ := io.ReadAll(io.LimitReader(res.Body, maxProblem)) // what cannot be read is not needed
	if json.Unmarshal(text, &problem) == nil && problem.Title != "" {
		e.Title, e.Detail, e.Advice = problem.Title, problem.Detail, problem.Advice
		return e
	}
	e.Title = "the gateway answered " + res.Status
	if first, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n"); first != "" && strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") {
		e.Detail = first[:min(len(first), 200)]
	}
	return e
}
