package server

import (
	"countersign/views"
	"countersign/views/parts"
)

// tlsForm puts what is offered and accepted in TLS into fields.
func tlsForm(in *tlsInput, wrong fieldProblems) views.TLSForm {
	f := views.TLSForm{
		Preset:       parts.Input{Name: "preset", Label: "Preset", Error: wrong.of("preset")},
		Presets:      options(in.preset, "", "intermediate: TLS 1.2 and 1.3", "modern", "modern: TLS 1.3 only"),
		MinVersion:   options(in.minVersion, "", "the preset's", "1.2", "TLS 1.2", "1.3", "TLS 1.3"),
		MaxVersion:   options(in.maxVersion, "1.2", "TLS 1.2", "", "TLS 1.3"),
		VersionError: wrong.of("min_version"),
		Suites: parts.Input{
			Name: "suites", Label: "Suites of TLS 1.2", Hint: "One a line, as OpenSSL or IANA spells them. Empty: those of the preset.", Value: in.suites, Error: wrong.of("suites"), Rows: 2,
			Placeholder: "ECDHE-ECDSA-AES128-GCM-SHA256",
		},
		ALPN:            parts.Input{Name: "alpn", Label: "Protocols offered inside TLS (ALPN)", Hint: "In order of preference. Empty: h2 and http/1.1 for HTTP, none for any bytes.", Value: in.alpn, Error: wrong.of("alpn")},
		StartTLS:        parts.Input{Name: "starttls", Label: "Before TLS begins", Error: wrong.of("starttls")},
		StartTLSChoices: options(in.startTLS, "", "nothing: TLS from the first byte", "postgres", "PostgreSQL asks for it"),
		ProxyFrom: parts.Input{
			Name: "proxy_from", Label: "Load balancers that send a PROXY header", Hint: "Addresses or networks, one a line. They must send it, and nobody else may.", Value: in.proxyFrom, Error: wrong.of("proxy_from"), Rows: 2,
			Placeholder: "10.0.0.0/8",
		},
	}
	if in.preset == "intermediate" { // the same as none
		f.Presets[0].Selected = true
	}
	if in.maxVersion == "1.3" {
		f.MaxVersion[1].Selected = true
	}
	return f
}

// behindForm puts how targets are chosen, watched and spoken to into fields.
func (s *Server) behindForm(in *behindInput, wrong fieldProblems) views.BehindForm {
	certificates := []string{"", "none"}
	config := s.current()
	for i := range config.Certificates {
		certificates = append(certificates, config.Certificates[i].Name, config.Certificates[i].Name)
	}
	f := views.BehindForm{
		Error:           wrong.of("upstream_policy"),
		Balance:         options(in.balance, "", "each in turn", "least_connections", "the one with the fewest connections"),
		Health:          parts.Input{Name: "health", Label: "Ask whether it is well", Hint: "A path, as in /healthz, or tcp. Empty: only failures seen in passing count.", Value: in.health, Error: wrong.of("health")},
		HealthInterval:  parts.Input{Name: "health_interval", Label: "every", Value: in.healthInterval, Error: wrong.of("health_interval"), Placeholder: "10s"},
		ConnectTimeout:  parts.Input{Name: "connect_timeout", Label: "To connect, wait", Value: in.connectTimeout, Error: wrong.of("connect_timeout"), Placeholder: "5s"},
		ResponseTimeout: parts.Input{Name: "response_timeout", Label: "for a response", Value: in.responseTimeout, Error: wrong.of("response_timeout"), Placeholder: "as long as it takes"},
		Host:            options(in.host, "", "the client's", "upstream", "its own address"),
		Proxy:           parts.Input{Name: "upstream_proxy", Label: "Tell it the client's address by a PROXY header", Error: wrong.of("upstream_proxy")},
		Proxies:         options(in.proxy, "", "no", "v1", "version 1, text", "v2", "version 2, with the TLS fields"),
		Certificate:     parts.Input{Name: "upstream_cert", Label: "Show it our certificate", Error: wrong.of("upstream_cert")},
		Certificates:    options(in.certificate, certificates...),
	}
	if in.balance == "round_robin" { // the same as none
		f.Balance[0].Selected = true
	}
	if in.host == "client" {
		f.Host[0].Selected = true
	}
	return f
}
