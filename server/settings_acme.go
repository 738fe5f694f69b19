package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/localca"
	"countersign/views"
	"countersign/views/parts"
)

// acmeForm is the form for where certificates named "acme" come from. Secrets never come back: an empty field keeps the one that
// is kept.
func acmeForm(a termination.ACME) views.ACMESettings {
	f := views.ACMESettings{
		Directory: parts.Input{Name: "directory", Label: "Directory", Hint: "Of the CA. Setting one means that you agree to its terms. Empty: no certificate is obtained.", Value: a.Directory, Placeholder: "https://acme-v02.api.letsencrypt.org/directory"},
		Email:     parts.Input{Name: "email", Label: "Email", Hint: "Contact of the account; may be empty.", Value: a.Email, Placeholder: "ops@example.com"},
		HTTP:      parts.Input{Name: "http", Label: "Listener for HTTP-01", Hint: "Answers challenges, and 404 to all else. The CA asks on port 80. Empty: TLS-ALPN-01 alone.", Placeholder: "0.0.0.0:80"},
		Roots:     parts.Input{Name: "roots", Label: "CA of the directory", Hint: "For a private CA, as PEM. Empty: what the system trusts.", Rows: 3, Placeholder: "-----BEGIN CERTIFICATE-----"},
		Settings:  parts.Input{Name: "settings", Label: "Settings of the provider", Hint: "A line for each, as in server = 10.0.0.53:53.", Rows: 3},
		Secret:    parts.Input{Name: "secret", Label: "Its secret", Type: "password", Hint: "An API token or a TSIG key. Sealed before it is stored, and never shown again. Empty: the one that is kept."},
		Provider:  parts.Input{Name: "provider", Label: "DNS provider", Hint: "For DNS-01, which wildcards need."},
		Providers: []parts.Option{{Value: "", Label: "none"}},
	}
	if a.HTTP.IsValid() {
		f.HTTP.Value = a.HTTP.String()
	}
	f.Roots.Value = string(localca.EncodePEM(a.Roots...))
	var lines []string
	for key, value := range a.DNS.Settings {
		if !termination.SecretDNSSetting(a.DNS.Provider, key) {
			lines = append(lines, key+" = "+value)
		}
	}
	slices.Sort(lines)
	f.Settings.Value = strings.Join(lines, "\n")
	for _, p := range termination.DNSProviders() {
		var keys []string
		for _, k := range p.Settings {
			if !k.Secret {
				keys = append(keys, k.Key)
			}
		}
		f.Providers = append(f.Providers, parts.Option{Value: p.Name, Label: p.Name + " (" + strings.Join(keys, ", ") + ")", Selected: p.Name == a.DNS.Provider})
	}
	return f
}

// saveACME replaces where certificates named "acme" come from.
func (s *Server) saveACME(c echo.Context) error {
	form := acmeForm(termination.ACME{})
	for _, f := range []*parts.Input{&form.Directory, &form.Email, &form.HTTP, &form.Roots, &form.Settings} {
		f.Value = strings.TrimSpace(c.FormValue(f.Name))
	}
	a := termination.ACME{Directory: form.Directory.Value, Email: form.Email.Value, DNS: termination.ACMEDNS{Provider: c.FormValue("provider")}}
	for i := range form.Providers {
		form.Providers[i].Selected = form.Providers[i].Value == a.DNS.Provider
	}
	readACMEListener(&form.HTTP, &a)
	readACMERoots(&form.Roots, &a)
	readDNSSettings(&form.Settings, &a.DNS)
	s.keepDNSSecret(c.FormValue("secret"), &a.DNS)
	again := func() error {
		return s.showSettings(c, http.StatusUnprocessableEntity, nil, &form)
	}
	if form.HTTP.Error+form.Roots.Error+form.Settings.Error != "" {
		return again()
	}
	_, err := s.change(c, func(tx *store.Tx) error {
		if c.FormValue("directory") == "" {
			return tx.RemoveACME()
		}
		return tx.SetACME(a)
	})
	if invalid, ok := errors.AsType[termination.ValidationError](err); ok {
		explainACME(&form, invalid)
		return again()
	}
	if err != nil {
		return err
	}
	s.say(c, "ok", "ACME is saved. Endpoints use it whose certificate is “acme”.")
	return s.redirect(c, "/settings#acme")
}

