package verify

import (
	"fmt"
	"slices"
	"strings"

	"countersign/termination"
)

// proofWords tells of a request that lacked a token or a password, or brought one of no use.
func (a *account) proofWords() termination.Explanation {
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("%s reached %s, but did not prove what a request has to prove there besides.", a.who(), a.at()),
		Right:    "The connection is in order, and the service behind saw nothing of the request.",
		Fixes: []termination.Fix{
			{Text: "Send a token or a password that counts here, in the place of the words in capitals.", Command: a.callProving()},
			{Text: "See whether the one that it uses is blocked, has expired, or is made for another endpoint or certificate.", Action: "/credentials"},
		},
		ClientTo: a.toClient("its request came without a token or password that counts here", "Please send the one that you were given in the Authorization header."),
	}
	if e := a.libraryWords(); e != "" {
		ex.Sentence = fmt.Sprintf("%s reached %s. %s", a.who(), a.at(), e)
	}
	return ex
}

// callProving is a command that calls the endpoint with what it demands besides: curl's option for it.
func (a *account) callProving() string {
	option := "--oauth2-bearer TOKEN"
	if a.endpoint != nil {
		kinds := append(slices.Clone(a.endpoint.Also.AllOf), a.endpoint.Also.AnyOf...)
		if slices.Contains(kinds, termination.ProofBasic) && !slices.Contains(kinds, termination.ProofBearer) {
			option = "--user NAME:PASSWORD"
		}
	}
	return strings.Replace(a.call(a.leaf != nil, false), "curl ", "curl "+option+" ", 1)
}

// tooLargeWords tells of a request above the limits.
func (a *account) tooLargeWords() termination.Explanation {
	return termination.Explanation{
		Sentence: fmt.Sprintf("%s came in at %s and then sent a request that is larger than limits allow.", a.who(), a.at()),
		Right:    "It was answered with HTTP status 413 for a body, or 431 for a header, and the service behind saw no whole request.",
		Fixes: []termination.Fix{
			{Text: "Make the client send less: large cookies are the usual cause of a large header."},
			{Text: "Or raise limits.header or limits.body, if the service needs that.", Action: "/settings", Lowers: true},
		},
		ClientTo: a.toClient("its request is larger than what is taken here", "Please send less at once."),
	}
}
