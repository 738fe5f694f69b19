package termination

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
)

const (
	maxALPN     = 16  // names in an endpoint's list
	maxALPNName = 255 // bytes of one (RFC 7301, section 3.1)
)

// tlsPolicy checks what TLS is spoken with, where a Countersign opens it.
func (v *validation) tlsPolicy(e *Endpoint) {
	v.startTLS(e)
	if v.versions(e) {
		v.suites(e)
	}
	v.alpn(e)
}

// versions reports whether they make sense, so that more can be said about them.
func (v *validation) versions(e *Endpoint) bool {
	before := len(v.errors)
	say := func(field, problem, advice string) { v.add("endpoint", e.Name, field, problem, advice) }
	for _, ver := range []uint16{e.MinVersion, e.MaxVersion} {
		if ver != 0 && ver != tls.VersionTLS12 && ver != tls.VersionTLS13 {
			say("tls", "only 1.2 and 1.3 exist", `use "1.2" or "1.3"`)
		}
	}
	switch e.Preset {
	case "", PresetIntermediate, PresetModern:
	default:
		say("tls.preset", fmt.Sprintf("%q is unknown", e.Preset), "use modern (TLS 1.3 alone) or intermediate")
	}
	p := e.TLSPolicy()
	switch {
	case e.Preset == PresetModern && e.MaxVersion == tls.VersionTLS12:
		say("tls.max_version", "the preset modern is TLS 1.3 alone, so that a max_version of 1.2 leaves nothing", "remove max_version, or use preset: intermediate")
	case e.Preset == PresetModern && e.MinVersion == tls.VersionTLS12:
		say("tls.min_version", "the preset modern is TLS 1.3 alone, and min_version lets TLS 1.2 in beside it", "remove min_version, or use preset: intermediate")
	case p.MinVersion > p.MaxVersion:
		say("tls", "min_version is above max_version", "lower min_version")
	}
	return len(v.errors) == before
}

