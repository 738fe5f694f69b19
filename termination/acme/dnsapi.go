package acme

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/libdns/libdns"
)

// rest speaks JSON with the API of a DNS provider.
type rest struct {
	base   string
	token  string
	client *http.Client // nil: one of its own
}

// call sends in, if not nil, and reads the answer into out, if not nil. The token is in no error.
func (r rest) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("write a request to the DNS provider: %w", err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, body)
	if err != nil {
		return fmt.Errorf("write a request to the DNS provider: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	req.Header.Set("Content-Type", "application/json")
	client := r.client
	if client == nil {
		// No connection outlives the request, and no redirect takes the token elsewhere.
		client = &http.Client{
			Timeout: requestTime, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("ask the DNS provider: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the DNS provider's answer: %w", err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("the DNS provider says %s: %s", resp.Status, short(string(text)))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("read the DNS provider's answer: %w", err)
	}
	return nil
}

// short cuts the words of others to what can be shown.
func short(s string) string {
	const most = 300
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "�")), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

func recordName(rr libdns.RR, zone string) string {
	return strings.TrimSuffix(libdns.AbsoluteName(rr.Name, zone), ".")
}

// cloudflare writes records through Cloudflare's API.
type cloudflare struct{ api rest }

var _ certmagic.DNSProvider = (*cloudflare)(nil)

type cloudflareList struct {
	Result []struct {
		ID      string `json:"id"`
		Content string `json:"content"`
	} `json:"result"`
}

func (p *cloudflare) zone(ctx context.Context, zone string) (string, error) {
	var found cloudflareList
	name := strings.TrimSuffix(zone, ".")
	if err := p.api.call(ctx, http.MethodGet, "/zones?name="+url.QueryEscape(name), nil, &found); err != nil {
		return "", err
	}
	if len(found.Result) == 0 {
		return "", fmt.Errorf("the API token sees no zone %s at Cloudflare", name)
	}
	return "/zones/" + url.PathEscape(found.Result[0].ID) + "/dns_records", nil
}

// AppendRecords implements libdns.RecordAppender.
func (p *cloudflare) AppendRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	path, err := p.zone(ctx, zone)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		rr := r.RR()
		record := map[string]any{"type": rr.Type, "name": recordName(rr, zone), "content": rr.Data, "ttl": int(max(rr.TTL, time.Minute) / time.Second)}
		if err := p.api.call(ctx, http.MethodPost, path, record, nil); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// DeleteRecords implements libdns.RecordDeleter.
func (p *cloudflare) DeleteRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	path, err := p.zone(ctx, zone)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, r := range records {
		rr := r.RR()
		var found cloudflareList
		query := url.Values{"type": {rr.Type}, "name": {recordName(rr, zone)}}
		if err := p.api.call(ctx, http.MethodGet, path+"?"+query.Encode(), nil, &found); err != nil {
			return nil, err
		}
		for _, f := range found.Result {
			if strings.Trim(f.Content, `"`) == rr.Data {
				errs = append(errs, p.api.call(ctx, http.MethodDelete, path+"/"+url.PathEscape(f.ID), nil, nil))
			}
		}
	}
	return records, errors.Join(errs...)
}

// digitalOcean writes records through DigitalOcean's API.
type digitalOcean struct{ api rest }

var _ certmagic.DNSProvider = (*digitalOcean)(nil)

func digitalOceanPath(zone string) string {
	return "/domains/" + url.PathEscape(strings.TrimSuffix(zone, ".")) + "/records"
}

// AppendRecords implements libdns.RecordAppender.
func (p *digitalOcean) AppendRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	for _, r := range records {
		rr := r.RR()
		record := map[string]any{"type": rr.Type, "name": rr.Name, "data": rr.Data, "ttl": int(max(rr.TTL, time.Minute) / time.Second)}
		if err := p.api.call(ctx, http.MethodPost, digitalOceanPath(zone), record, nil); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// DeleteRecords implements libdns.RecordDeleter.
func (p *digitalOcean) DeleteRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	var errs []error
	for _, r := range records {
		rr := r.RR()
		var found struct {
			Records []struct {
				ID   int64  `json:"id"`
				Data string `json:"data"`
			} `json:"domain_records"`
		}
		query := url.Values{"type": {rr.Type}, "name": {recordName(rr, zone)}, "per_page": {"200"}}
		if err := p.api.call(ctx, http.MethodGet, digitalOceanPath(zone)+"?"+query.Encode(), nil, &found); err != nil {
			return nil, err
		}
		for _, f := range found.Records {
			if f.Data == rr.Data {
				errs = append(errs, p.api.call(ctx, http.MethodDelete, fmt.Sprintf("%s/%d", digitalOceanPath(zone), f.ID), nil, nil))
			}
		}
	}
	return records, errors.Join(errs...)
}
