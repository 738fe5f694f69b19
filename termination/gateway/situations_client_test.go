package gateway_test

import "countersign/termination/tlstest"

func clientStories() map[string]func(*scene) {
	return map[string]func(*scene){
		"curl-no-certificate": func(s *scene) {
			s.holds("client", s.devices.Client("alice"))
			s.serves(require("devices"))
			s.fails(s.curl())
			s.passes(s.types())
		},
		"curl-no-intermediate": func(s *scene) {
			issuing := s.devices.Intermediate(tlstest.CN("Devices Issuing CA"))
			s.holds("client", issuing.Client("alice"))
			s.write("intermediate.crt", issuing.PEM())
			s.trust("lab", tlstest.NewCA(tlstest.CN("Lab CA")), issuing)
			s.serves(require("devices"))
			s.fails(s.curl("--cert client.crt --key client.key"))
			s.passes(s.types())
		},
	}
}
