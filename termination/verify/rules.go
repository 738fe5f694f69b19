package verify

import (
	"countersign/termination"
)

// rules are those of a policy, made ready to compare.
type rules struct {
	shared []rule // of the defaults: who matches none of them goes on to own
	own    []rule // who matches none of them is refused, if there are any
}

type rule struct {
	termination.Rule
	subject subject
	text    string // as it stands in a file
}

func newRules(list []termination.Rule) []rule {
	out := make([]rule, len(list))
	for i, r := range list {
		// An effect that is not known refuses.
		out[i] = rule{Rule: r, subject: newSubject(r.Subject, r.Effect != termination.EffectAllow), text: r.String()}
	}
	return out
}

// decide returns the rule that decides about a verified client, and whether it lets the client in. Without such a rule a
// client is let in where the policy has no rules of its own, or where its identity was registered for the endpoint.
func (r *rules) decide(c *claims, registered bool) (decides *rule, in bool) {
	for _, list := range [...][]rule{r.shared, r.own} {
		for i := range list {
			if list[i].subject.matches(c) {
				return &list[i], list[i].Effect == termination.EffectAllow
			}
		}
	}
	return nil, len(r.own) == 0 || registered
}
