package gateway_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/servercert"
	"countersign/termination/tlstest"
)

// scene is the stage of one situation: a gateway of its own with real sockets, and the directory of a client, which holds
// what the client has under the names that explanations use (client.crt, client.key, ca.crt, intermediate.crt). A
// situation is a function that reads like its story:
//
//	s.holds("client", devices.Client("alice"))      // what the client has
//	s.serves(require("devices"))                    // what the endpoint api demands
//	s.fails(s.curl())                               // a real client fails; what was explained is compared with the list
//	s.passes(s.types())                             // the fix's command is typed in the directory, and the client comes in
//
// Where the fix leads to a page, changes does what is done there; where it is a person's, person looks whether the text
// for that person says so.
type scene struct {
	*rig
	situation termination.Situation
	dir       string
	port      uint16
	devices   *tlstest.Cert     // the CA of the authority devices, which exists from the start
	upstream  *tlstest.Upstream // the service behind; it echoes

	obtained *servercert.Obtained
	ahead    *atomic.Int64 // by which the gateway's clock was moved, in nanoseconds

	record *termination.Handshake  // of the client that failed
	ex     termination.Explanation // of it

	// What has happened: a client failed, and after that the fix of the list was found, and a client came in.
	failed, fixed, passed bool
}

// seen is what the client's side shows.
type seen struct {
	exit int
	text string
}

func newScene(t *testing.T, situation termination.Situation) *scene {
	t.Helper()
	obtained, ahead := servercert.NewObtained(), new(atomic.Int64)
	s := &scene{
		rig:       newRigOf(t, gateway.Options{Obtained: obtained, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }}),
		situation: situation, dir: t.TempDir(), port: freePort(t), obtained: obtained, ahead: ahead,
		devices: tlstest.NewCA(tlstest.CN("Devices CA"), tlstest.Org("Devices Inc")), upstream: tlstest.HTTP(t),
	}
	s.trust("devices", s.devices)
	s.write("ca.crt", s.serverCA.PEM())
	s.knows(s.serverCA)
	return s
}

// write puts a file into the client's directory.
func (s *scene) write(name string, data []byte) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) read(name string) []byte {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return data
}

// holds gives the client a certificate, alone, and its key: name.crt and name.key.
func (s *scene) holds(name string, cert *tlstest.Cert) {
	s.t.Helper()
	s.write(name+".crt", cert.PEM())
	s.write(name+".key", cert.KeyPEM())
}

// knows makes these the CAs that the client's machine trusts without being told, as it does public ones.
func (s *scene) knows(cas ...*tlstest.Cert) {
	s.t.Helper()
	var all []byte
	for _, ca := range cas {
		all = append(all, ca.PEM()...)
	}
	s.write("system.pem", all)
}

// serves adds the endpoint api and applies the configuration.
func (s *scene) serves(change func(*termination.Endpoint)) {
	s.t.Helper()
	s.endpoint("api", s.port, s.upstream.URL, change)
	s.apply()
}

// issued is what the owner of a CA makes of a request for a client certificate.
func (s *scene) issued(ca *tlstest.Cert, request, certificate string) {
	s.t.Helper()
	block, _ := pem.Decode(s.read(request))
	if block == nil {
		s.t.Fatalf("%s is not PEM", request)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		s.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: csr.Subject, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}, ca.X509, csr.PublicKey, ca.Key)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// later moves the gateway's clock.
func (s *scene) later(d time.Duration) { s.ahead.Add(int64(d)) }

func (s *scene) url() string { return fmt.Sprintf("https://api.localhost:%d/", s.port) }

// curl calls the endpoint with these options.
func (s *scene) curl(options ...string) seen {
	s.t.Helper()
	return s.shell("curl -sS " + strings.Join(append(options, s.url()), " "))
}

// openssl calls the endpoint as somebody who tries it with s_client, and waits for what the gateway says.
func (s *scene) openssl(options ...string) seen {
	s.t.Helper()
	return s.shell(fmt.Sprintf("openssl s_client -ign_eof -connect api.localhost:%d %s", s.port, strings.Join(options, " ")))
}

