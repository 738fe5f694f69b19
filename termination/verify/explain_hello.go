package verify

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"countersign/termination"
)

// openingWords explains what happened before there was a ClientHello.
func (a *account) openingWords(r termination.Reason) termination.Explanation {
	switch r {
	case termination.ReasonNotTLS:
		return a.notTLSWords()
	case termination.ReasonSilent:
		return a.silentWords()
	case termination.ReasonHelloBroken:
		return a.helloBrokenWords()
	case termination.ReasonProxyHeader:
		return a.proxyHeaderWords()
	case termination.ReasonStartTLS:
		return a.startTLSWords()
	default:
		return a.overloadedWords()
	}
}

func (a *account) overloadedWords() termination.Explanation {
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("A client was turned away at %s, because a limit was reached.", a.port()),
		Fixes: []termination.Fix{
			{Text: "Find who uses most of it: see the addresses of the latest handshakes.", Action: "/live"},
			{Text: "Or raise the limit under limits in the configuration, if the machine can take it.", Action: "/settings", Lowers: true},
		},
	}
	if e := a.libraryWords(); e != "" {
		ex.Sentence = fmt.Sprintf("A client was turned away at %s: %s.", a.port(), strings.TrimSuffix(e, "."))
	}
	return ex
}

func (a *account) helloBrokenWords() termination.Explanation {
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("A client began TLS at %s, but its ClientHello cannot be read.", a.port()),
		Fixes: []termination.Fix{
			{Text: "Look at the client's TLS library, or at what stands between it and the gateway and changes bytes. See whether another client gets through.", Command: a.callNeighbour()},
		},
	}
	if e := a.libraryWords(); e != "" {
		ex.Sentence = fmt.Sprintf("A client began TLS at %s, but its ClientHello cannot be read: %s.", a.port(), strings.TrimSuffix(e, "."))
	}
	return ex
}

// callNeighbour is a command that calls an endpoint on this port, if there is one with a name.
func (a *account) callNeighbour() string {
	for _, e := range a.search.neighbours(a.handshake) {
		if e.Host != "" {
			return a.callEndpoint(e, e.Host)
		}
	}
	return ""
}

func (a *account) callEndpoint(e *termination.Endpoint, name string) string {
	if strings.HasPrefix(name, "*.") {
		return ""
	}
	if e.Scheme == termination.SchemeHTTPS {
		return "curl -v " + urlOf(e, name)
	}
	return "openssl s_client -connect " + urlOf(e, name) + " -servername " + name
}

// nameWords explains a server name that leads nowhere.
func (a *account) nameWords(r termination.Reason) termination.Explanation {
	var names []string
	owner := map[string]*termination.Endpoint{}
	for _, e := range a.search.neighbours(a.handshake) {
		for _, n := range e.ServerNames() {
			names = append(names, n)
			owner[n] = e
		}
	}
	slices.Sort(names)
	served := "No name is served there."
	if len(names) > 0 {
		served = fmt.Sprintf("%s serves %s.", upperFirst(a.port()), list(names, 5))
	}
	if r == termination.ReasonNameMissing {
		ex := termination.Explanation{
			Sentence: fmt.Sprintf("A client gave no server name at %s, and no endpoint there answers without one.", a.port()),
			Right:    served,
			ClientTo: a.toClient("it gave no server name (SNI)", "Please connect by name and not by IP address."),
			Fixes: []termination.Fix{
				{Text: "Connect by name, not by IP address: TLS sends no server name with an address.", Command: a.callNeighbour()},
				{Text: "Or define a fallback endpoint, whose URL has no host: then everyone reaches it who gives no name, or an unknown one.", Action: "/endpoints/new", Lowers: true},
			},
		}
		return ex
	}
	return a.unknownNameWords(names, owner, served)
}

func (a *account) unknownNameWords(names []string, owner map[string]*termination.Endpoint, served string) termination.Explanation {
	asked := ""
	if a.handshake.Hello != nil {
		asked = a.handshake.Hello.ServerName
	}
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("A client asked for “%s” at %s, and no endpoint there has that name.", visible(asked, maxNameText), a.port()),
		Right:    served,
	}
	name, err := termination.NormalizeName(asked)
	if err != nil {
		ex.Fixes = []termination.Fix{{Text: "Correct the name in the client: this one is no host name."}}
		return ex
	}
	ex.ClientTo = fmt.Sprintf("Your client asked for the name %s, which is not served there. Please correct the name.", name)
	for i := range a.search.cfg.Endpoints {
		e := &a.search.cfg.Endpoints[i]
		if !slices.Contains(e.ServerNames(), name) {
			continue
		}
		if !e.Enabled {
			ex.Turn = termination.TurnOperator
			ex.Fixes = append(ex.Fixes, termination.Fix{Text: fmt.Sprintf("The endpoint %s has that name, but is stopped: start it.", e.Name), Action: "/endpoints/" + url.PathEscape(e.Name)})
		} else {
			ex.Fixes = append(ex.Fixes, termination.Fix{Text: fmt.Sprintf("That name is served on port %d: call it there.", e.Port), Command: a.callEndpoint(e, name)})
		}
	}
	for _, n := range nearest(name, names) {
		ex.Fixes = append(ex.Fixes, termination.Fix{Text: fmt.Sprintf("Correct the name in the client, if it means %s.", n), Command: a.callEndpoint(owner[n], n)})
	}
	ex.Fixes = append(ex.Fixes, termination.Fix{Text: fmt.Sprintf("Or create an endpoint for %s, or add the name to the aliases of one.", name), Action: "/endpoints/new?host=" + url.QueryEscape(name)})
	return ex
}

