package termination_test

import (
	"errors"
	"slices"
	"testing"

	"countersign/termination"
)

func TestValidateHygiene(t *testing.T) {
	for _, level := range []termination.Level{"", termination.LevelRefuse, termination.LevelWarn, termination.LevelOff, "ignore", "Refuse", " "} {
		known := slices.Contains([]termination.Level{"", termination.LevelRefuse, termination.LevelWarn, termination.LevelOff}, level)
		for i := range new(termination.Hygiene).Checks() {
			auth := validConfig().Endpoints[0].ClientAuth
			*auth.Hygiene.Checks()[i].Level = level
			for place, set := range map[string]func(*termination.Endpoint){
				"client_auth.hygiene.":        func(e *termination.Endpoint) { e.ClientAuth = auth },
				"routes.client_auth.hygiene.": func(e *termination.Endpoint) { e.Routes = []termination.Route{{Path: "/a", ClientAuth: &auth}} },
			} {
				c := validConfig()
				set(&c.Endpoints[0])
				err := c.Validate()
				var wrong termination.ValidationError
				field := place + termination.HygieneKeys()[i]
				found := errors.As(err, &wrong) && slices.ContainsFunc(wrong, func(f termination.FieldError) bool { return f.Field == field })
				if found == known {
					t.Errorf("%s: %q: %v", field, level, err)
				}
			}
		}
	}
}
