package declared

import (
	"reflect"
	"strings"
	"testing"

	"countersign/termination"
)

const verifying = `
endpoints:
  - name: api
    url: https://api.example.com:8443
    upstream: http://127.0.0.1:8080
    also: {any_of: [certificate, bearer], all_of: [basic], strip: true}
    verbose_refusals: true
    forward_identity: [nginx, rfc9440, {X-Team: client.subject.organization, X-Client-Who: client.san.uris}]
    client_auth:
      mode: require
      pins: [` + someCertificate + `]
      rules:
        - refuse: {uri: "spiffe://test/*", authority: devices}
        - {allow: {pin: "spki:` + someKey + `"}}
        - allow: any
      when: client.subject.common_name != "${NAME}"
      hygiene: {weak_key: warn, missing_san: refuse, usage: off}
      report_only: true
      soft: true
    routes:
      - path: /open
        also: {any_of: [bearer]}
defaults:
  client_auth: {rules: [{refuse: {serial: "0A:FF"}}]}
`

func TestPolicyOfAFile(t *testing.T) {
	d := read(t, strings.ReplaceAll(verifying, "${NAME}", "x"))
	e := d.Endpoints[0]
	pin, err := termination.ParsePin("spki:" + someKey)
	if err != nil {
		t.Fatal(err)
	}
	for what, pair := range map[string][2]any{
		"also":    {e.Also, termination.Also{AnyOf: []termination.ProofKind{"certificate", "bearer"}, AllOf: []termination.ProofKind{"basic"}, Strip: true}},
		"verbose": {e.VerboseRefusals, true},
		"formats": {e.ForwardIdentity, []termination.IdentityFormat{"nginx", "rfc9440"}},
		"headers": {e.ForwardHeaders, []termination.ForwardHeader{{Name: "X-Client-Who", Value: "client.san.uris"}, {Name: "X-Team", Value: "client.subject.organization"}}},
		"rules": {e.ClientAuth.Rules, []termination.Rule{
			{Effect: "refuse", Subject: termination.Subject{URI: "spiffe://test/*", Authority: "devices"}},
			{Effect: "allow", Subject: termination.Subject{Pin: &pin}},
			{Effect: "allow"},
		}},
		"when":        {e.ClientAuth.When, `client.subject.common_name != "x"`},
		"hygiene":     {e.ClientAuth.Hygiene, termination.Hygiene{WeakKey: "warn", MissingSAN: "refuse", Usage: "off"}},
		"report_only": {e.ClientAuth.ReportOnly, true},
		"soft":        {e.ClientAuth.Soft, true},
		"route":       {e.Routes[0].Also, &termination.Also{AnyOf: []termination.ProofKind{"bearer"}}},
		"defaults":    {d.Defaults.Rules, []termination.Rule{{Effect: "refuse", Subject: termination.Subject{Serial: "0A:FF"}}}},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: %+v, want %+v", what, pair[0], pair[1])
		}
	}
}

func TestPolicyThatCannotBeRead(t *testing.T) {
	for written, want := range map[string]string{
		"rules: [{allow: {}}]":                                  "does not say whom",
		"rules: [{allow: everybody}]":                           `"everybody" is no subject`,
		"rules: [{permit: any}]":                                `"permit"`,
		"rules: [{allow: any, refuse: any}]":                    "either allow or refuse",
		"rules: [{}]":                                           "either allow or refuse",
		"rules: [allow]":                                        "",
		"rules: [{allow: {shoe: 42}}]":                          `"shoe"`,
		"rules: [{allow: {pin: 12}}]":                           "64 hex digits",
		"rules: {allow: any}":                                   "",
		"hygiene: {weak_key: maybe}":                            "use refuse, warn or off",
		"hygiene: {shoes: off}":                                 `"shoes"`,
		"report_only: perhaps":                                  "true or false",
		"when: [a]":                                             "text is wanted",
		"mode: require}\n    also: {any_of: []":                 "names no proof",
		"mode: require}\n    also: {any_of: [password]":         `"password" is unknown`,
		"mode: require}\n    forward_identity: {X-A: a, x-a: b": "stands there twice",
	} {
		text := "endpoints:\n  - name: api\n    url: https://api.example.com:8443\n    upstream: http://127.0.0.1:8080\n    client_auth: {" + written + "}\n"
		_, err := Read(write(t, directory(t), text), Options{Getenv: environment})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "countersign.yaml:") {
			t.Errorf("%s: %v; want %q with file and line", written, err, want)
		}
	}
}
