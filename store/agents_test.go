package store

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// withAgentEndpoint opens a store with an endpoint "inner" whose TLS ends at an agent, beside populate's "api".
func withAgentEndpoint(t testing.TB) (*Store, *clock, termination.Endpoint) {
	t.Helper()
	s, c := newStore(t)
	populate(t, s)
	var e termination.Endpoint
	change(t, s, func(tx *Tx) (err error) {
		wanted := endpoint("inner", "", "devices")
		wanted.TerminateAt, wanted.Certificates, wanted.ForwardIdentity = termination.AtAgent, nil, nil
		e, err = tx.CreateEndpoint(wanted)
		return err
	})
	return s, c, e
}

func invite(t testing.TB, s *Store, endpoint string, life time.Duration) (Invitation, [sha256.Size]byte) {
	t.Helper()
	secret := sha256.Sum256([]byte(t.Name() + endpoint + termination.NewID("x", time.Now())))
	i, err := s.CreateInvitation(context.Background(), rhea, endpoint, secret, life)
	if err != nil {
		t.Fatal(err)
	}
	return i, secret
}

func newAgent(name string) termination.Agent {
	return termination.Agent{ID: termination.NewID(termination.PrefixAgent, time.Now()), Name: name, Key: termination.Fingerprint{7}, Version: "1.0", Address: "192.0.2.7:4711"}
}

func join(t testing.TB, s *Store, endpoint, name string) termination.Agent {
	t.Helper()
	_, secret := invite(t, s, endpoint, time.Hour)
	a, err := s.Redeem(context.Background(), secret, newAgent(name))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAgentJoinsByItsInvitation(t *testing.T) {
	ctx := context.Background()
	s, c, e := withAgentEndpoint(t)
	i, secret := invite(t, s, "inner", time.Hour)
	if !i.Open(c.Now()) || i.EndpointID != e.ID || i.Endpoint != "inner" || i.By != "rhea" {
		t.Errorf("invitation %+v", i)
	}
	wanted := newAgent("host-1")
	a, err := s.Redeem(ctx, secret, wanted)
	if err != nil || a.EndpointID != e.ID || !a.Seen.IsZero() || a.Name != "host-1" || a.Key != wanted.Key {
		t.Fatalf("joined as %+v, %v", a, err)
	}
	got, err := s.Agent(ctx, a.ID)
	if err != nil || got != a {
		t.Errorf("stored as %+v, %v; want %+v", got, err, a)
	}
	list, err := s.Invitations(ctx)
	if err != nil || len(list) != 1 || list[0].Open(c.Now()) || list[0].AgentID != a.ID {
		t.Errorf("invitations %+v, %v", list, err)
	}
	entries := audit(t, s, AuditQuery{Kind: KindAgent})
	if len(entries) != 1 || entries[0].Action != ActionJoin || entries[0].Actor != (Actor{Name: "host-1", Via: "agent"}) || !strings.Contains(string(entries[0].After), i.ID) || !strings.Contains(string(entries[0].After), "rhea") {
		t.Errorf("audit: %+v", entries)
	}
	if entries := audit(t, s, AuditQuery{Kind: KindInvitation}); len(entries) != 1 || entries[0].Action != ActionCreate {
		t.Errorf("audit: %+v", entries)
	}
}

// TestInvitationLetsInOne has many agents with the same secret at the same time.
func TestInvitationLetsInOne(t *testing.T) {
	ctx := context.Background()
	s, _, _ := withAgentEndpoint(t)
	_, secret := invite(t, s, "inner", time.Hour)
	const n = 50
	errs := make([]error, n)
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-begin
			_, errs[i] = s.Redeem(ctx, secret, newAgent(fmt.Sprint("host-", i)))
		})
	}
	close(begin)
	all.Wait()
	in := 0
	for _, err := range errs {
		switch {
		case err == nil:
			in++
		case !errors.Is(err, ErrInvitationUsed):
			t.Errorf("got %v", err)
		}
	}
	list, err := s.Agents(ctx, "")
	if in != 1 || err != nil || len(list) != 1 {
		t.Errorf("%d were told that they are in, %d are (%v)", in, len(list), err)
	}
	if entries := audit(t, s, AuditQuery{Kind: KindAgent}); len(entries) != 1 {
		t.Errorf("%d entries in the audit log", len(entries))
	}
}

