package tlstest

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Attack tries to get where it must not. It is first shown to succeed against a
// naive server with its Flaws, so that its failure against the code under test
// means something:
//
//	for _, attack := range tlstest.Attacks(public) {
//		t.Run(attack.Name, func(t *testing.T) {
//			if got := attack.Run(t, startGateway); len(got) > 0 {
//				t.Errorf("got in by %q", got)
//			}
//		})
//	}
//
// where startGateway is a func(testing.TB, *World) Target that serves the World.
type Attack struct {
	Name    string
	Flaws   []Flaw
	Changes bool // it changes the target, which no other attack can take place at any more
	try     func(*raid)
}

// Run starts a World and a server for it, and attacks. It returns the variants of
// the attack that got in.
func (a Attack) Run(t testing.TB, start func(testing.TB, *World) Target) (gotIn []string) {
	t.Helper()
	return a.At(t, Serve(t, start))
}

// Served is a World with a server, at which attacks may take place one after the
// other, up to the first that Changes it.
type Served struct {
	world  *World
	target Target
}

// Serve starts a World and a server for it, and makes sure that honest clients are
// served and the plainest intruders are not (else it fails the test: an attack on
// a server that serves nobody proves nothing).
func Serve(t testing.TB, start func(testing.TB, *World) Target) *Served {
	t.Helper()
	w := NewWorld(t)
	s := &Served{world: w, target: start(t, w)}
	if wrong := (&raid{t: t, world: w, target: s.target}).control(); len(wrong) > 0 {
		t.Fatalf("the World is not served as it should be, so no attack on it proves anything:\n%s", strings.Join(wrong, "\n"))
	}
	return s
}

// At attacks what is served. It returns the variants of the attack that got in.
func (a Attack) At(t testing.TB, s *Served) (gotIn []string) {
	t.Helper()
	r := &raid{t: t, world: s.world, target: s.target}
	a.try(r)
	return r.gotIn
}

// Attacks returns all attacks. The authority is one that the system trusts, made
// by TrustedBySystem in TestMain.
func Attacks(public *Cert) []Attack {
	return []Attack{
		{
			Name:  "P1: a ticket of one endpoint resumes at another (CVE-2025-23419)",
			Flaws: []Flaw{SharedTickets, VerifiesOnce, JudgesOnce}, try: (*raid).ticketAcross,
		},
		{
			Name:  "P2, P3: a ticket outlives the policy that it was issued under",
			Flaws: []Flaw{VerifiesOnce, JudgesOnce}, Changes: true, try: (*raid).ticketAfterChange,
		},
		{
			Name:  "P4: a nil pool of trust stands for the system's roots (CVE-2026-27586)",
			Flaws: []Flaw{NilPool}, Changes: true, try: func(r *raid) { r.systemRoots(public) },
		},
		{
			Name:  "P5: somebody else's certificate behind one's own satisfies a pin",
			Flaws: []Flaw{PinAnywhere}, try: (*raid).unprovenCertificate,
		},
		{
			Name:  "P6: a pinned certificate that says CA:TRUE issues",
			Flaws: []Flaw{PinIssues}, try: (*raid).childOfPin,
		},
		{
			Name:  "P7: the Host leads to another endpoint than the server name (CVE-2026-48491)",
			Flaws: []Flaw{RoutesByHost}, try: (*raid).fronting,
		},
		{
			Name:  "P8: another spelling of the Host leads to another endpoint (CVE-2026-53622)",
			Flaws: []Flaw{ComparesHostRaw}, try: (*raid).fronting,
		},
		{
			Name:  "P9: a ClientHello in pieces goes by the default configuration (CVE-2026-32305)",
			Flaws: []Flaw{OneRecord}, try: (*raid).fragments,
		},
		{
			Name:  "P10: a missing or unknown server name reaches an endpoint",
			Flaws: []Flaw{DefaultEndpoint}, try: (*raid).noName,
		},
		{
			Name:  "P11: of two endpoints with one name the laxest wins",
			Flaws: []Flaw{LaxestWins}, Changes: true, try: (*raid).secondEndpoint,
		},
		{
			Name:  "P12: identity headers from outside reach the service",
			Flaws: []Flaw{BelievesHeaders}, try: (*raid).headers,
		},
		{
			Name:  "P13: the service is told an identity that nobody has verified",
			Flaws: []Flaw{AssertsUnverified}, try: (*raid).unverifiedIdentity,
		},
		{
			Name:  "P14: what crypto/x509 lets pass by default gets in",
			Flaws: []Flaw{GoDefaults}, try: (*raid).hygiene,
		},
		{
			Name:  "P18: a chain without bounds gets in",
			Flaws: []Flaw{NoBounds}, try: (*raid).monsters,
		},
		{
			Name:  "P19: a handshake that never ends is waited for (CVE-2026-22045)",
			Flaws: []Flaw{NoDeadline}, Changes: true, try: (*raid).slowHandshakes,
		},
		{
			Name:  "P29: addresses in a client's certificate are fetched",
			Flaws: []Flaw{FetchesFromCertificate}, try: (*raid).fetching,
		},
		{
			Name:  "P39: an ambiguous path reaches what a stricter route guards",
			Flaws: []Flaw{RawPrefix}, try: (*raid).paths,
		},
		{
			Name:  "P40: a connection outlives the policy that let it in",
			Flaws: []Flaw{JudgesOnce}, Changes: true, try: (*raid).keptConnection,
		},
		{
			Name:  "P41: another authority's certificate goes by the names of ours",
			Flaws: []Flaw{RulesByName}, try: (*raid).partnersName,
		},
		{
			Name:  "P42: a CA with a familiar name is taken from the handshake",
			Flaws: []Flaw{TrustsPresented}, try: (*raid).familiarCA,
		},
	}
}

