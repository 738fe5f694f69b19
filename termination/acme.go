package termination

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// DNSProvider is a DNS provider whose records Countersign can write for DNS-01 challenges (RFC 8555, section 8.4).
type DNSProvider struct {
	Name     string
	Settings []DNSSetting
}

// DNSSetting is one key of a provider's settings.
type DNSSetting struct {
	Key      string
	Required bool
	Secret   bool // sealed in the store and never shown
	Means    string
}

// DNSProviders returns the providers that are compiled in, by name.
func DNSProviders() []DNSProvider {
	resolvers := DNSSetting{Key: "resolvers", Means: "name servers to ask while a record spreads, as in 10.0.0.53:53, with commas between; absent: the authoritative ones"}
	return []DNSProvider{
		{Name: "cloudflare", Settings: []DNSSetting{
			{Key: "api_token", Required: true, Secret: true, Means: "token with the right to edit DNS of the zone"},
			resolvers,
		}},
		{Name: "digitalocean", Settings: []DNSSetting{
			{Key: "api_token", Required: true, Secret: true, Means: "personal access token with write access to domains"},
			resolvers,
		}},
		{Name: "rfc2136", Settings: []DNSSetting{
			{Key: "server", Required: true, Means: "address of the primary name server, as in 10.0.0.53:53"},
			{Key: "key_name", Required: true, Means: "name of the TSIG key"},
			{Key: "key", Required: true, Secret: true, Means: "TSIG key in base64"},
			{Key: "key_algorithm", Means: "hmac-sha256 (default), hmac-sha384 or hmac-sha512"},
			resolvers,
		}},
	}
}

// SecretDNSSetting reports whether a provider's setting must be kept secret. What is not known is taken for secret.
func SecretDNSSetting(provider, key string) bool {
	for _, p := range DNSProviders() {
		for _, s := range p.Settings {
			if p.Name == provider && s.Key == key {
				return s.Secret
			}
		}
	}
	return true
}

// acme checks where certificates named "acme" come from.
func (v *validation) acme() {
	a := &v.config.ACME
	add := func(field, problem, advice string) { v.add("acme", "", field, problem, advice) }
	if a.Directory != "" {
		u, err := url.Parse(a.Directory)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
			add("directory", fmt.Sprintf("%q is no https URL", a.Directory), "give the address of the CA's directory, as in https://acme-v02.api.letsencrypt.org/directory")
		}
	} else if a.Email != "" || a.HTTP.IsValid() || a.DNS.Provider != "" || len(a.Roots) > 0 {
		add("directory", "is missing", "give the address of the CA's directory, as in https://acme-v02.api.letsencrypt.org/directory")
	}
	if a.Email != "" && (!strings.Contains(a.Email, "@") || len(a.Email) > 254 || !isPrintableASCII(a.Email)) {
		add("email", fmt.Sprintf("%q is no email address", a.Email), "give one that is read, or leave it out")
	}
	v.acmeListener()
	v.acmeDNS()
}

// acmeListener refuses a listener for HTTP-01 on the port of an endpoint.
func (v *validation) acmeListener() {
	http := v.config.ACME.HTTP
	if !http.IsValid() {
		return
	}
	if http.Port() == 0 {
		v.add("acme", "", "http", "needs a port", "write it as in 0.0.0.0:80")
		return
	}
	for i := range v.config.Endpoints {
		e := &v.config.Endpoints[i]
		same := e.Listen == http.Addr() || e.Listen.IsUnspecified() || http.Addr().IsUnspecified()
		if e.Port == http.Port() && same {
			v.add("acme", "", "http", fmt.Sprintf("endpoint %q listens on port %d already", e.Name, e.Port), "use another port; the CA itself always asks on port 80")
			return
		}
	}
}

func (v *validation) acmeDNS() {
	dns := v.config.ACME.DNS
	if dns.Provider == "" {
		if len(dns.Settings) > 0 {
			v.add("acme", "", "dns.provider", "is missing", "use "+providerNames())
		}
		return
	}
	providers := DNSProviders()
	at := slices.IndexFunc(providers, func(p DNSProvider) bool { return p.Name == dns.Provider })
	if at < 0 {
		v.add("acme", "", "dns.provider", fmt.Sprintf("%q is unknown", dns.Provider), "use "+providerNames())
		return
	}
	var known []string
	for _, s := range providers[at].Settings {
		known = append(known, s.Key)
		if s.Required && dns.Settings[s.Key] == "" {
			v.add("acme", "", "dns."+s.Key, "is missing", "give it: "+s.Means)
		}
	}
	for key := range dns.Settings {
		if !slices.Contains(known, key) {
			v.add("acme", "", "dns."+key, fmt.Sprintf("is no setting of %s", dns.Provider), "it has "+strings.Join(known, ", "))
		}
	}
}

func providerNames() string {
	var names []string
	for _, p := range DNSProviders() {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}

// byACME checks an endpoint whose certificates are obtained through ACME.
func (v *validation) byACME(e *Endpoint) {
	switch {
	case v.config.ACME.Directory == "":
		v.add("endpoint", e.Name, "certificates", "no ACME directory is set", "give acme: {directory: https://…}, or use local")
	case e.Fallback():
		v.add("endpoint", e.Name, "certificates", "acme needs names to obtain certificates for, and a fallback has none", "give the url a name, or use local")
	}
	for _, name := range e.ServerNames() {
		if strings.HasPrefix(name, "*.") && v.config.ACME.DNS.Provider == "" {
			v.add("endpoint", e.Name, "certificates", fmt.Sprintf("%q needs a DNS-01 challenge, and no DNS provider is set", name), "give acme: {dns: {provider: …}} with one of "+providerNames()+", or leave the wildcard out")
		}
	}
}