// offerWords explains what client and endpoint could not agree upon.
func (a *account) offerWords(r termination.Reason) termination.Explanation {
	hello := a.handshake.Hello
	if hello == nil {
		hello = &termination.ClientHello{}
	}
	switch r {
	case termination.ReasonVersionLow:
		return a.versionWords(hello)
	case termination.ReasonNoCommonSuite:
		return a.suiteWords(hello)
	case termination.ReasonNoCommonGroup:
		return a.groupWords(hello)
	case termination.ReasonALPN:
		return a.alpnWords(hello)
	default:
		return termination.Explanation{
			Sentence: "The client sent data before the handshake was done (0-RTT). It is never accepted here, because such data can be replayed.",
			Right:    "The client repeats it by itself; nothing is lost.",
			Fixes:    []termination.Fix{{Text: "Do nothing, or turn 0-RTT off in the client to save it the attempt."}},
		}
	}
}

// tlsPolicy is what TLS is spoken with there; without an endpoint, that of one with no settings.
func (a *account) tlsPolicy() termination.TLSPolicy {
	if a.endpoint == nil {
		return (&termination.Endpoint{Scheme: termination.SchemeHTTPS}).TLSPolicy()
	}
	return a.endpoint.TLSPolicy()
}

func (a *account) versionWords(hello *termination.ClientHello) termination.Explanation {
	policy := a.tlsPolicy()
	allowed := policy.Versions()
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("A client offers %s, and %s speaks %s.", orNothing(versions(hello.Versions), 6), a.at(), allowed),
		ClientTo: a.toClient(fmt.Sprintf("it offers %s only", orNothing(versions(hello.Versions), 6)), fmt.Sprintf("Please upgrade its TLS library to one that speaks %s.", allowed)),
		Fixes:    []termination.Fix{{Text: fmt.Sprintf("Upgrade the client's TLS library to one that speaks %s, or allow that version in it.", allowed)}},
	}
	modern := a.endpoint != nil && a.endpoint.Preset == termination.PresetModern
	switch {
	case slices.Contains(hello.Versions, tls.VersionTLS12) && policy.MinVersion > tls.VersionTLS12:
		how := fmt.Sprintf("Or lower the minimum of %s to TLS 1.2: then all its clients may use it.", a.at())
		if modern {
			how = fmt.Sprintf("Or give %s the preset intermediate instead of modern: then all its clients may use TLS 1.2.", a.at())
		}
		ex.Fixes = append(ex.Fixes, termination.Fix{Text: how, Action: a.endpointPage(), Lowers: true})
	case slices.Contains(hello.Versions, tls.VersionTLS13) && policy.MaxVersion < tls.VersionTLS13:
		ex.Turn = termination.TurnOperator
		ex.Fixes = []termination.Fix{{Text: fmt.Sprintf("Raise the maximum of %s to TLS 1.3.", a.at()), Action: a.endpointPage()}, ex.Fixes[0]}
	default:
		ex.Right = "TLS 1.2 is the lowest that is offered here; there is no setting for less."
	}
	return ex
}

func (a *account) suiteWords(hello *termination.ClientHello) termination.Explanation {
	policy := a.tlsPolicy()
	var offered, allowed []string
	for _, id := range hello.CipherSuites {
		if !grease(id) {
			offered = append(offered, termination.SuiteName(id))
		}
	}
	for _, id := range policy.AllSuites() {
		allowed = append(allowed, termination.SuiteName(id))
	}
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("A client and %s have no cipher suite in common. It offers %s; allowed are %s.", a.at(), orNothing(offered, 8), list(allowed, 20)),
		Fixes:    []termination.Fix{{Text: "Upgrade the client, or allow one of these suites in it."}},
		ClientTo: a.toClient("it offers no cipher suite that is allowed there", "Please upgrade it, or allow an ECDHE suite with AES-GCM or ChaCha20 in it."),
	}
	if kind := sharedKeyKind(hello, policy); kind != "" { // so it is our certificate's key with which none of them works
		ex.Turn = termination.TurnOperator
		ex.Sentence = fmt.Sprintf("A client and %s have cipher suites in common, but in TLS 1.2 they need a server certificate with an %s key, and there is none. It offers %s.", a.at(), kind, orNothing(offered, 8))
		ex.Fixes = []termination.Fix{
			{Text: fmt.Sprintf("Give %s a server certificate with an %s key beside its own.", a.at(), kind), Action: a.endpointPage()},
			{Text: "Or upgrade the client to one that speaks TLS 1.3, where every suite works with every key."},
		}
		return ex
	}
	if more := a.suitesToAllow(hello, policy); len(more) > 0 {
		ex.Fixes = append(ex.Fixes, termination.Fix{
			Text:   fmt.Sprintf("Or allow at %s what this client has, under tls.suites: %s.", a.at(), list(more, 4)),
			Action: a.endpointPage(), Lowers: true,
		})
	}
	return ex
}

