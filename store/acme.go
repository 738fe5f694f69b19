package store

import (
	"bytes"
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"countersign/termination"
)

// storedACME is the JSON document of where certificates named "acme" come from, without what is secret.
type storedACME struct {
	Directory string            `json:"directory"`
	Email     string            `json:"email,omitempty"`
	Roots     [][]byte          `json:"roots,omitempty"` // DER
	HTTP      string            `json:"http,omitempty"`
	Provider  string            `json:"provider,omitempty"`
	Settings  map[string]string `json:"settings,omitempty"`
}

// SetACME replaces where certificates named "acme" come from. What is secret among the DNS provider's settings is sealed.
func (tx *Tx) SetACME(a termination.ACME) error {
	s := storedACME{Directory: a.Directory, Email: a.Email, Provider: a.DNS.Provider}
	for _, c := range a.Roots {
		s.Roots = append(s.Roots, c.Raw)
	}
	if a.HTTP.IsValid() {
		s.HTTP = a.HTTP.String()
	}
	secrets := map[string]string{}
	for key, value := range a.DNS.Settings {
		if termination.SecretDNSSetting(a.DNS.Provider, key) {
			secrets[key] = value
			continue
		}
		if s.Settings == nil {
			s.Settings = map[string]string{}
		}
		s.Settings[key] = value
	}
	if err := tx.PutSetting(SettingACME, s); err != nil {
		return err
	}
	return tx.putSecrets(SettingACME, secrets)
}

// RemoveACME forgets where certificates named "acme" come from. It is refused where the file says so, and while an endpoint asks for
// one.
func (tx *Tx) RemoveACME() error {
	origin, err := tx.settingOrigin(KindSetting, SettingACME, SettingACME)
	if err != nil {
		return err
	}
	return tx.removeACME(origin)
}

// removeACME removes what one origin says of ACME.
func (tx *Tx) removeACME(origin termination.Origin) error {
	if err := tx.removeSetting(SettingACME, origin); err != nil {
		return err
	}
	if err := tx.exec("DELETE FROM setting_secrets WHERE key = ? AND origin = ?", SettingACME, string(origin)); err != nil {
		return saving(KindSetting, SettingACME, err)
	}
	return nil
}

// putSecrets seals the secret part of a setting. The audit log says that it changed, and no more.
func (tx *Tx) putSecrets(key string, secrets map[string]string) error {
	origin, err := tx.settingOrigin(KindSetting, key, key)
	if err != nil {
		return err
	}
	wanted, err := json.Marshal(secrets)
	if err != nil {
		return fmt.Errorf("encode the secrets of %s: %w", key, err)
	}
	defer clear(wanted)
	var sealed []byte
	err = tx.sql.QueryRowContext(tx.ctx, "SELECT sealed FROM setting_secrets WHERE key = ? AND origin = ?", key, string(origin)).Scan(&sealed)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		if len(secrets) == 0 {
			return nil
		}
	case err != nil:
		return fmt.Errorf("read the secrets of %s: %w", key, err)
	default:
		before, err := tx.store.sealer.openBytes(sealed)
		if err == nil && bytes.Equal(before, wanted) {
			return nil
		}
	}
	if sealed, err = tx.store.sealer.sealBytes(wanted); err != nil {
		return err
	}
	err = tx.exec("INSERT INTO setting_secrets (key, origin, sealed) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET sealed = excluded.sealed", key, string(origin), sealed)
	if err != nil {
		return saving(KindSetting, key, err)
	}
	return tx.audit(ActionUpdate, KindSetting, "", key, nil, map[string]string{"secrets": "replaced"})
}

// readACME returns where certificates named "acme" come from; a zero value when nothing is said.
func (s *Store) readACME(ctx context.Context, q *sql.Tx) (termination.ACME, error) {
	var stored storedACME
	found, err := readSetting(ctx, q, SettingACME, &stored)
	if err != nil || !found {
		return termination.ACME{}, err
	}
	a := termination.ACME{Directory: stored.Directory, Email: stored.Email, DNS: termination.ACMEDNS{Provider: stored.Provider, Settings: stored.Settings}}
	for _, der := range stored.Roots {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return termination.ACME{}, fmt.Errorf("read ACME: a root of its directory cannot be read: %w", err)
		}
		a.Roots = append(a.Roots, c)
	}
	if stored.HTTP != "" {
		if a.HTTP, err = netip.ParseAddrPort(stored.HTTP); err != nil {
			return termination.ACME{}, fmt.Errorf("read ACME: %w", err)
		}
	}
	if err := s.addSecrets(ctx, q, &a.DNS); err != nil {
		return termination.ACME{}, err
	}
	return a, nil
}

// addSecrets adds the secrets of whoever has the say, the file or the dashboard; never those of the other.
func (s *Store) addSecrets(ctx context.Context, q *sql.Tx, dns *termination.ACMEDNS) error {
	secrets, err := s.readSecrets(ctx, q, SettingACME)
	if err != nil || secrets == nil {
		return err
	}
	if dns.Settings == nil {
		dns.Settings = map[string]string{}
	}
	for key, value := range secrets {
		dns.Settings[key] = value
	}
	return nil
}