func TestInvitationRefused(t *testing.T) {
	ctx := context.Background()
	s, c, _ := withAgentEndpoint(t)
	api := load(t, s).Endpoint("api")
	for name, test := range map[string]struct {
		spoil func(i Invitation)
		agent func(*termination.Agent)
		want  error
	}{
		"withdrawn": {func(i Invitation) {
			if err := s.WithdrawInvitation(ctx, rhea, i.ID); err != nil {
				t.Fatal(err)
			}
		}, nil, ErrInvitationUnknown},
		"expired to the millisecond": {func(Invitation) { c.Add(time.Hour) }, nil, ErrInvitationExpired},
		"forgotten": {func(Invitation) {
			c.Add(9 * 24 * time.Hour)
			invite(t, s, "inner", time.Hour)
		}, nil, ErrInvitationUnknown},
		"for another endpoint": {nil, func(a *termination.Agent) { a.EndpointID = api.ID }, ErrInvitationElsewhere},
		"another secret":       {nil, nil, ErrInvitationUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			i, secret := invite(t, s, "inner", time.Hour)
			if test.spoil != nil {
				test.spoil(i)
			}
			a := newAgent("host")
			if test.agent != nil {
				test.agent(&a)
			}
			if name == "another secret" {
				secret[0] ^= 1
			}
			if _, err := s.Redeem(ctx, secret, a); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
	if list, err := s.Agents(ctx, ""); err != nil || len(list) != 0 {
		t.Errorf("agents: %+v, %v", list, err)
	}
	// One that was refused for its endpoint left the invitation unused.
	_, secret := invite(t, s, "inner", time.Hour)
	wrong, right := newAgent("wrong"), newAgent("right")
	wrong.EndpointID = api.ID
	if _, err := s.Redeem(ctx, secret, wrong); !errors.Is(err, ErrInvitationElsewhere) {
		t.Fatal(err)
	}
	if _, err := s.Redeem(ctx, secret, right); err != nil {
		t.Errorf("the right one afterwards: %v", err)
	}
	// A store that cannot write the agent has not used the invitation up.
	_, secret = invite(t, s, "inner", time.Hour)
	if _, err := s.Redeem(ctx, secret, right); err == nil {
		t.Fatal("one ID was given twice")
	}
	if _, err := s.Redeem(ctx, secret, newAgent("next")); err != nil {
		t.Errorf("after a failure: %v", err)
	}
}

func TestInvitationThatCannotBeMade(t *testing.T) {
	ctx := context.Background()
	s, _, _ := withAgentEndpoint(t)
	for name, test := range map[string]struct {
		endpoint string
		life     time.Duration
		actor    Actor
		check    func(error) bool
		says     string
	}{
		"no such endpoint":   {"nowhere", time.Hour, rhea, is[NotFoundError], "nowhere"},
		"no endpoint":        {"", time.Hour, rhea, is[NotFoundError], ""},
		"one at the edge":    {"api", time.Hour, rhea, is[termination.ValidationError], "terminate_at: agent"},
		"expires too soon":   {"inner", time.Second, rhea, is[termination.ValidationError], "1h"},
		"expires never":      {"inner", 31 * 24 * time.Hour, rhea, is[termination.ValidationError], "30 days"},
		"nobody in its name": {"inner", time.Hour, Actor{}, is[TextError], "empty"},
	} {
		if _, err := s.CreateInvitation(ctx, test.actor, test.endpoint, [32]byte{1}, test.life); err == nil || !test.check(err) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.WithdrawInvitation(ctx, rhea, "inv_x"); !is[NotFoundError](err) {
		t.Errorf("withdraw what is not there: %v", err)
	}
	i, secret := invite(t, s, "inner", time.Hour)
	if _, err := s.Redeem(ctx, secret, newAgent("host")); err != nil {
		t.Fatal(err)
	}
	if err := s.WithdrawInvitation(ctx, rhea, i.ID); !is[NotFoundError](err) {
		t.Errorf("withdraw what was used: %v", err)
	}
}

func TestRemovedAgentStaysOut(t *testing.T) {
	ctx := context.Background()
	s, c, _ := withAgentEndpoint(t)
	a := join(t, s, "inner", "host")
	before := load(t, s).Revision
	config := change(t, s, func(tx *Tx) error { return tx.RemoveAgent(a.ID) })
	if config.Revision != before+1 {
		t.Errorf("revision %d after %d: nobody is told", config.Revision, before)
	}
	if _, err := s.Agent(ctx, a.ID); !is[AgentRemovedError](err) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Agent(ctx, "agt_x"); !is[NotFoundError](err) {
		t.Errorf("one that never was: %v", err)
	}
	if list, err := s.Agents(ctx, ""); err != nil || len(list) != 0 {
		t.Errorf("agents: %+v, %v", list, err)
	}
	a.Seen = c.Now()
	if err := s.AgentSeen(ctx, a); err != nil {
		t.Errorf("seen after it was removed: %v", err)
	}
	if err := refuse(t, s, func(tx *Tx) error { return tx.RemoveAgent(a.ID) }); !is[NotFoundError](err) {
		t.Errorf("remove it again: %v", err)
	}
	if entries := audit(t, s, AuditQuery{Kind: KindAgent, ObjectID: a.ID}); len(entries) != 2 || entries[0].Action != ActionDelete || entries[0].Actor != rhea {
		t.Errorf("audit: %+v", entries)
	}
	c.Add(31 * 24 * time.Hour)
	invite(t, s, "inner", time.Hour)
	if _, err := s.Agent(ctx, a.ID); !is[NotFoundError](err) {
		t.Errorf("long after: %v", err)
	}
}

func TestDeletedEndpointTakesItsAgentsAlong(t *testing.T) {
	ctx := context.Background()
	s, _, _ := withAgentEndpoint(t)
	a := join(t, s, "inner", "host")
	_, secret := invite(t, s, "inner", time.Hour)
	change(t, s, func(tx *Tx) error { return tx.DeleteEndpoint("inner") })
	if _, err := s.Agent(ctx, a.ID); !is[NotFoundError](err) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Redeem(ctx, secret, newAgent("late")); !errors.Is(err, ErrInvitationUnknown) {
		t.Errorf("got %v", err)
	}
	if list, err := s.Invitations(ctx); err != nil || len(list) != 0 {
		t.Errorf("invitations: %+v, %v", list, err)
	}
	if entries := audit(t, s, AuditQuery{Kind: KindEndpoint, Limit: 1}); !strings.Contains(string(entries[0].Before), `"agents":1`) {
		t.Errorf("the audit log does not tell of the agents: %s", entries[0].Before)
	}
}

func TestSeenAgentsCostOneWrite(t *testing.T) {
	ctx := context.Background()
	s, c, _ := withAgentEndpoint(t)
	one, two := join(t, s, "inner", "one"), join(t, s, "inner", "two")
	entries, revision := len(audit(t, s, AuditQuery{})), load(t, s).Revision
	stored := func(id string) (ms int64) {
		if err := s.config.reader.QueryRow("SELECT seen FROM agents WHERE id = ?", id).Scan(&ms); err != nil {
			t.Fatal(err)
		}
		return ms
	}
	see := func(a termination.Agent) {
		t.Helper()
		a.Seen, a.Version = c.Now(), "2.0\x1b[31m"
		if err := s.AgentSeen(ctx, a); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Agent(ctx, a.ID); err != nil || got.Seen.UnixMilli() != c.Now().UnixMilli() || got.Version != "2.0\uFFFD[31m" {
			t.Errorf("seen %+v, %v", got, err)
		}
	}
	see(one)
	first := stored(one.ID)
	if first != c.Now().UnixMilli() {
		t.Error("the first is not written at once")
	}
	c.Add(time.Second)
	see(one)
	see(two)
	if stored(one.ID) != first || stored(two.ID) != 0 {
		t.Error("each has a write of its own")
	}
	c.Add(agentsSeenEvery)
	see(two)
	if stored(one.ID) == first || stored(two.ID) != c.Now().UnixMilli() {
		t.Error("what waited is not written with the next")
	}
	c.Add(time.Second)
	see(one)
	late := one
	late.Seen = c.Now().Add(-time.Hour)
	if err := s.AgentSeen(ctx, late); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.AgentSeen(ctx, one); err != nil {
		t.Errorf("after the close: %v", err)
	}
	s = openIn(t, s.Dir(), testOptions(c))
	if got, err := s.Agent(ctx, one.ID); err != nil || got.Seen.UnixMilli() != c.Now().UnixMilli() {
		t.Errorf("after a restart %+v, %v", got, err)
	}
	if n := len(audit(t, s, AuditQuery{})); n != entries || load(t, s).Revision != revision {
		t.Errorf("seeing agents made %d entries in the audit log", n-entries)
	}
}

func TestHostileAgentNames(t *testing.T) {
	s, _, _ := withAgentEndpoint(t)
	for _, name := range []string{"", "a\x00b", "\xff\xfe", "\u202eexe", strings.Repeat("ü", 400), strings.Repeat("\xff", 400), "<img src=x>"} {
		a := join(t, s, "inner", name)
		if err := checkText("name", strings.ReplaceAll(a.Name, "\uFFFD", "?")); err != nil {
			t.Errorf("%q became %q: %v", name, a.Name, err)
		}
	}
}

func agentCA(key *tlstest.Cert) *termination.AgentCA {
	return &termination.AgentCA{Certificate: key.X509, Key: key.Key}
}

func TestAgentCAIsMadeOnceAndKept(t *testing.T) {
	s, c := newStore(t)
	if load(t, s).Agents.CA != nil {
		t.Fatal("there is one before it is needed")
	}
	first := tlstest.NewCA()
	config := change(t, s, func(tx *Tx) error { return tx.PutAgentCA(agentCA(first)) })
	if ca := config.Agents.CA; ca == nil || !ca.Certificate.Equal(first.X509) || !samePublicKey(ca.Key.Public(), first.X509.PublicKey) {
		t.Fatalf("loaded %+v", ca)
	}
	again := change(t, s, func(tx *Tx) error { return tx.PutAgentCA(agentCA(tlstest.NewCA())) })
	if !again.Agents.CA.Certificate.Equal(first.X509) || again.Revision != config.Revision {
		t.Error("a second one took the place of the first")
	}
	var sealed []byte
	if err := s.config.reader.QueryRow("SELECT sealed_key FROM agent_ca").Scan(&sealed); err != nil {
		t.Fatal(err)
	}
	if key, err := x509.ParsePKCS8PrivateKey(sealed); err == nil || key != nil {
		t.Error("the key is not sealed")
	}
	if entries := audit(t, s, AuditQuery{Kind: KindAgentCA}); len(entries) != 1 || entries[0].Action != ActionCreate {
		t.Errorf("audit: %+v", entries)
	}
	s = reopen(t, s, c)
	if !load(t, s).Agents.CA.Certificate.Equal(first.X509) {
		t.Error("another one after a restart")
	}
}

func reopen(t *testing.T, s *Store, c *clock) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return openIn(t, s.Dir(), testOptions(c))
}

// TestUnreadableAgentCAClosesToAgentsAlone spoils the CA behind the store's back.
func TestUnreadableAgentCAClosesToAgentsAlone(t *testing.T) {
	ctx := context.Background()
	for name, spoil := range map[string]string{
		"certificate":   "UPDATE agent_ca SET certificate = x'3000'",
		"key":           "UPDATE agent_ca SET sealed_key = x'00'",
		"another's key": "UPDATE agent_ca SET sealed_key = (SELECT sealed_key FROM certificates)",
	} {
		t.Run(name, func(t *testing.T) {
			s, c, _ := withAgentEndpoint(t)
			change(t, s, func(tx *Tx) error { return tx.PutAgentCA(agentCA(tlstest.NewCA())) })
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			raw(t, s.config.path, spoil)
			s = openIn(t, s.Dir(), testOptions(c))
			config, problems, err := s.Load(ctx)
			if err != nil || config.Agents.CA != nil || len(problems) != 1 || problems[0].Kind != KindAgentCA || !strings.Contains(problems[0].Text, "no agent can connect") {
				t.Fatalf("loaded CA %v, %v, %v", config.Agents.CA, problems, err)
			}
			if e := config.Endpoint("api"); e == nil || e.ClientAuth.Authorities == nil {
				t.Error("an endpoint at the edge suffers")
			}
			// Other changes are not blamed for it, and the next invitation's CA mends it.
			if _, _, err := s.Change(ctx, rhea, func(tx *Tx) error { return tx.PutSetting("k", 1) }, nil); err != nil {
				t.Errorf("another change: %v", err)
			}
			next := tlstest.NewCA()
			config = change(t, s, func(tx *Tx) error { return tx.PutAgentCA(agentCA(next)) })
			if !config.Agents.CA.Certificate.Equal(next.X509) {
				t.Error("it is not replaced")
			}
			if entries := audit(t, s, AuditQuery{Kind: KindAgentCA, Limit: 1}); entries[0].Action != ActionUpdate {
				t.Errorf("audit: %+v", entries)
			}
		})
	}
	s, c, _ := withAgentEndpoint(t)
	change(t, s, func(tx *Tx) error { return tx.PutAgentCA(agentCA(tlstest.NewCA())) })
	c.Add(100 * 365 * 24 * time.Hour)
	next := tlstest.NewCA()
	if config := change(t, s, func(tx *Tx) error { return tx.PutAgentCA(agentCA(next)) }); !config.Agents.CA.Certificate.Equal(next.X509) {
		t.Error("one that has ended is not replaced")
	}
}

// TestTenThousandAgents keeps lists quick.
func TestTenThousandAgents(t *testing.T) {
	ctx := context.Background()
	s, _, e := withAgentEndpoint(t)
	fill := `INSERT INTO agents (id, endpoint_id, name, key, created, seen, version, address)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		SELECT printf('agt_%%06d', i), '` + e.ID + `', 'host-' || i, zeroblob(32), i, 0, '1.0', '192.0.2.1:1' FROM n`
	if _, err := s.config.writer.ExecContext(ctx, fmt.Sprintf(fill, maxAgents-1)); err != nil {
		t.Fatal(err)
	}
	list, err := s.Agents(ctx, e.ID)
	if err != nil || len(list) != maxAgents-1 || list[0].Name != fmt.Sprint("host-", maxAgents-1) {
		t.Fatalf("%d agents, %v", len(list), err)
	}
	invite(t, s, "inner", time.Hour)
	if _, err := s.CreateInvitation(ctx, rhea, "inner", [32]byte{1}, time.Hour); !is[termination.ValidationError](err) || !strings.Contains(err.Error(), "remove agents") {
		t.Errorf("one more: %v", err)
	}
}
