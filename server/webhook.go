package server

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"countersign/store"
	"countersign/termination/outbound"
)

const (
	// SignatureHeader signs a posted notice: "t=SECONDS,v1=HEX", the HMAC-SHA256 of "SECONDS.BODY" under the secret.
	SignatureHeader = "Countersign-Signature"

	hookTime   = 10 * time.Second
	hookAnswer = 64 << 10 // bytes that are read of an answer, so that its connection can be used again
)

// hookWaits returns how long to wait before each further try.
func hookWaits() []time.Duration {
	return []time.Duration{2 * time.Second, 10 * time.Second, time.Minute}
}

// posted is a notice as it is posted.
type posted struct {
	ID        string    `json:"id"`
	Time      time.Time `json:"time"`
	Kind      string    `json:"kind"`
	Title     string    `json:"title"`
	Text      string    `json:"text"`
	Path      string    `json:"path,omitempty"` // of the page in the dashboard
	Handshake string    `json:"handshake,omitempty"`
	Node      string    `json:"node"`
}

// newHookClient posts to what an operator has configured, and to nothing that this leads to: no redirect, no proxy, and no
// link-local address, where clouds tell machines their secrets.
func newHookClient() *http.Client {
	return &http.Client{
		Timeout:       hookTime,
		Transport:     &http.Transport{DialContext: outbound.Dialer(hookTime).DialContext, MaxIdleConns: 1, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: hookTime, ResponseHeaderTimeout: hookTime},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// hookError is an answer that is no success.
type hookError struct{ status int }

func (e hookError) Error() string {
	if e.status >= 300 && e.status < 400 {
		return fmt.Sprintf("the receiver answers with status %d, a redirect, which is not followed; configure the address that it leads to", e.status)
	}
	return fmt.Sprintf("the receiver answers with status %d", e.status)
}

// again reports whether another try may help.
func (e hookError) again() bool {
	return e.status >= 500 || e.status == http.StatusRequestTimeout || e.status == http.StatusTooManyRequests
}

// post posts a notice once.
func (n *Notices) post(ctx context.Context, to store.Notifications, notice store.Notice) error {
	body, err := json.Marshal(posted{
		ID: notice.ID, Time: notice.Time.UTC(), Kind: string(notice.Kind), Title: notice.Title, Text: notice.Text, Path: notice.Href, Handshake: notice.Handshake, Node: n.options.Store().Node(),
	})
	if err != nil {
		return fmt.Errorf("write the notice: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.Webhook, bytes.NewReader(body))
	if err != nil {
		return errors.New("the address cannot be used") // the error quotes it
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "Countersign")
	r.Header.Set(SignatureHeader, sign(to.Secret, n.options.Now(), body))
	res, err := n.client.Do(r)
	if err != nil {
		return fmt.Errorf("the receiver cannot be reached: %w", outbound.WithoutURL(err)) // the address may be a secret
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, hookAnswer)
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return hookError{res.StatusCode}
	}
	return nil
}

func sign(secret string, now time.Time, body []byte) string {
	at := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(at + "."))
	mac.Write(body)
	return "t=" + at + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// send posts notices, each until it is taken, no try can help, or there were enough.
func (n *Notices) send(ctx context.Context, batch []store.Notice) {
	for _, notice := range batch {
		wanted, err := n.postWanted(ctx, notice)
		for _, wait := range hookWaits() {
			if refused, ok := errors.AsType[hookError](err); err == nil || ok && !refused.again() || !n.options.Wait(ctx, wait) {
				break
			}
			wanted, err = n.postWanted(ctx, notice)
		}
		switch {
		case err != nil:
			n.failed.Add(1)
			n.options.Log.Warn("a notice could not be posted", "notice", notice.ID, "kind", string(notice.Kind), "error", err)
		case wanted:
			n.sent.Add(1)
		}
	}
}

// postWanted posts a notice once, where the settings of this moment want it.
func (n *Notices) postWanted(ctx context.Context, notice store.Notice) (wanted bool, err error) {
	to, err := n.options.Store().Notifications(ctx)
	if err != nil || !to.Wants(notice.Kind) {
		return false, err
	}
	return true, n.post(ctx, to, notice)
}

// Test posts a notice now, once, and returns what became of it.
func (n *Notices) Test(ctx context.Context) error {
	to, err := n.options.Store().Notifications(ctx)
	if err != nil {
		return err
	}
	if to.Webhook == "" {
		return &Problem{Status: http.StatusConflict, Code: "no_webhook", Title: "There is no webhook to test", Advice: "Save its address and secret first.", Href: "/settings#notices", Link: "To the settings"}
	}
	err = n.post(ctx, to, store.Notice{ID: "test", Time: n.options.Now(), Kind: store.NoticeTest, Title: "Test of the webhook", Text: "Somebody asked for this notice in the settings.", Href: "/settings"})
	if err != nil {
		return &Problem{Status: http.StatusBadGateway, Code: "webhook", Title: "The webhook did not take the test", Detail: err.Error(), Href: "/settings#notices", Link: "To the settings"}
	}
	return nil
}
