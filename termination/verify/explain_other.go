package verify

import (
	"fmt"
	"net"
	"strings"

	"countersign/termination"
)

// otherWords explains what needs no search, and whatever has no explanation of its own.
func (a *account) otherWords(r termination.Reason) termination.Explanation {
	switch r {
	case termination.ReasonTimeout:
		return a.timeoutWords()
	case termination.ReasonShutdown:
		return termination.Explanation{
			Sentence: fmt.Sprintf("A client was cut off at %s because the gateway was stopping.", a.at()),
			Fixes:    []termination.Fix{{Text: "Connect again when the gateway runs; a client that tries again by itself needs nothing."}},
		}
	case termination.ReasonACMEChallenge:
		return termination.Explanation{
			Sentence: "A certificate authority checked that a name is ours. It got a handshake and nothing else.",
			Turn:     termination.TurnCA,
			Fixes:    []termination.Fix{{Text: "Nothing: the certificate comes next.", Action: "/certificates"}},
		}
	case termination.ReasonAgentOffline:
		return a.agentWords()
	case termination.ReasonPolicyUnreadable:
		return a.unreadableWords()
	case termination.ReasonPolicyDenied:
		return a.ruleWords()
	case termination.ReasonExpressionError:
		return a.expressionErrorWords()
	case termination.ReasonIdentityElsewhere:
		return a.elsewhereWords()
	case termination.ReasonRateLimited:
		return a.rateWords()
	case termination.ReasonBlocked:
		return a.blockedWords()
	case termination.ReasonHostMismatch:
		return a.hostWords()
	case termination.ReasonHTTPBroken:
		return a.brokenWords()
	case termination.ReasonProofMissing:
		return a.proofWords()
	case termination.ReasonRequestTooLarge:
		return a.tooLargeWords()
	case termination.ReasonUpstreamDown:
		return a.upstreamWords()
	case termination.ReasonIdentityLeftOut:
		return a.leftOutWords()
	default:
		return a.generalWords(r)
	}
}

func (a *account) timeoutWords() termination.Explanation {
	stage := "before it said anything"
	switch a.handshake.Verdict.Beat {
	case termination.BeatAgreement:
		stage = "after its ClientHello"
	case termination.BeatServerCert:
		stage = "after our certificate"
		if a.handshake.Passed != nil {
			stage = "after the service's reply"
		}
	case termination.BeatClientCert, termination.BeatEstablished:
		stage = "when its certificate was due"
	case termination.BeatHello:
		stage = "in the middle of its ClientHello"
	}
	return termination.Explanation{
		Sentence: fmt.Sprintf("A client at %s stopped answering %s; after %s we gave up.", a.at(), stage, span(a.handshake.Duration)),
		Fixes: []termination.Fix{
			{Text: "Look at the network between, or at what the client waits for: a person who is asked which certificate to use, a smart card, a slow device.", Command: a.loud()},
			{Text: "If it only needs longer, raise limits.handshake_timeout: then half-open connections are kept longer, too.", Action: "/settings", Lowers: true},
		},
		ClientTo: a.toRefuser(fmt.Sprintf("Your client stopped answering %s.", stage)),
	}
}

func (a *account) agentWords() termination.Explanation {
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("A client came to %s, whose TLS ends in an agent, and no agent is online for it.", a.at()),
		ClientTo: a.toRefuser("The service is not connected right now; your client is not the cause."),
	}
	if e := a.libraryWords(); e != "" {
		ex.Sentence = fmt.Sprintf("A client came to %s, whose TLS ends in an agent: %s.", a.at(), strings.TrimSuffix(e, "."))
	}
	start, invite := "", ""
	if a.endpoint != nil {
		if name, ok := shellWord(a.endpoint.Name); ok {
			invite = "countersign agent invite " + name
			start = "countersign agent --endpoint " + name + " --upstream " + a.agentUpstream()
		}
	}
	ex.Fixes = []termination.Fix{
		{Text: "Start the agent on the machine of the service; it needs no new invitation when it was there before.", Command: start},
		{Text: "If none has joined yet, invite one, and start it with the token.", Command: invite, Action: "/agents"},
	}
	return ex
}

// agentUpstream is the service as the endpoint notes it for people, or an example: the agent has its own.
func (a *account) agentUpstream() string {
	if u := a.endpoint.Upstream; u.Scheme != "" {
		if word, ok := shellWord(u.String()); ok {
			return word
		}
	}
	if a.endpoint.Scheme == termination.SchemeHTTPS {
		return "http://127.0.0.1:8080"
	}
	return "tcp://127.0.0.1:5432"
}

func (a *account) unreadableWords() termination.Explanation {
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("The policy or certificate of %s could not be loaded, so nobody enters there.", a.at()),
		Fixes:    []termination.Fix{{Text: "See the endpoint's page for what is wrong, and repair it there.", Action: a.endpointPage()}},
		ClientTo: a.toRefuser("The endpoint has a fault on our side; your client is not the cause."),
	}
	if e := a.libraryWords(); e != "" {
		ex.Sentence = fmt.Sprintf("The policy or certificate of %s could not be loaded, so nobody enters there: %s.", a.at(), strings.TrimSuffix(e, "."))
	}
	return ex
}

func (a *account) deniedWords() termination.Explanation {
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("%s reached %s, but the policy of what it asked for does not let it in.", a.who(), a.at()),
		Fixes: []termination.Fix{
			{Text: "Use a client that the policy of this endpoint or route allows."},
			{Text: "Or change that policy: then others may come in as well.", Action: a.endpointPage(), Lowers: true},
		},
		ClientTo: a.toClient("the policy of what it asked for does not allow it", ""),
	}
	if e := a.libraryWords(); e != "" {
		ex.Right = upperFirst(strings.TrimSuffix(e, ".")) + "."
	}
	return ex
}

