package termination

import (
	"fmt"
	"strings"
	"testing"
)

func TestForwardHeaderNames(t *testing.T) {
	for _, name := range []string{"X-Team", "x_team", "X-SSL-Client-S-DN", "Remote-User", "X-Forwarded-User", "X-Amzn-Mtls-Clientcert", "x.y", "A", "X-User-Agent"} {
		if err := CheckForwardHeader(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, want := range map[string]string{
		"": "1 to 100", strings.Repeat("x", 101): "1 to 100", "X Team": "no name", "X-Team:": "no name", "X-Té": "no name", "X-Team\r\nEvil": "no name", "--": "no letter",
		"Host": "request itself", "HOST": "request itself", "Content-Length": "request itself", "content_length": "request itself", "Transfer_Encoding": "request itself",
		"transfer.encoding": "request itself", "Connection": "request itself", "TE": "request itself", "Trailer": "request itself", "Upgrade": "request itself", "Expect": "request itself",
		"Cookie": "credentials", "Authorization": "credentials", "Proxy-Authorization": "credentials", "proxy": "credentials", "Proxy_Connection": "credentials",
		"X-Forwarded-For": "came from", "x_forwarded_proto": "came from", "Forwarded": "came from", "X-Real-IP": "came from",
		"Sec-WebSocket-Key": "browsers", "Origin": "browsers", "Countersign-Left-Out": "kept", "X_Countersign_Identity": "kept",
	} {
		if err := CheckForwardHeader(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}

func TestForwardIdentityIsValidated(t *testing.T) {
	headers := func(pairs ...string) (out []ForwardHeader) {
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, ForwardHeader{pairs[i], pairs[i+1]})
		}
		return out
	}
	many := []ForwardHeader{}
	for i := range 33 {
		many = append(many, ForwardHeader{fmt.Sprintf("X-H%d", i), `"x"`})
	}
	for name, c := range map[string]struct {
		e    Endpoint
		want string // empty: it is fine
	}{
		"all sets":            {Endpoint{Scheme: SchemeHTTPS, ForwardIdentity: []IdentityFormat{IdentityNginx, IdentityXFCC, IdentityRFC9440, IdentityTraefik, IdentityALB}}, ""},
		"own headers":         {Endpoint{Scheme: SchemeHTTPS, ForwardHeaders: headers("X-SSL-Client-Verify", `"x"`, "X-Team", `"y"`)}, ""},
		"another set's names": {Endpoint{Scheme: SchemeHTTPS, ForwardIdentity: []IdentityFormat{IdentityXFCC}, ForwardHeaders: headers("X-Client-CN", `"x"`)}, ""},
		"unknown set":         {Endpoint{Scheme: SchemeHTTPS, ForwardIdentity: []IdentityFormat{"caddy"}}, `"caddy" is unknown`},
		"twice":               {Endpoint{Scheme: SchemeHTTPS, ForwardIdentity: []IdentityFormat{IdentityNginx, IdentityNginx}}, "twice"},
		"raw bytes":           {Endpoint{Scheme: SchemeTLS, ForwardHeaders: headers("X-Team", `"x"`)}, "need an https endpoint"},
		"a set's header":      {Endpoint{Scheme: SchemeHTTPS, ForwardIdentity: []IdentityFormat{IdentityNginx}, ForwardHeaders: headers("x_client_cn", `"x"`)}, "set by the header set nginx"},
		"one header twice":    {Endpoint{Scheme: SchemeHTTPS, ForwardHeaders: headers("X-Team", `"x"`, "x_TEAM", `"y"`)}, "set by another line"},
		"no expression":       {Endpoint{Scheme: SchemeHTTPS, ForwardHeaders: headers("X-Team", "  ")}, "has no expression"},
		"a bad name":          {Endpoint{Scheme: SchemeHTTPS, ForwardHeaders: headers("Host", `"x"`)}, "request itself"},
		"too many":            {Endpoint{Scheme: SchemeHTTPS, ForwardHeaders: many}, "too many"},
	} {
		v := &validation{config: &Config{}}
		v.forwardIdentity(&c.e)
		if got := v.errors.Error(); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Every header that a set may set is spelled in one way, so that the removal from clients knows it.
func TestHeaderSpelling(t *testing.T) {
	for in, want := range map[string]string{"X-Client-CN": "x-client-cn", "x_client.cn": "x-client-cn", "$WSCC": "-wscc", "É": "-", "": ""} {
		if got := HeaderSpelling(in); got != want {
			t.Errorf("%q is spelled %q, want %q", in, got, want)
		}
	}
}