// TrustedBySystem makes an authority that this process takes for one of the
// system's roots. It must be called in TestMain, before anything is verified
// against the system's roots, since crypto/x509 reads them once. It works where
// crypto/x509 honours SSL_CERT_FILE, which is everywhere but on macOS and Windows.
func TrustedBySystem(dir string) (*Cert, error) {
	ca := NewCA(CN("Public Root"))
	file := filepath.Join(dir, "public-root.crt")
	if err := os.WriteFile(file, ca.PEM(), 0o600); err != nil {
		return nil, fmt.Errorf("write the public root: %w", err)
	}
	for name, value := range map[string]string{"SSL_CERT_FILE": file, "SSL_CERT_DIR": dir} {
		if err := os.Setenv(name, value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	probe := ca.Client("probe")
	if _, err := probe.X509.Verify(x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return nil, fmt.Errorf("the system's roots were read before TrustedBySystem was called: %w", err)
	}
	return ca, nil
}

// raid is an attack under way.
type raid struct {
	t      testing.TB
	world  *World
	target Target
	gotIn  []string
}

// attempt runs one variant and notes whether it got where such visits are.
func (r *raid) attempt(variant string, such func(visit) bool, run func()) {
	mark := r.world.mark()
	run()
	if r.world.since(mark, such) {
		r.gotIn = append(r.gotIn, variant)
	}
}

// control lets honest clients and plain intruders try their luck, and returns what
// is not as it should be.
func (r *raid) control() (wrong []string) {
	w := r.world
	for _, c := range []struct {
		who      string
		as       *Cert
		endpoint string
		path     string
		serves   bool
	}{
		{"nobody", nil, OpenName, "/", true},
		{"nobody", nil, OpenName, PrivatePath + "s", true},
		{"nobody", nil, OpenName, PrivatePath, false},
		{"alice", w.Alice, OpenName, PrivatePath + "/x", true},
		{"nobody", nil, StaffName, "/", false},
		{"alice", w.Alice, StaffName, "/", true},
		{"bob", w.Bob, StaffName, "/", true},
		{"a stranger", SelfSigned(CN("bob")), StaffName, "/", false},
		{"alice", w.Alice, VaultName, "/", false},
		{"bob", w.Bob, VaultName, "/", true},
		{"nobody", nil, VaultName, "/", false},
		{"carol", w.Carol, VaultName, "/", true},
		{"alice", w.Alice, DeskName, "/", false},
		{"bob", w.Bob, DeskName, "/", true},
		{"nobody", nil, DeskName, "/", false},
		{"nobody", nil, LobbyName, "/", true},
		{"alice", w.Alice, LobbyName, "/", true},
		{"a stranger", SelfSigned(CN("bob")), LobbyName, "/", true},
	} {
		for _, version := range versions() {
			for _, protocol := range protocols() {
				mark := w.mark()
				status, err := r.get(r.client(c.endpoint, version, protocol, c.as), c.endpoint, c.path)
				what := fmt.Sprintf("%s at %s%s, %s, %s", c.who, c.endpoint, c.path, tls.VersionName(version), protocol)
				reached := w.since(mark, at(c.endpoint))
				switch {
				case c.serves && (err != nil || status != http.StatusOK || !reached):
					wrong = append(wrong, fmt.Sprintf("%s: status %d, %v; the upstream was reached: %v", what, status, err, reached))
				case !c.serves && reached:
					wrong = append(wrong, fmt.Sprintf("%s: reached the upstream, status %d", what, status))
				}
			}
		}
	}
	return wrong
}

func versions() []uint16 { return []uint16{tls.VersionTLS12, tls.VersionTLS13} }

func protocols() []string { return []string{"http/1.1", "h2"} }

// patience bounds everything that an attack waits for.
const patience = 20 * time.Second
