package server

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"countersign/termination"
)

// withScheme completes addresses without a scheme, as people type them.
func withScheme(upstreams string, e *termination.Endpoint) string {
	targets := words(upstreams)
	for i, t := range targets {
		targets[i] = targetWithScheme(t, e)
	}
	return strings.Join(targets, ", ")
}

func targetWithScheme(upstream string, e *termination.Endpoint) string {
	if upstream == "" || upstream == termination.BuiltinWhoami || strings.Contains(upstream, "://") || strings.HasPrefix(upstream, "unix:") || !strings.Contains(upstream, ":") {
		return upstream
	}
	if e.Scheme == termination.SchemeTLS {
		return "tcp://" + upstream
	}
	return "http://" + upstream
}

// readUpstream reads an upstream, or several targets, with what it is verified against. field is where its errors stand. A private key that
// was pasted as the CA is taken out, so that no page shows it again.
func readUpstream(targets string, ca *string, name, field string, wrong fieldProblems) termination.Upstream {
	if strings.Contains(*ca, "PRIVATE KEY") {
		*ca = ""
		wrong.add(field, "there was a private key beside the CA; only the CA's certificate is needed, and the key was not kept")
		return termination.Upstream{}
	}
	u, err := termination.ParseUpstreams(words(targets))
	if err != nil {
		wrong.add(field, err.Error())
		return u
	}
	if u.Scheme != termination.UpstreamHTTPS && u.Scheme != termination.UpstreamTLS {
		if *ca != "" || name != "" {
			wrong.add(field, "a CA or a server name of the upstream needs https:// or tls:// before its address")
		}
		return u
	}
	u.TLS.ServerName = name
	if *ca == "" {
		return u
	}
	place := field
	if field == "upstream" {
		place = "upstream_ca"
	}
	upload, err := termination.ReadUpload([]byte(*ca))
	switch {
	case err != nil:
		wrong.add(place, err.Error())
	case upload.Has(termination.UploadPrivateKey) || upload.Has(termination.UploadPKCS12):
		*ca = ""
		wrong.add(place, "there is a private key in it; only the CA's certificate is needed, and the key was not kept")
	default:
		// An empty pool would mean the system's roots, which nobody asked for.
		if u.TLS.Roots = upload.Certificates(); len(u.TLS.Roots) == 0 {
			wrong.add(place, "there is no certificate in it; paste the CA that signed the upstream's certificate")
		}
	}
	return u
}

// behindInput is how the targets of an upstream are chosen, watched and spoken to, as it stands in a form.
type behindInput struct {
	balance, health, healthInterval, connectTimeout, responseTimeout, host, proxy, certificate string
}

func behindInputOf(u termination.Upstream) behindInput {
	p := u.Policy
	return behindInput{
		balance: string(p.Balance), health: p.Health, healthInterval: durationWord(p.HealthInterval), connectTimeout: durationWord(p.ConnectTimeout),
		responseTimeout: durationWord(p.ResponseTimeout), host: string(p.Host), proxy: string(p.ProxyProtocol), certificate: u.TLS.Certificate,
	}
}

func readBehindInput(form url.Values) behindInput {
	text := func(key string) string { return strings.TrimSpace(form.Get(key)) }
	return behindInput{
		balance: text("balance"), health: text("health"), healthInterval: text("health_interval"), connectTimeout: text("connect_timeout"),
		responseTimeout: text("response_timeout"), host: text("host_header"), proxy: text("upstream_proxy"), certificate: text("upstream_cert"),
	}
}

// into puts what was typed into an upstream.
func (in *behindInput) into(u *termination.Upstream, wrong fieldProblems) {
	u.TLS.Certificate, u.TLS.Client = in.certificate, nil
	u.Policy = termination.UpstreamPolicy{
		Balance: termination.Balance(in.balance), Health: in.health, Host: termination.HostHeader(in.host),
		ProxyProtocol: termination.ProxyProtocol(in.proxy),
	}
	for _, d := range []struct {
		field, text string
		into        *time.Duration
	}{{"health_interval", in.healthInterval, &u.Policy.HealthInterval}, {"connect_timeout", in.connectTimeout, &u.Policy.ConnectTimeout}, {"response_timeout", in.responseTimeout, &u.Policy.ResponseTimeout}} {
		if d.text == "" {
			continue
		}
		v, err := time.ParseDuration(d.text)
		if err != nil || v <= 0 {
			wrong.add(d.field, "is no duration; write it as in 500ms, 10s or 2m")
			continue
		}
		*d.into = v
	}
}

// durationWord is a duration as it is typed; none for the default.
func durationWord(d time.Duration) string {
	switch {
	case d == 0:
		return ""
	case d%time.Hour == 0:
		return strconv.FormatInt(int64(d/time.Hour), 10) + "h"
	case d%time.Minute == 0:
		return strconv.FormatInt(int64(d/time.Minute), 10) + "m"
	}
	return d.String()
}