// sharedKeyKind is the kind of key, RSA or ECDSA, that all the suites of TLS 1.2 need which both sides have; empty where
// they have none in common, or suites for both kinds.
func sharedKeyKind(hello *termination.ClientHello, policy termination.TLSPolicy) string {
	found := ""
	for _, id := range policy.Suites {
		if !slices.Contains(hello.CipherSuites, id) {
			continue
		}
		kind := "ECDSA"
		if strings.HasPrefix(termination.SuiteName(id), "TLS_ECDHE_RSA_") {
			kind = "RSA"
		}
		if found != "" && found != kind {
			return ""
		}
		found = kind
	}
	return found
}

// suitesToAllow are suites that the client offers and that the endpoint could allow, but does not.
func (a *account) suitesToAllow(hello *termination.ClientHello, policy termination.TLSPolicy) []string {
	var out []string
	if a.endpoint == nil || policy.MinVersion > tls.VersionTLS12 {
		return nil
	}
	for _, id := range termination.SecureSuites() {
		if slices.Contains(hello.CipherSuites, id) && !slices.Contains(policy.Suites, id) {
			out = append(out, termination.SuiteName(id))
		}
	}
	return out
}

func (a *account) groupWords(hello *termination.ClientHello) termination.Explanation {
	var offered []string
	for _, id := range hello.Groups {
		if !grease(id) {
			offered = append(offered, groupName(id))
		}
	}
	return termination.Explanation{
		Sentence: fmt.Sprintf("A client and %s have no key exchange group in common. It offers %s; allowed are X25519MLKEM768, X25519, P-256, P-384 and P-521.", a.at(), orNothing(offered, 8)),
		Fixes:    []termination.Fix{{Text: "Enable X25519 or P-256 in the client."}},
		ClientTo: a.toClient("it offers no key exchange group that is allowed there", "Please enable X25519 or P-256 in it."),
	}
}

// groupName names the groups of the TLS registry that are met in practice.
func groupName(id uint16) string {
	switch id {
	case 23:
		return "P-256"
	case 24:
		return "P-384"
	case 25:
		return "P-521"
	case 29:
		return "X25519"
	case 30:
		return "X448"
	case 256, 257, 258, 259, 260:
		return fmt.Sprintf("ffdhe%d", []int{2048, 3072, 4096, 6144, 8192}[id-256])
	case 4587:
		return "SecP256r1MLKEM768"
	case 4588:
		return "X25519MLKEM768"
	case 4589:
		return "SecP384r1MLKEM1024"
	}
	return fmt.Sprintf("0x%04x", id)
}

func (a *account) alpnWords(hello *termination.ClientHello) termination.Explanation {
	var offered []string
	for _, p := range hello.ALPN {
		if len(offered) < 8 {
			offered = append(offered, "“"+visible(p, 32)+"”")
		}
	}
	served := a.tlsPolicy().ALPN
	either := strings.Join(served, " or ")
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("A client wants to speak %s inside TLS, and %s speaks %s.", orNothing(offered, 8), a.at(), orNothing(served, 8)),
		Fixes:    []termination.Fix{{Text: fmt.Sprintf("Make the client offer %s by ALPN, or nothing.", either)}},
		ClientTo: a.toClient(fmt.Sprintf("it offers only %s as its application protocol", orNothing(offered, 8)), fmt.Sprintf("Please make it offer %s.", either)),
	}
	switch {
	case a.endpoint != nil && a.endpoint.Scheme == termination.SchemeTLS:
		ex.Fixes = append(ex.Fixes, termination.Fix{Text: fmt.Sprintf("Or, if the service behind speaks it, add the name to tls.alpn of %s.", a.at()), Action: a.endpointPage()})
	case a.endpoint != nil && len(a.endpoint.ALPN) > 0 && slices.ContainsFunc(hello.ALPN, func(p string) bool { return p == termination.ALPNHTTP1 || p == termination.ALPNHTTP2 }):
		ex.Turn = termination.TurnOperator
		ex.Fixes = append(ex.Fixes, termination.Fix{Text: fmt.Sprintf("Or add it to tls.alpn of %s.", a.at()), Action: a.endpointPage()})
	default:
		ex.Fixes[0].Text += " For another protocol, use an endpoint with a tls:// URL."
	}
	return ex
}

func orNothing(names []string, limit int) string {
	if len(names) == 0 {
		return "nothing that can be named"
	}
	return list(names, limit)
}

// upperFirst makes a sentence of a clause; it leaves anything but ASCII alone.
func upperFirst(s string) string {
	if s != "" && s[0] >= 'a' && s[0] <= 'z' {
		return strings.ToUpper(s[:1]) + s[1:]
	}
	return s
}
