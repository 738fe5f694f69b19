package gateway_test

import (
	"strings"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func openingStories() map[string]func(*scene) {
	return map[string]func(*scene){
		"curl-http": func(s *scene) {
			s.serves(nil)
			s.fails(s.shell("curl -sS " + strings.Replace(s.url(), "https:", "http:", 1)))
			s.passes(s.types())
		},
		"curl-name-typo": func(s *scene) {
			s.serves(nil)
			s.fails(s.shell("curl -sS " + strings.Replace(s.url(), "api.", "apy.", 1)))
			s.passes(s.types())
		},
		"curl-no-cacert": func(s *scene) {
			s.knows(tlstest.NewCA())
			s.serves(nil)
			s.fails(s.curl())
			s.passes(s.types())
		},
		"upstream-away": func(s *scene) {
			s.endpoint("api", s.port, "http://"+address(freePort(s.t)), nil)
			s.apply()
			s.failsAfter(s.curl("-w %{http_code}"))
			s.changes("/endpoints/api", func(c *termination.Config) {
				c.Endpoint("api").Upstream, _ = termination.ParseUpstream(s.upstream.URL)
			})
			s.passes(s.curl())
		},
	}
}