func readACMEListener(f *parts.Input, a *termination.ACME) {
	if f.Value == "" {
		return
	}
	at, err := netip.ParseAddrPort(f.Value)
	if err != nil || at.Port() == 0 || at.Addr().Zone() != "" {
		f.Error = "It is no address and port of this machine. Write it as in 0.0.0.0:80."
		return
	}
	a.HTTP = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

func readACMERoots(f *parts.Input, a *termination.ACME) {
	if f.Value == "" {
		return
	}
	upload, err := termination.ReadUpload([]byte(f.Value))
	if err != nil {
		f.Error = sentence(err)
		return
	}
	if a.Roots = upload.Certificates(); len(a.Roots) == 0 {
		f.Value = onlyCertificates([]byte(f.Value))
		f.Error = "There is no certificate in it. Give the CA that signed the directory's certificate."
	}
}

// readDNSSettings reads a line for each setting.
func readDNSSettings(f *parts.Input, dns *termination.ACMEDNS) {
	for line := range strings.Lines(f.Value) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		switch {
		case !ok:
			f.Error = fmt.Sprintf("%q is no setting. Write a line for each, as in server = 10.0.0.53:53.", line)
		case isSecretSetting(dns.Provider, key):
			f.Error = key + " is a secret. Give it in the field below."
			f.Value = strings.ReplaceAll(f.Value, line, "")
		default:
			if dns.Settings == nil {
				dns.Settings = map[string]string{}
			}
			dns.Settings[key] = strings.TrimSpace(value)
		}
	}
}

// isSecretSetting reports whether a key is known to be secret; one that is not known is refused with the list of those that are.
func isSecretSetting(provider, key string) bool { return slices.Contains(secretKeys(provider), key) }

func secretKeys(provider string) []string {
	var out []string
	for _, p := range termination.DNSProviders() {
		for _, s := range p.Settings {
			if p.Name == provider && s.Secret {
				out = append(out, s.Key)
			}
		}
	}
	return out
}

// keepDNSSecret puts in the secret that was typed, or the one that is kept for the same provider.
func (s *Server) keepDNSSecret(typed string, dns *termination.ACMEDNS) {
	kept := s.current().ACME.DNS
	for _, key := range secretKeys(dns.Provider) {
		value := typed
		if value == "" && kept.Provider == dns.Provider {
			value = kept.Settings[key]
		}
		if value == "" {
			continue // missing, which the validation says
		}
		if dns.Settings == nil {
			dns.Settings = map[string]string{}
		}
		dns.Settings[key] = value
	}
}

// explainACME puts what is wrong at the fields.
func explainACME(form *views.ACMESettings, invalid termination.ValidationError) {
	for _, f := range invalid {
		text := fullStop(capital(f.Problem)) + " " + fullStop(capital(f.Advice))
		switch key, setting := strings.CutPrefix(f.Field, "dns."); {
		case f.Kind != store.SettingACME:
			form.Error = f.Error()
		case f.Field == "directory":
			form.Directory.Error = text
		case f.Field == "email":
			form.Email.Error = text
		case f.Field == "http":
			form.HTTP.Error = text
		case f.Field == "dns.provider":
			form.Provider.Error = text
		case setting && isSecretSetting(selected(form.Providers), key):
			form.Secret.Error = text
		default:
			form.Settings.Error = capital(key) + " " + text
		}
	}
}

func selected(options []parts.Option) string {
	for _, o := range options {
		if o.Selected {
			return o.Value
		}
	}
	return ""
}