// connectByName is what only a resolver of systemd knows: that names below localhost are this machine.
var connectByName = regexp.MustCompile(`-connect ([a-z0-9.-]+\.localhost):`)

// shell runs a command line, or several, in the client's directory. Nothing in them is replaced but the name that openssl
// would look up, where name servers do not know it.
func (s *scene) shell(commands string) seen {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, tlstest.Program(s.t, "sh"), "-e", "-c", connectByName.ReplaceAllString(commands, "-servername $1 -connect 127.0.0.1:"))
	cmd.Dir, cmd.WaitDelay = s.dir, time.Second
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "LC_ALL=C", "no_proxy=*", "SSL_CERT_FILE=" + filepath.Join(s.dir, "system.pem")}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() != nil || cmd.ProcessState == nil {
		s.t.Fatalf("%s: %v\n%s", commands, err, out.String())
	}
	return seen{cmd.ProcessState.ExitCode(), out.String()}
}

// sends is a client that sends these bytes and waits for the end.
func (s *scene) sends(data string) seen {
	s.t.Helper()
	conn, err := net.Dial("tcp", address(s.port))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, data); err != nil {
		s.t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return seen{1, string(answer) + err.Error()}
	}
	return seen{0, string(answer)}
}

// visits is a Go program that makes one request with this configuration; nil: one that trusts the server's CA. The
// client's certificate is added where there is one.
func (s *scene) visits(config *tls.Config, cert *tlstest.Cert) seen {
	s.t.Helper()
	if config == nil {
		config = &tls.Config{}
	}
	base := s.clientConfig("api.localhost", 0, cert)
	if config.ServerName == "" {
		config.ServerName = base.ServerName
	}
	if config.RootCAs == nil {
		config.RootCAs = base.RootCAs
	}
	if cert != nil {
		config.GetClientCertificate = base.GetClientCertificate
	}
	status, body, err := get(config, s.port, "api.localhost")
	if err != nil {
		return seen{1, err.Error()}
	}
	return seen{0, fmt.Sprintf("%d %s", status, body)}
}

// fails takes the record of a client that was not let in and compares it with the list.
func (s *scene) fails(saw seen) {
	s.t.Helper()
	rec := s.next()
	if rec.Verdict.Outcome.In() {
		s.t.Fatalf("it was let in (%s): %s", rec.Verdict.Outcome, saw.text)
	}
	s.told(saw, rec, rec.Verdict.Reason, rec.Verdict.Explanation)
}

// failsUnverified is fails for a client that was let in all the same, where the policy does not insist.
func (s *scene) failsUnverified(saw seen) {
	s.t.Helper()
	rec := s.next()
	if rec.Verdict.Outcome != termination.OutcomeOpen {
		s.t.Fatalf("%s: %s", rec.Verdict.Outcome, saw.text)
	}
	own := *rec // a record that is out is not ours to change
	s.gateway.Explain(&own)
	s.told(saw, rec, own.Verdict.Reason, own.Verdict.Explanation)
}

// failsAfter is fails for a client that was let in and whose connection then ended for a reason.
func (s *scene) failsAfter(saw seen) {
	s.t.Helper()
	rec := s.next()
	if !rec.Verdict.Outcome.In() {
		s.t.Fatalf("it was not let in (%s %s): %s", rec.Verdict.Outcome, rec.Verdict.Reason, saw.text)
	}
	end, own := s.end(rec.ID), *rec // a record that is out is not ours to change
	s.gateway.ExplainEnd(&own, end)
	s.told(saw, rec, end.Reason, own.Verdict.Explanation)
}

