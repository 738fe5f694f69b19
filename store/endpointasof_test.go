package store

import (
	"context"
	"reflect"
	"testing"

	"countersign/termination"
)

// What an endpoint was at a revision is known as long as the audit log is, also after it was changed and deleted.
func TestEndpointAsOf(t *testing.T) {
	s, _ := newStore(t)
	populate(t, s)
	first := load(t, s)
	want := *first.Endpoint("api")
	id := want.ID
	change(t, s, func(tx *Tx) error {
		e, err := tx.Endpoint(id)
		if err != nil {
			return err
		}
		e.ClientAuth.Rules = []termination.Rule{{Effect: termination.EffectAllow, Subject: termination.Subject{URI: "spiffe://test/*", Authority: "devices"}}}
		e.Routes = []termination.Route{{Path: "/a", ClientAuth: &termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}, OnLoss: termination.OnLossClose}}}
		return tx.UpdateEndpoint(e)
	})
	second := load(t, s)
	changed := *second.Endpoint("api")
	change(t, s, func(tx *Tx) error { return tx.DeleteEndpoint(id) })
	gone := load(t, s).Revision

	for _, c := range []struct {
		revision uint64
		want     termination.Endpoint
		changes  int
	}{{first.Revision, want, 2}, {second.Revision, changed, 1}} {
		then, err := s.EndpointAsOf(context.Background(), id, c.revision)
		if err != nil {
			t.Fatal(err)
		}
		c.want.ID, c.want.Origin = "", ""
		if !reflect.DeepEqual(then.Endpoint, c.want) {
			t.Errorf("revision %d\n got %+v\nwant %+v", c.revision, then.Endpoint, c.want)
		}
		if len(then.Changes) != c.changes || then.By.Name != rhea.Name || then.Since.IsZero() {
			t.Errorf("revision %d: by %+v at %s, %d changes since", c.revision, then.By, then.Since, len(then.Changes))
		}
	}
	for name, ask := range map[string]struct {
		id       string
		revision uint64
	}{"before it was there": {id, first.Revision - 1}, "after it went": {id, gone}, "another": {"ep_nothing", gone}} {
		if _, err := s.EndpointAsOf(context.Background(), ask.id, ask.revision); !is[NotFoundError](err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
