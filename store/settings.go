package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"countersign/termination"
	"countersign/termination/expression"
)

// Keys of the settings that the store itself understands, as [Store.DeclaredSettings] names them. Other keys are free for
// the callers of PutSetting.
const (
	SettingLimits  = "limits"
	SettingHistory = "history"
	SettingAgents  = "agents"
	SettingACME    = "acme"
	// SettingNotifications has its own methods, for its secrets.
	SettingNotifications = "notifications"
	SettingDefaults      = "default pins" // its presence means that an origin says something about the defaults
)

// HistorySettings say how long handshakes are kept.
type HistorySettings struct {
	Keep         time.Duration // of clients that were let in
	KeepFailures time.Duration // of all others
	MaxSize      int64         // bytes of the history's file; what is oldest goes first
}

// DefaultHistorySettings returns the settings of a gateway without a history section.
func DefaultHistorySettings() HistorySettings {
	return HistorySettings{Keep: 7 * 24 * time.Hour, KeepFailures: 30 * 24 * time.Hour, MaxSize: 2_000_000_000}
}

// minHistorySize leaves room for a history that can be worked with.
const minHistorySize = 1 << 20

func (h HistorySettings) check() error {
	switch {
	case h.Keep <= 0:
		return fieldError(KindSetting, SettingHistory, "keep", "must be above zero", "write it as in 7d")
	case h.KeepFailures <= 0:
		return fieldError(KindSetting, SettingHistory, "keep_failures", "must be above zero", "write it as in 30d")
	case h.MaxSize < minHistorySize:
		return fieldError(KindSetting, SettingHistory, "max_size", "must be 1 MiB at least", "write it as in 2GB")
	}
	return nil
}

// storedLimits and storedHistory are the settings' JSON documents; durations are text such as "10s".
type storedLimits struct {
	HandshakeTimeout      string `json:"handshakeTimeout"`
	ClientHello           int    `json:"clientHello"`
	CertificateChain      int    `json:"certificateChain"`
	Certificates          int    `json:"certificates"`
	Header                int    `json:"header"`
	Body                  int64  `json:"body,omitempty"`
	IdleTimeout           string `json:"idleTimeout"`
	Connections           int    `json:"connections"`
	ConnectionsPerAddress int    `json:"connectionsPerAddress"`
	HalfOpen              int    `json:"halfOpen"`
	HalfOpenPerAddress    int    `json:"halfOpenPerAddress"`
	ExpressionCost        int    `json:"expressionCost,omitempty"` // 0: the default
	RefusalLinger         string `json:"refusalLinger"`
}

type storedHistory struct {
	Keep         string `json:"keep"`
	KeepFailures string `json:"keepFailures"`
	MaxSize      int64  `json:"maxSize"`
}

// SetLimits replaces the limits that the dashboard sets.
func (tx *Tx) SetLimits(l termination.Limits) error {
	if err := checkLimits(l); err != nil {
		return err
	}
	return tx.PutSetting(SettingLimits, storedLimits{
		HandshakeTimeout: l.HandshakeTimeout.String(), ClientHello: l.ClientHello, CertificateChain: l.CertificateChain,
		Certificates: l.Certificates, Header: l.Header, Body: l.Body, IdleTimeout: l.IdleTimeout.String(), Connections: l.Connections,
		ConnectionsPerAddress: l.ConnectionsPerAddress, HalfOpen: l.HalfOpen, HalfOpenPerAddress: l.HalfOpenPerAddress,
		ExpressionCost: l.ExpressionCost, RefusalLinger: l.RefusalLinger.String(),
	})
}

func checkLimits(l termination.Limits) error {
	if l.ExpressionCost < 0 || l.ExpressionCost > expression.MaxCost {
		return fieldError("limits", "", "expression_cost", fmt.Sprintf("must be 1 to %d", expression.MaxCost), "leave it out for the default")
	}
	if l.Body < 0 {
		return fieldError("limits", "", "body", "must not be below zero", "leave it out for no limit")
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"handshake_timeout", int64(l.HandshakeTimeout)},
		{"client_hello", int64(l.ClientHello)},
		{"certificate_chain", int64(l.CertificateChain)},
		{"certificates", int64(l.Certificates)},
		{"header", int64(l.Header)},
		{"idle_timeout", int64(l.IdleTimeout)},
		{"connections", int64(l.Connections)},
		{"connections_per_address", int64(l.ConnectionsPerAddress)},
		{"half_open", int64(l.HalfOpen)},
		{"half_open_per_address", int64(l.HalfOpenPerAddress)},
		{"refusal_linger", int64(l.RefusalLinger)},
	} {
		if f.value <= 0 {
			return fieldError("limits", "", f.name, "must be above zero", "leave it out for the default")
		}
	}
	return nil
}

