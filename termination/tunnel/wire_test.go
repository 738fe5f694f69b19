package tunnel

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func TestFrames(t *testing.T) {
	frame := func(n uint32, body string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, n), body...)
	}
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"whole":         {frame(7, `{"n":1}`), nil},
		"nothing":       {nil, io.EOF},
		"half a length": {[]byte{0, 0}, io.ErrUnexpectedEOF},
		"cut short":     {frame(9, `{"n"`), io.ErrUnexpectedEOF},
		"too large":     {frame(1<<31, ""), errTooLarge},
		"one too large": {frame(65, strings.Repeat(" ", 65)), errTooLarge},
		"unknown key":   {frame(7, `{"m":1}`), errAny},
		"no JSON":       {frame(3, "abc"), errAny},
		"two values":    {frame(14, `{"n":1}{"n":2}`), errAny},
		"empty":         {frame(0, ""), errAny},
	} {
		var b beat
		err := readFrame(bytes.NewReader(c.in), 64, &b)
		if (err == nil) != (c.want == nil) || c.want != nil && !errors.Is(c.want, errAny) && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

var errAny = errors.New("any")

// Not one byte after the header may be read: it is the client's.
func TestHeaderLeavesTheRest(t *testing.T) {
	h := Header{
		Handshake: "hs_1", Listener: netip.MustParseAddrPort("0.0.0.0:443"), Peer: netip.MustParseAddrPort("[2001:db8::1]:5"), Local: netip.MustParseAddrPort("192.0.2.1:443"),
	}
	var b bytes.Buffer
	if err := writeFrame(&b, h); err != nil {
		t.Fatal(err)
	}
	b.WriteString("\x16\x03\x01hello")
	got, err := ReadHeader(&b)
	if err != nil || got != h || b.String() != "\x16\x03\x01hello" {
		t.Errorf("%+v, %v, left %q", got, err, b.String())
	}
	for _, bad := range []Header{{}, {Handshake: strings.Repeat("x", 65), Listener: h.Listener, Peer: h.Peer, Local: h.Local}, {Handshake: "hs_1", Peer: h.Peer, Local: h.Local}} {
		if bad.check() == nil {
			t.Errorf("%+v passes", bad)
		}
	}
}

// fill sets everything below v to something that is not zero, and notes the paths of what it cannot fill.
func fill(v reflect.Value, path string, skipped *[]string) {
	switch v.Interface().(type) {
	case netip.Addr:
		v.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.7")))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.MustParsePrefix("192.0.2.0/24")))
		return
	case netip.AddrPort:
		v.Set(reflect.ValueOf(netip.MustParseAddrPort("192.0.2.7:1")))
		return
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(1, 2).UTC()))
		return
	case *x509.Certificate:
		v.Set(reflect.ValueOf(filled.X509))
		return
	case termination.CACertificate:
		v.Set(reflect.ValueOf(termination.CACertificate{Certificate: filled.X509, Role: termination.RoleAnchor}))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64, reflect.Int32:
		v.SetInt(3)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(3)
	case reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), path+"[]", skipped)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), path+"[]", skipped)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), path, skipped)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				fill(v.Field(i), path+"."+f.Name, skipped)
			}
		}
	case reflect.Map:
		m := reflect.MakeMap(v.Type())
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, path, skipped)
		fill(value, path, skipped)
		m.SetMapIndex(key, value)
		v.Set(m)
	default:
		*skipped = append(*skipped, path)
	}
}

var filled = tlstest.NewCA(tlstest.CN("CA"))

// Every word that decides about clients reaches the agent as it is, those too that are added one day: a field that does
// not survive the way fails here.
func TestPolicyTravelsWhole(t *testing.T) {
	var config termination.Config
	var skipped []string
	e := termination.Endpoint{}
	fill(reflect.ValueOf(&e.ClientAuth).Elem(), "ClientAuth", &skipped)
	fill(reflect.ValueOf(&config.Defaults).Elem(), "Defaults", &skipped)
	fill(reflect.ValueOf(&config.Limits).Elem(), "Limits", &skipped)
	fill(reflect.ValueOf(&config.Blocked).Elem(), "Blocked", &skipped)
	fill(reflect.ValueOf(&config.Credentials).Elem(), "Credentials", &skipped)
	fill(reflect.ValueOf(&config.Identities).Elem(), "Identities", &skipped)
	var a termination.Authority
	fill(reflect.ValueOf(&a).Elem(), "Authority", &skipped)
	config.Authorities = []termination.Authority{a}
	v := reflect.ValueOf(&e).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		switch f.Name {
		case "Upstream", "Certificates", "ProxyProtocol", "StartTLS", "TerminateAt": // the agent's or the gateway's own business
		case "Routes":
			e.Routes = make([]termination.Route, 1)
			r := reflect.ValueOf(&e.Routes[0]).Elem()
			for j := range r.NumField() {
				if r.Type().Field(j).Name != "Upstream" {
					fill(r.Field(j), "Routes."+r.Type().Field(j).Name, &skipped)
				}
			}
		default:
			fill(v.Field(i), f.Name, &skipped)
		}
	}
	if len(skipped) > 0 {
		t.Fatalf("this test cannot fill %q; teach it, and see that they travel", skipped)
	}
	config.Revision, config.Node, config.Agents.StalePolicy = 7, "node_1", time.Second
	p := PolicyOf(&config, &e)
	b, err := p.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var got Policy
	if err := got.UnmarshalJSON(b); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&got, p) {
		t.Errorf("came back as\n%+v, sent was\n%+v", got, *p)
	}
	if strings.Contains(string(b), "PRIVATE") || len(got.Authorities) != 1 {
		t.Errorf("policy: %s", b)
	}
	// What the configuration as a whole holds is either sent or not the agent's business. A new field belongs to one of
	// them.
	known := []string{"Revision", "Node", "Authorities", "Certificates", "LocalCAs", "Defaults", "Endpoints", "Limits", "Agents", "ACME", "Identities", "Blocked", "Credentials"}
	for i := range reflect.TypeFor[termination.Config]().NumField() {
		if name := reflect.TypeFor[termination.Config]().Field(i).Name; !slices.Contains(known, name) {
			t.Errorf("termination.Config has %s: decide whether agents must know it (policy.go), and name it here", name)
		}
	}
}

