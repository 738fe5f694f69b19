package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"countersign/termination"
)

// NoticeKind says what a notice is about.
type NoticeKind string

// The kinds of notices.
const (
	NoticeClientFailed NoticeKind = "client_failed" // a client that was let in before was not
	NoticeExpiry       NoticeKind = "expiry"        // a CA, a list, a server's or a client's certificate ends, or has ended
	NoticeSoftware     NoticeKind = "software_changed"
	NoticeAgentOffline NoticeKind = "agent_offline"
	NoticeTest         NoticeKind = "test"
)

// NoticeKinds lists the kinds that can be chosen.
func NoticeKinds() []NoticeKind {
	return []NoticeKind{NoticeClientFailed, NoticeExpiry, NoticeSoftware, NoticeAgentOffline}
}

// Notice is something that somebody should hear of without looking. Its texts can hold what clients sent.
type Notice struct {
	ID        string
	Time      time.Time
	Kind      NoticeKind
	About     string // tells what it is about from all else
	Title     string
	Text      string
	Href      string // a page of the dashboard
	Handshake string // empty: it is about none
}

// keptNotices is how many notices of a kind are kept: more than can be worth one at a time, since what is forgotten is told
// again as long as it lasts.
const keptNotices = 5 * mostAlerts

const noticeKnown = "SELECT EXISTS (SELECT 1 FROM notices WHERE about = ? AND time > ?)"

// AddNotice keeps a notice, with an ID and a time, unless there is one about the same within quiet; 0: ever.
func (s *Store) AddNotice(ctx context.Context, n Notice, quiet time.Duration) (Notice, bool, error) {
	since := int64(0)
	if quiet > 0 {
		since = s.now().Add(-quiet).UnixMilli()
	}
	// As a rule it is known, since what lasts is looked at every minute. Then there is nothing to write.
	var known bool
	if err := s.config.reader.QueryRowContext(ctx, noticeKnown, n.About, since).Scan(&known); err != nil {
		return Notice{}, false, fmt.Errorf("look for a notice: %w", err)
	}
	if known {
		return Notice{}, false, nil
	}
	added := false
	err := s.write(ctx, Actor{Name: "the gateway", Via: "notices"}, func(tx *Tx) error {
		if err := tx.sql.QueryRowContext(tx.ctx, noticeKnown, n.About, since).Scan(&known); err != nil || known {
			return err
		}
		n.ID, n.Time, added = termination.NewID(termination.PrefixNotice, tx.now), tx.now, true
		if err := tx.exec("INSERT INTO notices (id, time, kind, about, title, text, href, handshake) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			n.ID, n.Time.UnixMilli(), string(n.Kind), n.About, n.Title, n.Text, n.Href, n.Handshake); err != nil {
			return err
		}
		return tx.exec("DELETE FROM notices WHERE kind = ?1 AND id < (SELECT min(id) FROM (SELECT id FROM notices WHERE kind = ?1 ORDER BY id DESC LIMIT ?2))", string(n.Kind), keptNotices)
	})
	if err != nil {
		return Notice{}, false, fmt.Errorf("keep a notice: %w", err)
	}
	return n, added, nil
}