// SetHistory replaces how long the dashboard wants handshakes kept.
func (tx *Tx) SetHistory(h HistorySettings) error {
	if err := h.check(); err != nil {
		return err
	}
	tx.retention = true
	return tx.PutSetting(SettingHistory, storedHistory{Keep: h.Keep.String(), KeepFailures: h.KeepFailures.String(), MaxSize: h.MaxSize})
}

// PutSetting replaces a setting. value becomes JSON and must hold no secret: it stands in the audit log too.
func (tx *Tx) PutSetting(key string, value any) error {
	if err := checkText("the key of a setting", key); err != nil {
		return err
	}
	origin, err := tx.settingOrigin(KindSetting, key, key)
	if err != nil {
		return err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode setting %s: %w", key, err)
	}
	before, err := tx.setting(key, origin)
	if err != nil || before == string(text) {
		return err
	}
	err = tx.exec("INSERT INTO settings (key, origin, value, changed) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value, changed = excluded.changed",
		key, string(origin), string(text), tx.now.UnixMilli())
	if err != nil {
		return saving(KindSetting, key, err)
	}
	return tx.audit(ActionUpdate, KindSetting, "", key, auditJSON(before), json.RawMessage(text))
}

// settingOrigin says on whose behalf a setting is written, and refuses the dashboard what the file declares. kind and
// name are for the refusal.
func (tx *Tx) settingOrigin(kind, name, key string) (termination.Origin, error) {
	if tx.declared {
		return termination.OriginFile, nil
	}
	declared, err := tx.hasSetting(key, termination.OriginFile)
	if err != nil {
		return "", err
	}
	if declared {
		return "", ReadOnlyError{Kind: kind, Name: name}
	}
	return termination.OriginDashboard, nil
}

// removeSetting removes what one origin says of a setting.
func (tx *Tx) removeSetting(key string, origin termination.Origin) error {
	before, err := tx.setting(key, origin)
	if err != nil || before == "" {
		return err
	}
	if err := tx.exec("DELETE FROM settings WHERE key = ? AND origin = ?", key, string(origin)); err != nil {
		return saving(KindSetting, key, err)
	}
	return tx.audit(ActionDelete, KindSetting, "", key, auditJSON(before), nil)
}

func auditJSON(text string) any {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

// setting returns the value that one origin gave, or an empty string.
func (tx *Tx) setting(key string, origin termination.Origin) (string, error) {
	var text string
	err := tx.sql.QueryRowContext(tx.ctx, "SELECT value FROM settings WHERE key = ? AND origin = ?", key, string(origin)).Scan(&text)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read setting %s: %w", key, err)
	}
	return text, nil
}

func (tx *Tx) hasSetting(key string, origin termination.Origin) (bool, error) {
	text, err := tx.setting(key, origin)
	return text != "", err
}

// Setting reads a setting into value and reports whether there is one. What the configuration file says wins.
func (s *Store) Setting(ctx context.Context, key string, value any) (bool, error) {
	var found bool
	err := s.read(ctx, func(q *sql.Tx) error {
		var err error
		found, err = readSetting(ctx, q, key, value)
		return err
	})
	return found, err
}

// DeclaredSettings returns the keys of the settings that the configuration file declares, which are read-only elsewhere.
func (s *Store) DeclaredSettings(ctx context.Context) (map[string]bool, error) {
	rows, err := s.config.reader.QueryContext(ctx, "SELECT key FROM settings WHERE origin = ?", string(termination.OriginFile))
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	defer func() { _ = rows.Close() }()
	out := map[string]bool{}
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return nil, fmt.Errorf("read settings: %w", err)
		}
		out[key] = true
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	return out, nil
}