func (v *validation) suites(e *Endpoint) {
	if len(e.Suites) == 0 {
		return
	}
	say := func(problem, advice string) { v.add("endpoint", e.Name, "tls.suites", problem, advice) }
	p := e.TLSPolicy()
	if p.MinVersion >= tls.VersionTLS13 {
		say("they are for TLS 1.2, which is not spoken here: in TLS 1.3 there is no choice of suites", "remove suites, or lower min_version")
		return
	}
	seen := map[uint16]bool{}
	for _, id := range e.Suites {
		if !slices.Contains(SecureSuites(), id) {
			say(fmt.Sprintf("%s is not offered: %s", SuiteName(id), orDefault(flawOf(SuiteName(id)), "it is not known here")), "use ECDHE suites with AES-GCM or ChaCha20")
		}
		if seen[id] {
			say(SuiteName(id)+" stands there twice", "remove one")
		}
		seen[id] = true
	}
	// A client that speaks HTTP/2 has these (RFC 9113, section 9.2.2); without them it may end up with a suite on which
	// HTTP/2 has to hang up.
	both := seen[tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256] || seen[tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
	if e.Scheme == SchemeHTTPS && !both && slices.ContainsFunc(e.Suites, cbc) && slices.Contains(p.ALPN, ALPNHTTP2) {
		say("HTTP/2 forbids suites with CBC (RFC 9113, section 9.2.2)", "add ECDHE-ECDSA-AES128-GCM-SHA256 and ECDHE-RSA-AES128-GCM-SHA256, or set alpn: [http/1.1]")
	}
	v.suitesFitKeys(e)
}

// suitesFitKeys refuses a list in which no suite works with the keys that are there: in TLS 1.2 the suite says which
// kind of key the server signs with.
func (v *validation) suitesFitKeys(e *Endpoint) {
	var kinds []string
	for _, name := range e.Certificates {
		c := v.config.Certificate(name)
		if c == nil || len(c.Chain) == 0 {
			return // made when it is needed, or refused elsewhere
		}
		switch c.Leaf().PublicKey.(type) {
		case *rsa.PublicKey:
			kinds = append(kinds, "RSA")
		case *ecdsa.PublicKey, ed25519.PublicKey: // RFC 8422, section 5.10
			kinds = append(kinds, "ECDSA")
		default:
			return
		}
	}
	for _, id := range e.Suites {
		for _, kind := range kinds {
			if strings.HasPrefix(SuiteName(id), "TLS_ECDHE_"+kind+"_") {
				return
			}
		}
	}
	if len(kinds) > 0 {
		v.add("endpoint", e.Name, "tls.suites", fmt.Sprintf("none of them works with the endpoint's %s key, so that nobody could come in with TLS 1.2", kinds[0]),
			"add suites that begin with ECDHE-"+kinds[0]+", or a certificate with another kind of key")
	}
}

// alpn refuses names that cannot be sent, or that nobody here would speak.
func (v *validation) alpn(e *Endpoint) {
	if len(e.ALPN) == 0 {
		return
	}
	say := func(problem, advice string) { v.add("endpoint", e.Name, "tls.alpn", problem, advice) }
	if len(e.ALPN) > maxALPN {
		say(fmt.Sprintf("%d names are too many", len(e.ALPN)), fmt.Sprintf("name %d at most", maxALPN))
		return
	}
	seen := map[string]bool{}
	for _, name := range e.ALPN {
		switch {
		case name == "" || len(name) > maxALPNName:
			say(fmt.Sprintf("a name has 1 to %d bytes, this has %d", maxALPNName, len(name)), "correct it")
		case !isPrintableASCII(name):
			say(fmt.Sprintf("%q holds more than plain printable characters", name), "write it as in the registry of IANA, such as http/1.1")
		case seen[name]:
			say(fmt.Sprintf("%q stands there twice", name), "remove one")
		case name == alpnACME:
			say(name+" is how a CA looks at the gateway itself", "remove it")
		case e.Scheme == SchemeHTTPS && name != ALPNHTTP2 && name != ALPNHTTP1:
			say(fmt.Sprintf("an https endpoint does not speak %q", name), "use h2 and http/1.1, or a tls:// url")
		}
		seen[name] = true
	}
	if e.StartTLS == StartTLSPostgres && !seen[ALPNPostgres] {
		say("clients of PostgreSQL 17 offer postgresql alone, and would be refused", "add postgresql, or remove alpn")
	}
}

// startTLS checks what may come before TLS.
func (v *validation) startTLS(e *Endpoint) {
	say := func(problem, advice string) { v.add("endpoint", e.Name, "starttls", problem, advice) }
	switch {
	case e.StartTLS == StartTLSNone:
	case e.StartTLS != StartTLSPostgres:
		say(fmt.Sprintf("%q is unknown", e.StartTLS), "use none or postgres")
	case e.Scheme == SchemeHTTPS:
		say("HTTP begins with TLS at once", "remove it, or use a tls:// url")
	case e.Upstream.Scheme == UpstreamTLS:
		// SCRAM binds the password to the certificate that the client saw (RFC 5802, section 6), and that is ours.
		say("PostgreSQL asks before TLS behind us too, and its SCRAM notices TLS that ends twice", "use tcp:// or unix:, with an agent beside PostgreSQL where the network between is not yours alone")
	}
}

// passthroughTLS refuses what would have to be decided where TLS is opened.
func (v *validation) passthroughTLS(e *Endpoint) {
	if e.MinVersion != 0 || e.MaxVersion != 0 || e.Preset != "" || len(e.Suites) > 0 || len(e.ALPN) > 0 {
		v.add("endpoint", e.Name, "tls", "the service decides on versions, suites and protocols", "remove the tls section")
	}
	if e.StartTLS != StartTLSNone {
		v.add("endpoint", e.Name, "starttls", "the service waits for the client's request for TLS itself, and would not understand TLS that begins without one",
			"remove it and let clients begin with TLS at once (PostgreSQL 17: sslnegotiation=direct), or set terminate_at: edge or agent")
	}
}
