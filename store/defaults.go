package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"countersign/termination"
)

// SetDefaults replaces what every endpoint that verifies trusts.
func (tx *Tx) SetDefaults(d termination.Defaults) error {
	origin, err := tx.settingOrigin(KindDefaults, "", SettingDefaults)
	if err != nil {
		return err
	}
	before, present, err := tx.defaultsOf(origin)
	if err != nil {
		return err
	}
	if unchanged, err := same(describeDefaults(before), describeDefaults(d)); err != nil || unchanged && present {
		return err
	}
	if err := tx.replaceDefaults(d, origin); err != nil {
		return err
	}
	return tx.audit(ActionUpdate, KindDefaults, "", KindDefaults, describeDefaults(before), describeDefaults(d))
}

func (tx *Tx) replaceDefaults(d termination.Defaults, origin termination.Origin) error {
	ids, err := nameToID(tx.ctx, tx.sql, authorityNames)
	if err != nil {
		return err
	}
	if err := tx.exec("DELETE FROM default_authorities WHERE origin = ?", string(origin)); err != nil {
		return fmt.Errorf("save defaults: %w", err)
	}
	for i, name := range d.Authorities {
		id, ok := ids[name]
		if !ok {
			return fieldError(KindDefaults, "", "client_auth.authorities", fmt.Sprintf("there is no authority %q", name), "upload it under Trust, or choose another")
		}
		err := tx.exec("INSERT INTO default_authorities (origin, position, authority_id) VALUES (?, ?, ?)", string(origin), i, id)
		if err != nil {
			return fmt.Errorf("save defaults: %w", err)
		}
	}
	text, err := marshalAudit(defaultsSettings{Pins: pinTexts(d.Pins), Rules: toRules(d.Rules)})
	if err != nil {
		return err
	}
	err = tx.exec("INSERT INTO settings (key, origin, value, changed) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value, changed = excluded.changed",
		SettingDefaults, string(origin), text, tx.now.UnixMilli())
	if err != nil {
		return fmt.Errorf("save defaults: %w", err)
	}
	return nil
}

// removeDefaults removes what the configuration file said of the defaults; the dashboard's hold again.
func (tx *Tx) removeDefaults() error {
	before, present, err := tx.defaultsOf(termination.OriginFile)
	if err != nil || !present {
		return err
	}
	if err := tx.exec("DELETE FROM default_authorities WHERE origin = ?", string(termination.OriginFile)); err != nil {
		return fmt.Errorf("remove defaults: %w", err)
	}
	if err := tx.exec("DELETE FROM settings WHERE key = ? AND origin = ?", SettingDefaults, string(termination.OriginFile)); err != nil {
		return fmt.Errorf("remove defaults: %w", err)
	}
	return tx.audit(ActionDelete, KindDefaults, "", KindDefaults, describeDefaults(before), nil)
}

func (tx *Tx) defaultsOf(origin termination.Origin) (termination.Defaults, bool, error) {
	present, err := tx.hasSetting(SettingDefaults, origin)
	if err != nil || !present {
		return termination.Defaults{}, false, err
	}
	d, err := readDefaultsOf(tx.ctx, tx.sql, origin)
	return d, true, err
}

// readDefaults returns the defaults that hold: the configuration file's, if it has any.
func readDefaults(ctx context.Context, q *sql.Tx) (termination.Defaults, error) {
	var origin termination.Origin
	err := q.QueryRowContext(ctx, "SELECT origin FROM settings WHERE key = ? ORDER BY origin = ? DESC LIMIT 1", SettingDefaults, string(termination.OriginFile)).Scan(&origin)
	if errors.Is(err, sql.ErrNoRows) {
		return termination.Defaults{}, nil
	}
	if err != nil {
		return termination.Defaults{}, fmt.Errorf("read defaults: %w", err)
	}
	return readDefaultsOf(ctx, q, origin)
}

func readDefaultsOf(ctx context.Context, q *sql.Tx, origin termination.Origin) (termination.Defaults, error) {
	var d termination.Defaults
	rows, err := q.QueryContext(ctx, "SELECT a.name FROM default_authorities d JOIN authorities a ON a.id = d.authority_id WHERE d.origin = ? ORDER BY d.position", string(origin))
	if err != nil {
		return d, fmt.Errorf("read defaults: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return d, fmt.Errorf("read defaults: %w", err)
		}
		d.Authorities = append(d.Authorities, name)
	}
	if err := rows.Err(); err != nil {
		return d, fmt.Errorf("read defaults: %w", err)
	}
	var text string
	if err := q.QueryRowContext(ctx, "SELECT value FROM settings WHERE key = ? AND origin = ?", SettingDefaults, string(origin)).Scan(&text); err != nil {
		return d, fmt.Errorf("read pins of the defaults: %w", err)
	}
	var s defaultsSettings
	if strings.HasPrefix(text, "[") { // as it was before there were rules
		err = strictJSON([]byte(text), &s.Pins)
	} else {
		err = strictJSON([]byte(text), &s)
	}
	if err != nil {
		return d, fmt.Errorf("read pins and rules of the defaults: %w", err)
	}
	if d.Rules, err = fromRules(s.Rules); err != nil {
		return d, fmt.Errorf("read the defaults: %w", err)
	}
	for _, p := range s.Pins {
		pin, err := termination.ParsePin(p)
		if err != nil {
			return d, fmt.Errorf("read pins of the defaults: %w", err)
		}
		d.Pins = append(d.Pins, pin)
	}
	return d, nil
}

// defaultsSettings is the JSON document of the defaults, without the authorities, which have rows of their own.
type defaultsSettings struct {
	Pins  []string       `json:"pins"`
	Rules []ruleSettings `json:"rules,omitempty"`
}

func pinTexts(pins []termination.Pin) []string {
	out := make([]string, 0, len(pins))
	for _, p := range pins {
		out = append(out, p.String())
	}
	return out
}

type describedDefaults struct {
	Authorities []string `json:"authorities"`
	Pins        []string `json:"pins"`
	Rules       []string `json:"rules,omitempty"`
}

func describeDefaults(d termination.Defaults) describedDefaults {
	return describedDefaults{Authorities: append([]string{}, d.Authorities...), Pins: pinTexts(d.Pins), Rules: rulesText(d.Rules)}
}

func rulesText(rules []termination.Rule) []string {
	var out []string
	for _, r := range rules {
		out = append(out, r.Text())
	}
	return out
}
