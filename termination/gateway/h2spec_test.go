package gateway_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// deviations are the cases of h2spec that fail, with the reason why each is no fault. One that passes all the same fails
// the test, so that the list stays true.
func deviations() map[string]string {
	return map[string]string{
		"http2/6.5.3/1": "RFC 9113, section 6.5.3: a SETTINGS frame that has one setting twice is to be processed in order. net/http ends the " +
			"connection with PROTOCOL_ERROR, because nobody but an attacker sends one.",
		"http2/8.1.2.2/1": "RFC 9113, section 8.2.2: a request with Connection is malformed. Section 8.1.1 lets a server answer before it resets " +
			"the stream; net/http answers 400 and ends the stream. The upstream hears nothing of it: see TestDowngrade.",
		"http2/8.1.2.2/2": "RFC 9113, section 8.2.2: a TE other than trailers, likewise.",
	}
}

// A case that is to fail mostly does so by waiting for what does not come.
const deviationPatience = 2 * time.Second

// TestH2Spec runs all cases of h2spec, the strict ones too, against an https endpoint that requires a client certificate.
func TestH2Spec(t *testing.T) {
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	files := devices.Client("h2spec").WriteFiles(t, t.TempDir())
	r := newRig(t)
	r.trust("devices", devices)
	port := freePort(t)
	r.endpoint("h2spec", port, tlstest.HTTP(t).URL, func(e *termination.Endpoint) {
		require("devices")(e)
		e.Host = "localhost" // h2spec sends the name that it dials
	})
	r.apply()
	run := h2specRun{
		deviations: deviations(),
		config: config.Config{
			Host: "localhost", Port: int(port), Path: "/", Timeout: patience, MaxHeaderLen: 4000,
			TLS: true, Insecure: true, // other tests ask who the server is
			CertFile: files.Cert, CertKeyFile: files.Key,
		},
	}
	t.Run("cases", func(t *testing.T) {
		for _, group := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
			run.group(t, group)
		}
	})
	if run.cases < 140 {
		t.Errorf("only %d cases ran", run.cases)
	}
	for id := range run.deviations {
		if !run.seen[id] {
			t.Errorf("%s is listed to fail, and is no case", id)
		}
	}
}

type h2specRun struct {
	config     config.Config
	deviations map[string]string
	cases      int
	seen       map[string]bool
}

// group runs the cases of a group and of those below it, each on a connection of its own.
func (r *h2specRun) group(t *testing.T, group *spec.TestGroup) {
	for i, c := range slices.Concat(group.Tests, group.StrictTests) {
		id := fmt.Sprintf("%s/%d", group.ID(), i+1)
		r.cases++
		if r.seen == nil {
			r.seen = map[string]bool{}
		}
		r.seen[id] = true
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			r.run(t, id, c)
		})
	}
	for _, below := range group.Groups {
		r.group(t, below)
	}
}

func (r *h2specRun) run(t *testing.T, id string, c *spec.TestCase) {
	why, deviates := r.deviations[id]
	options := r.config
	if deviates {
		options.Timeout = deviationPatience
	}
	if id == "http2/4.2/3" {
		options.MaxHeaderLen = 20_000 // five of them are to be more than a frame, and ours are larger than the default
	}
	conn, err := spec.Dial(&options)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = c.Run(&options, conn)
	switch {
	case err != nil && !deviates:
		t.Errorf("%s\n%s\n%v", c.Desc, c.Requirement, err)
	case err == nil && deviates:
		t.Errorf("%s\npasses, but is listed to fail: %s", c.Desc, why)
	}
}