func (a *account) hostWords() termination.Explanation {
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("%s came in at %s and then asked over that connection for a name that needs another one.", a.who(), a.at()),
		Right:    "It was answered with HTTP status 421, and the service behind saw nothing.",
		Fixes: []termination.Fix{
			{Text: "Make the client open a connection of its own for each name. A browser does so by itself after a 421."},
			{Text: "If it sends a wrong Host header on purpose, make it send the name that it connected to.", Command: a.call(a.leaf != nil, false)},
		},
		ClientTo: a.toClient("it asked for another name over this connection", "Please make it open a connection of its own for that name."),
	}
	if e := a.libraryWords(); e != "" {
		ex.Sentence = fmt.Sprintf("%s came in at %s and then asked for something else: %s.", a.who(), a.at(), strings.TrimSuffix(e, "."))
	}
	return ex
}

func (a *account) brokenWords() termination.Explanation {
	return termination.Explanation{
		Sentence: fmt.Sprintf("%s came in at %s and then sent something that is not an HTTP request, or only a part of one.", a.who(), a.at()),
		Right:    "The connection was closed, and the service behind saw nothing of it.",
		Fixes: []termination.Fix{
			{Text: "Look at the client's HTTP library, or at what stands between it and the gateway. A well-formed request goes through.", Command: a.call(a.leaf != nil, false)},
		},
		ClientTo: a.toClient("it sent something that is not an HTTP request", "Please make it speak HTTP/1.1 or HTTP/2 over TLS."),
	}
}

func (a *account) upstreamWords() termination.Explanation {
	behind, problem := "the service behind it", ""
	if u := a.handshake.Upstream; u != nil {
		behind = "the service behind it, " + visible(u.Address, maxNameText) + ","
		problem = strings.TrimSuffix(visible(u.Error, maxDetailText), ".")
	}
	verb := "came in at"
	if a.handshake.Verdict.Outcome == termination.OutcomeRefused || a.handshake.Verdict.Outcome == termination.OutcomeBrokenOff {
		verb = "came to"
	}
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("%s %s %s, but %s does not answer.", a.who(), verb, a.at(), behind),
		Fixes:    []termination.Fix{{Text: "Start the service, and see whether it answers from this machine.", Command: a.callUpstream()}},
		ClientTo: a.toRefuser("The service behind does not answer; your client is not the cause."),
	}
	if problem != "" {
		ex.Sentence = fmt.Sprintf("%s %s %s, but %s does not answer: %s.", a.who(), verb, a.at(), behind, problem)
	}
	ex.Fixes = append(ex.Fixes, termination.Fix{Text: "Or correct the upstream's address.", Action: a.endpointPage()})
	return ex
}

// callUpstream is a command that calls the service behind as the gateway does. The address comes from the configuration.
func (a *account) callUpstream() string {
	if a.endpoint == nil {
		return ""
	}
	u := a.endpoint.Upstream
	target, ok := shellWord(u.String())
	if !ok {
		return ""
	}
	switch u.Scheme {
	case termination.UpstreamHTTP, termination.UpstreamHTTPS:
		return "curl -v " + target
	case termination.UpstreamH2C:
		if rest, found := strings.CutPrefix(u.String(), "h2c://"); found {
			if word, ok := shellWord("http://" + rest); ok {
				return "curl -v --http2-prior-knowledge " + word
			}
		}
	case termination.UpstreamTLS:
		if word, ok := shellWord(u.Address); ok {
			return "openssl s_client -connect " + word
		}
	case termination.UpstreamTCP:
		host, port, err := net.SplitHostPort(u.Address)
		if err != nil {
			return ""
		}
		h, okHost := shellWord(host)
		p, okPort := shellWord(port)
		if okHost && okPort {
			return "nc -vz " + h + " " + p
		}
	default: // a built-in is called by nobody else
	}
	return ""
}

// generalWords is what the table of reasons says, with the library's own words where no certificate could be looked at.
func (a *account) generalWords(r termination.Reason) termination.Explanation {
	info, known := r.Info()
	if !known {
		return termination.Explanation{Sentence: fmt.Sprintf("The handshake with %s ended for the reason %s.", a.at(), visible(string(r), maxNameText))}
	}
	ex := termination.Explanation{Sentence: fmt.Sprintf("%s at %s: %s.", a.who(), a.at(), lowerFirst(info.Title))}
	if info.Beat == termination.BeatClientCert {
		ex.Sentence = fmt.Sprintf("%s presented a certificate to %s that was not accepted (%s).", a.who(), a.at(), lowerFirst(info.Title))
		ex.ClientTo = a.toClient(fmt.Sprintf("its certificate was not accepted (%s)", lowerFirst(info.Title)), "")
	}
	if e := a.libraryWords(); e != "" {
		ex.Right = "In the words of the TLS library: " + strings.TrimSuffix(e, ".") + "."
	}
	if info.Fix != "" {
		ex.Fixes = []termination.Fix{{Text: info.Fix}}
	}
	return ex
}

// lowerFirst makes a clause of a sentence. It leaves words alone that are written in capitals, such as CA, and anything
// but ASCII.
func lowerFirst(s string) string {
	if len(s) > 1 && s[0] >= 'A' && s[0] <= 'Z' && (s[1] < 'A' || s[1] > 'Z') {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}