// told compares what was said with the list.
func (s *scene) told(saw seen, rec *termination.Handshake, reason termination.Reason, ex termination.Explanation) {
	s.t.Helper()
	want := s.situation
	if ex.Sentence == "" { // explained when somebody looks
		own := *rec
		s.gateway.Explain(&own)
		ex = own.Verdict.Explanation
	}
	s.record, s.ex = rec, ex
	s.failed = true
	if reason != want.Reason {
		s.t.Fatalf("the reason is %q, not %q: %s\n%s\n%s", reason, want.Reason, ex.Sentence, rec.Error, saw.text)
	}
	if !strings.Contains(strings.ToLower(saw.text), strings.ToLower(want.Sees)) {
		s.t.Errorf("the client shows %q, which does not say %q", saw.text, want.Sees)
	}
	if said := ex.Sentence + " " + ex.Right; !strings.Contains(said, want.Says) {
		s.t.Errorf("it is explained as %q, without %q", said, want.Says)
	}
	if ex.Turn != want.Turn {
		s.t.Errorf("it is the turn of %q, not of %q", ex.Turn, want.Turn)
	}
	if len(ex.Fixes) == 0 || ex.Fixes[0].Lowers {
		s.t.Errorf("the first fix is missing or lowers security: %+v", ex.Fixes)
	}
}

// fix is the one that the list names.
func (s *scene) fix() termination.Fix {
	s.t.Helper()
	at := slices.IndexFunc(s.ex.Fixes, func(f termination.Fix) bool {
		return strings.Contains(f.Text, s.situation.Fix) || strings.Contains(f.Command, s.situation.Fix)
	})
	if at < 0 || s.ex.Fixes[at].Lowers {
		s.t.Fatalf("no fix says %q without lowering security: %+v", s.situation.Fix, s.ex.Fixes)
	}
	s.fixed = true
	return s.ex.Fixes[at]
}

// types carries out the fix by typing its command.
func (s *scene) types() seen {
	s.t.Helper()
	command := s.fix().Command
	if command == "" {
		s.t.Fatalf("there is nothing to type: %+v", s.fix())
	}
	saw := s.shell(command)
	if saw.exit != 0 {
		s.t.Fatalf("%s\nended with %d: %s", command, saw.exit, saw.text)
	}
	return saw
}

// changes carries out the fix by doing what is done on the page to which it leads.
func (s *scene) changes(page string, change func(*termination.Config)) {
	s.t.Helper()
	if got := s.fix().Action; got != page {
		s.t.Errorf("the fix leads to %q, not to %q", got, page)
	}
	next := *s.config
	next.Endpoints, next.Authorities = slices.Clone(next.Endpoints), slices.Clone(next.Authorities)
	next.Identities, next.Certificates, next.Blocked = slices.Clone(next.Identities), slices.Clone(next.Certificates), slices.Clone(next.Blocked)
	change(&next)
	s.config = &next
	s.apply()
}

// person looks whether the text for the client's owner tells that person what to do.
func (s *scene) person(act string) {
	s.t.Helper()
	_ = s.fix()
	if !strings.Contains(s.ex.ClientTo, act) {
		s.t.Errorf("the text for the client's owner does not say %q: %s", act, s.ex.ClientTo)
	}
}

// passes takes the record of a client that comes again, and in.
func (s *scene) passes(saw seen) {
	s.t.Helper()
	rec := s.next()
	if saw.exit != 0 || !rec.Verdict.Outcome.In() || rec.Verdict.Reason != "" {
		s.t.Fatalf("after the fix it ended with %d, %s %s: %s\n%s", saw.exit, rec.Verdict.Outcome, rec.Verdict.Reason, rec.Verdict.Explanation.Sentence, saw.text)
	}
	if end := s.end(rec.ID); end.Reason != "" {
		s.t.Fatalf("after the fix it came in, and then %s: %s\n%s", end.Reason, end.Detail, saw.text)
	}
	s.passed = s.fixed
}

// ends looks whether the story was told to its end: a test that leaves out a part shows nothing.
func (s *scene) ends() {
	s.t.Helper()
	if !s.failed || !s.fixed || !s.passed {
		s.t.Errorf("a client failed: %v; the fix of the list was given: %v; with it a client came in: %v", s.failed, s.fixed, s.passed)
	}
}
