package store

import (
	"encoding/json"
	"fmt"
	"slices"
)

// renameInRules lets the rules of endpoints, routes and defaults follow an object to its new name: they refer to it by
// name, under key ("authority", "identity"). Settings that cannot be read are left alone; their endpoint is closed.
func (tx *Tx) renameInRules(key, before, after string) error {
	if before == after {
		return nil
	}
	rename := func(rules []ruleSettings) bool {
		renamed := false
		for _, r := range rules {
			if r.Subject[key] == before {
				r.Subject[key], renamed = after, true
			}
		}
		return renamed
	}
	if err := tx.renameInEndpoints(rename); err != nil {
		return err
	}
	return tx.renameInDefaults(rename)
}

func (tx *Tx) renameInEndpoints(rename func([]ruleSettings) bool) error {
	documents, err := tx.documents("SELECT id, settings FROM endpoints")
	if err != nil {
		return err
	}
	for _, d := range documents {
		var s endpointSettings
		if strictJSON([]byte(d.text), &s) != nil {
			continue
		}
		renamed := rename(s.ClientAuth.Rules)
		for i := range s.Routes {
			if p := s.Routes[i].ClientAuth; p != nil {
				renamed = rename(p.Rules) || renamed
			}
		}
		if !renamed {
			continue
		}
		if err := tx.replaceDocument("UPDATE endpoints SET settings = ?, changed = ? WHERE id = ?", s, d.key); err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) renameInDefaults(rename func([]ruleSettings) bool) error {
	documents, err := tx.documents("SELECT origin, value FROM settings WHERE key = ?", SettingDefaults)
	if err != nil {
		return err
	}
	for _, d := range documents {
		var s defaultsSettings
		if strictJSON([]byte(d.text), &s) != nil || !rename(s.Rules) {
			continue
		}
		if err := tx.replaceDocument("UPDATE settings SET value = ?, changed = ? WHERE key = '"+SettingDefaults+"' AND origin = ?", s, d.key); err != nil {
			return err
		}
	}
	return nil
}

// document is a JSON text and the key of its row.
type document struct{ key, text string }

func (tx *Tx) documents(query string, args ...any) (out []document, err error) {
	rows, err := tx.sql.QueryContext(tx.ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var d document
		if err := rows.Scan(&d.key, &d.text); err != nil {
			return nil, fmt.Errorf("read rules: %w", err)
		}
		out = append(out, d)
	}
	return slices.Clip(out), rows.Err()
}

func (tx *Tx) replaceDocument(statement string, document any, key string) error {
	b, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("encode rules: %w", err)
	}
	if err := tx.exec(statement, string(b), tx.now.UnixMilli(), key); err != nil {
		return fmt.Errorf("save rules: %w", err)
	}
	return nil
}
