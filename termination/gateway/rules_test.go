package gateway_test

import (
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// Rules and expressions decide at the edge and at agents, in TLS and for each request; the record says by which rule, and
// it is counted.
func TestRulesDecideEverywhere(t *testing.T) {
	devices, service := tlstest.NewCA(tlstest.CN("Devices")), tlstest.HTTP(t)
	everywhere(t, func(t *testing.T, r *rig, version uint16) {
		port := freePort(t)
		r.trust("devices", devices)
		rules, err := termination.ParseRules("refuse ou=\"test\"\nallow dns=\"*.devices.example.com\" authority=\"devices\"")
		if err != nil {
			t.Fatal(err)
		}
		r.endpoint("api", port, service.URL, func(e *termination.Endpoint) {
			require("devices")(e)
			e.ClientAuth.Rules = rules
			e.ClientAuth.When = `inCidrRange(conn.client_ip, "127.0.0.0/8") && conn.tls.sni == "api.localhost" && req.path != "/secret"`
		})
		r.endpoint("far", port, service.URL, func(e *termination.Endpoint) {
			require("devices")(e)
			e.ClientAuth.When = `inCidrRange(conn.client_ip, "192.0.2.0/24")`
		})
		r.apply()
		good := devices.Client("a", tlstest.DNS("a.devices.example.com"))
		status, _, err := get(r.clientConfig("api.localhost", version, good), port, "api.localhost")
		if err != nil || status != 200 {
			t.Fatalf("%d, %v", status, err)
		}
		const allows = `{allow: {dns: "*.devices.example.com", authority: "devices"}}`
		if rec := r.next(); rec.Verdict.Outcome != termination.OutcomeVerified || rec.Verdict.Rule != allows {
			t.Errorf("recorded %+v", rec.Verdict)
		}
		for name, c := range map[string]struct {
			cert *tlstest.Cert
			rule string
		}{
			"a rule": {devices.Client("b", tlstest.OrgUnit("test"), tlstest.DNS("b.devices.example.com")), `{refuse: {ou: "test"}}`},
			"none":   {devices.Client("c"), ""},
		} {
			if status, _, err := get(r.clientConfig("api.localhost", version, c.cert), port, "api.localhost"); err == nil {
				t.Fatalf("%s: answered %d", name, status)
			}
			rec := r.next()
			if rec.Verdict.Reason != termination.ReasonPolicyDenied || rec.Verdict.Rule != c.rule || rec.Verdict.Outcome != termination.OutcomeRefused || rec.Alert == nil || rec.Alert.Number != 42 {
				t.Errorf("%s: recorded %+v with the alert %+v", name, rec.Verdict, rec.Alert)
			}
		}
		if status, _, err := get(r.clientConfig("far.localhost", version, good), port, "far.localhost"); err == nil {
			t.Fatalf("from elsewhere: answered %d", status)
		}
		if rec := r.next(); rec.Verdict.Reason != termination.ReasonPolicyDenied || !strings.Contains(rec.Verdict.Explanation.Sentence, "inCidrRange") || rec.Alert == nil || rec.Alert.Number != 42 {
			t.Errorf("from elsewhere: recorded %+v, alert %+v", rec.Verdict, rec.Alert)
		}
		if hits, _ := r.gateway.RuleHits("ep_api"); hits[allows] != 1 || hits[`{refuse: {ou: "test"}}`] != 1 || len(hits) != 2 {
			t.Errorf("counted %v", hits)
		}
		// Sessions are resumed where the address is asked for, and a rule that is changed refuses them.
		config := r.clientConfig("api.localhost", version, good)
		config.ClientSessionCache = oneSlot{tls.NewLRUClientSessionCache(1)}
		for _, resumed := range []bool{false, true} {
			if status, _, err := get(config, port, "api.localhost"); err != nil || status != 200 {
				t.Fatalf("%d, %v", status, err)
			}
			if rec := r.next(); rec.Chosen == nil || rec.Chosen.Resumed != resumed {
				t.Errorf("resumed is not %v: %+v", resumed, rec.Chosen)
			}
		}
		r.change("api", func(e *termination.Endpoint) {
			e.ClientAuth.Rules = append([]termination.Rule{{Effect: termination.EffectRefuse, Subject: termination.Subject{CN: "a"}}}, rules...)
		})
		r.wait("the new rule", func() bool {
			status, _, err := get(config, port, "api.localhost")
			rec := r.next()
			return err != nil && status == 0 && rec.Verdict.Rule == `{refuse: {cn: "a"}}`
		})
	})
}

// P41: names without an authority are refused at save, whenever a second authority comes.
func TestNamesNeedAnAuthorityAtSave(t *testing.T) {
	service := tlstest.HTTP(t)
	r := newRig(t)
	r.trust("devices", tlstest.NewCA())
	r.trust("partners", tlstest.NewCA())
	rules := []termination.Rule{{Effect: termination.EffectAllow, Subject: termination.Subject{CN: "laptop"}}}
	r.endpoint("api", freePort(t), service.URL, func(e *termination.Endpoint) {
		require("devices")(e)
		e.ClientAuth.Inherit, e.ClientAuth.Rules = true, rules
		e.ClientAuth.When = `client.subject.common_name == "laptop"`
	})
	r.apply()
	for name, change := range map[string]func(*termination.Config, *termination.ClientAuth){
		"at the endpoint": func(_ *termination.Config, a *termination.ClientAuth) {
			a.Authorities = []string{"devices", "partners"}
		},
		"by the defaults": func(c *termination.Config, _ *termination.ClientAuth) { c.Defaults.Authorities = []string{"partners"} },
		"of a route": func(c *termination.Config, a *termination.ClientAuth) {
			own := *a
			own.Authorities = []string{"devices", "partners"}
			c.Endpoints[0].Routes = []termination.Route{{Path: "/r", ClientAuth: &own}}
		},
	} {
		for _, by := range []string{"rules", "when"} {
			next := *r.config
			next.Endpoints = slices.Clone(next.Endpoints)
			a := &next.Endpoints[0].ClientAuth
			if by == "rules" {
				a.When = ""
			} else {
				a.Rules = nil
			}
			change(&next, a)
			var invalid termination.ValidationError
			if err := r.gateway.Prepare(&next); !errors.As(err, &invalid) || !strings.Contains(err.Error(), "each of them could issue") || !strings.Contains(err.Error(), by) {
				t.Errorf("a second authority %s, %s: %v", name, by, err)
			}
		}
	}
}
