package revocation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"countersign/termination"
	"countersign/termination/outbound"
)

const (
	fetchTime    = time.Minute
	connectTime  = 10 * time.Second
	maxRedirects = 3
	maxValidator = 1024 // bytes of an ETag or a date
)

// newClient speaks with the servers of lists and with responders: no proxy that would hide where we connect to, nothing
// on the machine's own links, few redirects and none to anything but http and https.
func newClient() *http.Client {
	return &http.Client{
		Timeout: fetchTime,
		Transport: &http.Transport{
			DialContext: outbound.Dialer(connectTime).DialContext, TLSHandshakeTimeout: connectTime, ResponseHeaderTimeout: connectTime,
			MaxResponseHeaderBytes: 16 << 10, DisableCompression: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			switch {
			case len(via) > maxRedirects:
				return fmt.Errorf("it leads on to other addresses more than %d times", maxRedirects)
			case r.URL.Scheme != "http" && r.URL.Scheme != "https":
				return errors.New("it leads to an address that is neither http nor https")
			}
			return nil
		},
	}
}

// request is what is asked of the server of a list.
type request struct {
	url            string
	etag, modified string // of what is there already; empty: nothing is
}

// response is what it has said.
type response struct {
	same           bool // it has nothing newer
	body           []byte
	etag, modified string
}

// fetch gets what is at an address, in bounded time and size.
func (r *Registry) fetch(ctx context.Context, q request) (response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, q.url, http.NoBody)
	if err != nil {
		return response{}, errors.New("the address cannot be read")
	}
	req.Header.Set("Accept", "application/pkix-crl, application/x-pem-file, */*;q=0.1")
	req.Header.Set("User-Agent", "countersign")
	if q.etag != "" {
		req.Header.Set("If-None-Match", q.etag)
	}
	if q.modified != "" {
		req.Header.Set("If-Modified-Since", q.modified)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return response{}, fmt.Errorf("it cannot be fetched: %w", outbound.WithoutURL(err))
	}
	defer func() { _ = resp.Body.Close() }()
	conditional := q.etag != "" || q.modified != ""
	switch {
	case resp.StatusCode == http.StatusNotModified && conditional:
		return response{same: true}, nil
	case resp.StatusCode != http.StatusOK:
		return response{}, fmt.Errorf("the server says %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	case resp.ContentLength > termination.MaxCRL:
		return response{}, fmt.Errorf("it has more than %d MiB; larger revocation lists are not read", termination.MaxCRL>>20)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, termination.MaxCRL+1))
	if err != nil {
		return response{}, fmt.Errorf("it did not come to its end: %w", outbound.WithoutURL(err))
	}
	return response{body: body, etag: validator(resp, "ETag"), modified: validator(resp, "Last-Modified")}, nil
}

func validator(resp *http.Response, name string) string {
	if v := resp.Header.Get(name); len(v) <= maxValidator {
		return v
	}
	return ""
}
