package expression

import (
	"errors"
	"fmt"
	"strings"

	"countersign/termination"
)

// Validate refuses a configuration with conditions that do not compile, or that could not be decided where they stand. It
// completes [termination.Config.Validate], which knows nothing of expressions. The error is a
// [termination.ValidationError].
func Validate(c *termination.Config) error {
	var wrong termination.ValidationError
	for i := range c.Endpoints {
		e := &c.Endpoints[i]
		add := func(field, problem, advice string) {
			wrong = append(wrong, termination.FieldError{Kind: "endpoint", Name: e.Name, Field: field, Problem: problem, Advice: advice})
		}
		check(c, e, "client_auth", e.ClientAuth, add)
		for _, r := range e.Routes {
			if r.ClientAuth != nil {
				check(c, e, "routes.client_auth", *r.ClientAuth, add)
			}
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return wrong
}

func check(c *termination.Config, e *termination.Endpoint, field string, a termination.ClientAuth, add func(field, problem, advice string)) {
	if a.When == "" {
		return
	}
	field += ".when"
	if a.Mode == termination.ModeOff {
		add(field, "mode off asks nobody for a certificate, so the expression would never be evaluated", "choose another mode, or remove it")
		return
	}
	p, err := Compile(a.When, Condition, c.Limits.ExpressionCost)
	if err != nil {
		problem, advice := err.Error(), "correct it"
		if typed := (*Error)(nil); errors.As(err, &typed) {
			advice = typed.Advice
			bare := *typed
			bare.Advice = ""
			problem = bare.Error()
		}
		add(field, problem, advice)
		return
	}
	if p.NeedsRequest() && e.Scheme != termination.SchemeHTTPS {
		add(field, "it asks for the request, and there is none in a tls endpoint", "leave out what begins with req., or use an https:// url")
	}
	if eff := c.Effective(a); len(eff.Authorities) > 1 && p.TrustsNames() {
		add(field, fmt.Sprintf("it goes by names, and %d authorities are trusted here: each of them could issue these names", len(eff.Authorities)),
			fmt.Sprintf("say whose are meant, as in client.authority == %q && …; trusted are %s", eff.Authorities[0], strings.Join(eff.Authorities, ", ")))
	}
}