// History returns how long handshakes are kept.
func (s *Store) History(ctx context.Context) (HistorySettings, error) {
	var stored storedHistory
	found, err := s.Setting(ctx, SettingHistory, &stored)
	if err != nil || !found {
		return DefaultHistorySettings(), err
	}
	h := HistorySettings{MaxSize: stored.MaxSize}
	if h.Keep, err = time.ParseDuration(stored.Keep); err == nil {
		h.KeepFailures, err = time.ParseDuration(stored.KeepFailures)
	}
	if err == nil {
		err = h.check()
	}
	if err != nil {
		return DefaultHistorySettings(), fmt.Errorf("read how long the history is kept: %w", err)
	}
	return h, nil
}

func readSetting(ctx context.Context, q *sql.Tx, key string, value any) (bool, error) {
	var text string
	err := q.QueryRowContext(ctx, "SELECT value FROM settings WHERE key = ? ORDER BY origin = ? DESC LIMIT 1", key, string(termination.OriginFile)).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read setting %s: %w", key, err)
	}
	if err := strictJSON([]byte(text), value); err != nil {
		return false, fmt.Errorf("read setting %s: %w", key, err)
	}
	return true, nil
}

func readLimits(ctx context.Context, q *sql.Tx) (termination.Limits, error) {
	var s storedLimits
	found, err := readSetting(ctx, q, SettingLimits, &s)
	if err != nil || !found {
		return termination.DefaultLimits(), err
	}
	l := termination.Limits{
		ClientHello: s.ClientHello, CertificateChain: s.CertificateChain, Certificates: s.Certificates, Header: s.Header, Body: s.Body,
		Connections: s.Connections, ConnectionsPerAddress: s.ConnectionsPerAddress,
		HalfOpen: s.HalfOpen, HalfOpenPerAddress: s.HalfOpenPerAddress,
		ExpressionCost: cmp.Or(s.ExpressionCost, termination.DefaultLimits().ExpressionCost),
	}
	for _, d := range []struct {
		text string
		into *time.Duration
	}{{s.HandshakeTimeout, &l.HandshakeTimeout}, {s.IdleTimeout, &l.IdleTimeout}, {s.RefusalLinger, &l.RefusalLinger}} {
		if *d.into, err = time.ParseDuration(d.text); err != nil {
			return termination.DefaultLimits(), fmt.Errorf("read limits: %w", err)
		}
	}
	if err := checkLimits(l); err != nil {
		return termination.DefaultLimits(), err
	}
	return l, nil
}

// storedAgents is the JSON document of how agents reach the gateway.
type storedAgents struct {
	Listen      string   `json:"listen,omitempty"` // empty: no agent can connect
	StalePolicy string   `json:"stalePolicy"`
	Hosts       []string `json:"hosts,omitempty"`
}

// SetAgents replaces how agents reach the gateway.
func (tx *Tx) SetAgents(a termination.Agents) error {
	if a.StalePolicy <= 0 {
		return fieldError("agents", "", "stale_policy", "must be above zero", "leave it out for the default")
	}
	s := storedAgents{StalePolicy: a.StalePolicy.String(), Hosts: a.Hosts}
	if a.Listen.IsValid() {
		s.Listen = a.Listen.String()
	}
	return tx.PutSetting(SettingAgents, s)
}

// readAgents returns how agents reach the gateway. With an error they do not.
func readAgents(ctx context.Context, q *sql.Tx) (termination.Agents, error) {
	var s storedAgents
	found, err := readSetting(ctx, q, SettingAgents, &s)
	if err != nil {
		return termination.Agents{}, err
	}
	if !found {
		return termination.DefaultAgents(), nil
	}
	a := termination.Agents{Hosts: s.Hosts}
	if a.StalePolicy, err = time.ParseDuration(s.StalePolicy); err != nil {
		return termination.Agents{}, fmt.Errorf("read how agents connect: %w", err)
	}
	if s.Listen == "" {
		return a, nil
	}
	if a.Listen, err = netip.ParseAddrPort(s.Listen); err != nil {
		return termination.Agents{}, fmt.Errorf("read how agents connect: %w", err)
	}
	return a, nil
}