func TestPolicyIsRefused(t *testing.T) {
	config := &termination.Config{Revision: 1, Node: "n"}
	e := &termination.Endpoint{ID: "ep_1", Name: "a", Enabled: true, Host: "a.test", Listen: netip.MustParseAddr("127.0.0.1"), Port: 443}
	good, err := PolicyOf(config, e).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if err := new(Policy).UnmarshalJSON(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(map[string]any){
		"another form":    func(m map[string]any) { m["form"] = 2 },
		"no form":         func(m map[string]any) { delete(m, "form") },
		"an unknown key":  func(m map[string]any) { m["rules"] = []string{"deny"} },
		"an unknown word": func(m map[string]any) { m["endpoint"].(map[string]any)["Rules"] = []string{"deny"} },
		"no revision":     func(m map[string]any) { m["revision"] = 0 },
		"no patience":     func(m map[string]any) { m["stale_ns"] = 0 },
		"an upstream": func(m map[string]any) {
			m["endpoint"].(map[string]any)["Upstream"] = map[string]any{"Scheme": "http", "Address": "10.0.0.1:80"}
		},
		"route's upstream": func(m map[string]any) {
			m["endpoint"].(map[string]any)["Routes"] = []any{map[string]any{"Path": "/", "Upstream": map[string]any{"Scheme": "http"}}}
		},
		"a certificate": func(m map[string]any) { m["endpoint"].(map[string]any)["Certificates"] = []string{"x"} },
		"an odd CA": func(m map[string]any) {
			m["authorities"] = []any{map[string]any{"Name": "a", "Certificates": []any{map[string]any{"der": "AAAA", "role": "anchor"}}}}
		},
		"another place": func(m map[string]any) { m["endpoint"].(map[string]any)["TerminateAt"] = "upstream" },
	} {
		var m map[string]any
		if err := json.Unmarshal(good, &m); err != nil {
			t.Fatal(err)
		}
		change(m)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := new(Policy).UnmarshalJSON(b); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// A report comes back as it was, certificates included, and carries no explanation.
func TestReportTravels(t *testing.T) {
	var h termination.Handshake
	var skipped []string
	leaf := filled.Client("alice")
	v := reflect.ValueOf(&h).Elem()
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; name != "Presented" && name != "Path" {
			fill(v.Field(i), name, &skipped)
		}
	}
	h.Presented, h.Path = leaf.Chain(), leaf.Chain()
	for i := range h.Verdict.Checks {
		h.Verdict.Checks[i].Certificate = 0 // one that is there
	}
	if len(skipped) > 0 {
		t.Fatalf("not filled: %q", skipped)
	}
	var b bytes.Buffer
	if err := writeFrame(&b, handshakeReport(&h)); err != nil {
		t.Fatal(err)
	}
	var r report
	if err := readFrame(&b, maxReport, &r); err != nil {
		t.Fatal(err)
	}
	if got := r.record(); !reflect.DeepEqual(got, &h) {
		t.Errorf("came back as\n%+v, sent was\n%+v", got, h)
	}
	var e termination.ConnectionEnd
	fill(reflect.ValueOf(&e).Elem(), "End", &skipped)
	b.Reset()
	if err := writeFrame(&b, endReport(e)); err != nil {
		t.Fatal(err)
	}
	r = report{}
	if err := readFrame(&b, maxReport, &r); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(r.End.End(), e) {
		t.Errorf("came back as %+v, sent was %+v", r.End.End(), e)
	}
	if id, err := (report{}).id(); err == nil {
		t.Errorf("a report about nothing is about %q", id)
	}
}

// What a stranger can put into a record never makes a report that the gateway would not take.
func TestReportIsBounded(t *testing.T) {
	loud := strings.Repeat("\x01", 1<<20) // six times as long in JSON
	h := termination.Handshake{ID: "hs_1", Error: loud, Upstream: &termination.UpstreamResult{Address: loud, Error: loud}}
	leaf := filled.Client("mallory")
	for i := range 5 * maxReported {
		h.Presented = append(h.Presented, leaf.X509)
		h.Verdict.Checks = append(h.Verdict.Checks, termination.Check{Reason: termination.ReasonCertMalformed, Certificate: i % 300, Detail: loud})
	}
	var b bytes.Buffer
	if err := writeFrame(&b, handshakeReport(&h)); err != nil {
		t.Fatal(err)
	}
	if err := writeFrame(&b, endReport(termination.ConnectionEnd{ID: "hs_1", Detail: loud, Upstream: h.Upstream})); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var r report
		if err := readFrame(&b, maxReport, &r); err != nil {
			t.Fatal(err)
		}
		if r.Handshake == nil {
			continue
		}
		got := r.record()
		if len(got.Presented) != maxReported || len(got.Verdict.Checks) != maxReported {
			t.Errorf("%d certificates and %d checks came through", len(got.Presented), len(got.Verdict.Checks))
		}
	}
	odd := report{Handshake: &termination.CarriedHandshake{Presented: [][]byte{leaf.X509.Raw, {48, 0}, leaf.X509.Raw}}}
	if got := odd.record(); len(got.Presented) != 1 {
		t.Errorf("%d certificates came through, of which one can be read", len(got.Presented))
	}
}

// FuzzWire throws bytes at everything that reads what the other side sends: nothing panics, nothing grows beyond its
// bound, and what is taken can be written again.
func FuzzWire(f *testing.F) {
	config := &termination.Config{Revision: 1, Node: "n"}
	e := &termination.Endpoint{ID: "ep_1", Name: "a", Enabled: true, Host: "a.test", Listen: netip.MustParseAddr("127.0.0.1"), Port: 443}
	policy, err := PolicyOf(config, e).MarshalJSON()
	if err != nil {
		f.Fatal(err)
	}
	leaf := filled.Client("alice")
	samples := []any{
		Header{Handshake: "hs_1", Listener: netip.MustParseAddrPort("0.0.0.0:443"), Peer: netip.MustParseAddrPort("[::1]:5"), Local: netip.MustParseAddrPort("192.0.2.1:443")},
		joinRequest{Secret: make([]byte, secretSize), CSR: []byte{48, 0}, Name: "n"},
		joinAnswer{ID: "agt_1", Certificate: leaf.X509.Raw},
		joinAnswer{Refused: &refusal{Code: refusedUsed, Text: "no"}},
		toAgent{Policy: policy},
		toAgent{Beat: &beat{N: 1}},
		toAgent{Certificate: &certificateReply{Kind: forServer, Chain: [][]byte{leaf.X509.Raw}}},
		toGateway{Hello: &agentHello{Name: "n"}},
		toGateway{State: &agentState{Revision: 1}},
		toGateway{Certificate: &certificateRequest{Kind: forAgent}},
		handshakeReport(&termination.Handshake{ID: "hs_1", Presented: leaf.Chain()}), endReport(termination.ConnectionEnd{ID: "hs_1"}),
	}
	for _, s := range samples {
		var b bytes.Buffer
		if err := writeFrame(&b, s); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if h, err := ReadHeader(bytes.NewReader(in)); err == nil && h.check() != nil {
			t.Errorf("took the header %+v", h)
		}
		var join joinRequest
		var answer joinAnswer
		_ = readFrame(bytes.NewReader(in), maxJoin, &join)
		_ = readFrame(bytes.NewReader(in), maxJoin, &answer)
		var up toGateway
		_ = readFrame(bytes.NewReader(in), maxState, &up)
		var down toAgent
		if readFrame(bytes.NewReader(in), maxControl, &down) == nil {
			if p := new(Policy); down.Policy != nil && p.UnmarshalJSON(down.Policy) == nil {
				again, err := p.MarshalJSON()
				if err != nil {
					t.Fatal(err)
				}
				second := new(Policy)
				if err := second.UnmarshalJSON(again); err != nil {
					t.Errorf("took a policy and does not take it again: %v", err)
				}
			}
			if down.Certificate != nil {
				_, _ = parseChain(down.Certificate.Chain)
			}
			if down.Refused != nil && len(down.Refused.asError().Error()) > maxText {
				t.Error("a refusal is longer than its bound")
			}
		}
		var r report
		if readFrame(bytes.NewReader(in), maxReport, &r) == nil {
			if _, err := r.id(); err == nil && r.Handshake != nil {
				if h := r.record(); len(h.Presented) > maxReported {
					t.Errorf("took %d certificates", len(h.Presented))
				}
			}
		}
	})
}