// Notices returns the last notices after an ID, the newest first; all of them after "".
func (s *Store) Notices(ctx context.Context, after string, limit int) ([]Notice, error) {
	rows, err := s.config.reader.QueryContext(ctx, "SELECT id, time, kind, about, title, text, href, handshake FROM notices WHERE id > ? ORDER BY id DESC LIMIT ?", after, limit)
	if err != nil {
		return nil, fmt.Errorf("read notices: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []Notice
	for rows.Next() {
		var n Notice
		var at int64
		if err := rows.Scan(&n.ID, &at, &n.Kind, &n.About, &n.Title, &n.Text, &n.Href, &n.Handshake); err != nil {
			return nil, fmt.Errorf("read notices: %w", err)
		}
		n.Time = time.UnixMilli(at)
		out = append(out, n)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read notices: %w", err)
	}
	return out, nil
}

// Notifications say whom to tell of notices.
type Notifications struct {
	Webhook string       // an address that notices are posted to; empty: nobody is told
	Secret  string       // signs them
	Kinds   []NoticeKind // that are posted; none: all
}

// Wants reports whether a kind is posted.
func (n Notifications) Wants(k NoticeKind) bool {
	return n.Webhook != "" && (k == NoticeTest || len(n.Kinds) == 0 || slices.Contains(n.Kinds, k))
}

const (
	minWebhookSecret = 16
	maxWebhook       = 2048 // bytes of the address, and of the secret
)

func (n Notifications) check() error {
	wrong := func(field, problem, advice string) error {
		return fieldError(KindSetting, SettingNotifications, field, problem, advice)
	}
	if n.Webhook != "" {
		// What was written is not shown: addresses of webhooks are secrets themselves, as a rule.
		u, err := url.Parse(n.Webhook)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || len(n.Webhook) > maxWebhook {
			return wrong("webhook", "is no http or https address without user and fragment", "write it as in https://hooks.example.com/countersign")
		}
		if len(n.Secret) < minWebhookSecret || len(n.Secret) > maxWebhook {
			return wrong("secret", fmt.Sprintf("must have %d characters at least", minWebhookSecret), "make one with: openssl rand -hex 32")
		}
	}
	for _, k := range n.Kinds {
		if !slices.Contains(NoticeKinds(), k) {
			var known []string
			for _, k := range NoticeKinds() {
				known = append(known, string(k))
			}
			return wrong("kinds", fmt.Sprintf("%q is no kind of notice", k), "use "+strings.Join(known, ", "))
		}
	}
	return nil
}

// storedNotifications is the JSON document of a setting. The address is sealed with the secret: whoever knows it can post there.
type storedNotifications struct {
	Kinds []NoticeKind `json:"kinds,omitempty"`
	Host  string       `json:"host,omitempty"` // of the address, for people and the audit log
}

// SetNotifications replaces whom the dashboard, or the file, wants told.
func (tx *Tx) SetNotifications(n Notifications) error {
	if err := n.check(); err != nil {
		return err
	}
	stored, secrets := storedNotifications{Kinds: n.Kinds}, map[string]string{}
	if n.Webhook != "" {
		if u, err := url.Parse(n.Webhook); err == nil { // it was checked
			stored.Host = u.Host
		}
		secrets["webhook"], secrets["secret"] = n.Webhook, n.Secret
	}
	if err := tx.PutSetting(SettingNotifications, stored); err != nil {
		return err
	}
	return tx.putSecrets(SettingNotifications, secrets)
}

// removeNotifications removes what one origin says of notifications.
func (tx *Tx) removeNotifications(origin termination.Origin) error {
	if err := tx.removeSetting(SettingNotifications, origin); err != nil {
		return err
	}
	if err := tx.exec("DELETE FROM setting_secrets WHERE key = ? AND origin = ?", SettingNotifications, string(origin)); err != nil {
		return saving(KindSetting, SettingNotifications, err)
	}
	return nil
}

// Notifications returns whom to tell.
func (s *Store) Notifications(ctx context.Context) (Notifications, error) {
	var n Notifications
	err := s.read(ctx, func(q *sql.Tx) error {
		var stored storedNotifications
		found, err := readSetting(ctx, q, SettingNotifications, &stored)
		if err != nil || !found {
			return err
		}
		n.Kinds = stored.Kinds
		secrets, err := s.readSecrets(ctx, q, SettingNotifications)
		n.Webhook, n.Secret = secrets["webhook"], secrets["secret"]
		return err
	})
	return n, err
}

// readSecrets returns the secret part of a setting, of whoever has the say, the file or the dashboard; never that of the other.
func (s *Store) readSecrets(ctx context.Context, q *sql.Tx, key string) (map[string]string, error) {
	var sealed []byte
	err := q.QueryRowContext(ctx, `SELECT secret.sealed FROM settings LEFT JOIN setting_secrets secret USING (key, origin)
		WHERE key = ? ORDER BY origin = ? DESC LIMIT 1`, key, string(termination.OriginFile)).Scan(&sealed)
	if err != nil {
		return nil, fmt.Errorf("read the secrets of %s: %w", key, err)
	}
	if sealed == nil {
		return nil, nil
	}
	text, err := s.sealer.openBytes(sealed)
	if err != nil {
		return nil, fmt.Errorf("read the secrets of %s: %w", key, err)
	}
	defer clear(text)
	var secrets map[string]string
	if err := json.Unmarshal(text, &secrets); err != nil {
		return nil, errors.New("the opened secrets of " + key + " cannot be read") // the parser's words could quote them
	}
	return secrets, nil
}
