package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"countersign/termination"
)

// TestEverybodyAtOnce uses every part of a store from several goroutines, and closes it under them.
func TestEverybodyAtOnce(t *testing.T) {
	ctx := context.Background()
	s, c := newStore(t)
	populate(t, s)
	change(t, s, func(tx *Tx) error {
		return tx.SetHistory(HistorySettings{Keep: time.Hour, KeepFailures: time.Hour, MaxSize: 1 << 20})
	})
	_, cookie, err := s.CreateSession(ctx, "rhea", "dashboard", 24*time.Hour, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var seq uint64
	var revisions sync.Map
	work := map[string]func(i int) error{
		"change": func(i int) error {
			config, _, err := s.Change(ctx, rhea, func(tx *Tx) error { return tx.PutSetting("k", fmt.Sprint(i, tx.Revision())) }, nil)
			if err == nil {
				if _, again := revisions.LoadOrStore(config.Revision, true); again {
					return fmt.Errorf("revision %d was given twice", config.Revision)
				}
			}
			return err
		},
		"load": func(int) error {
			config, problems, err := s.Load(ctx)
			if err == nil && (config.Endpoint("api") == nil || len(problems) > 0) {
				return fmt.Errorf("loaded half a configuration: %v", problems)
			}
			return err
		},
		"session": func(int) error { c.Add(time.Minute); _, err := s.Session(ctx, cookie); return err },
		"sign in": func(i int) error {
			v, _, err := s.CreateSession(ctx, fmt.Sprint("u", i), "dashboard", time.Hour, time.Hour)
			return errors.Join(err, s.EndSession(ctx, v.ID))
		},
		"write": func(int) error {
			var b termination.HistoryBatch
			for range 50 {
				seq++
				b.Handshakes = append(b.Handshakes, refusedAt(seq, c.Now()))
			}
			return s.WriteHistory(b)
		},
		"query":  func(int) error { _, err := s.Handshakes(ctx, HistoryQuery{Limit: 50}); return err },
		"counts": func(int) error { _, err := s.Counts(ctx, CountQuery{}); return err },
		"prune":  func(int) error { s.records.askRetention(); _, err := s.Status(ctx); return err },
		"agents": func(int) error {
			c.Add(agentsSeenEvery)
			_, err := s.Agents(ctx, "")
			return errors.Join(err, s.AgentSeen(ctx, termination.Agent{ID: "agt_x"}))
		},
		"audit": func(int) error { _, err := s.Audit(ctx, AuditQuery{Limit: 10}); return err },
	}
	const rounds = 40
	var running sync.WaitGroup
	var half sync.WaitGroup
	half.Add(len(work))
	closing := make(chan struct{})
	for name, f := range work {
		running.Go(func() {
			for i := range rounds {
				if i == rounds/2 {
					half.Done()
				}
				if err := f(i); err != nil {
					select {
					case <-closing:
						return // whatever a closed store answers, it does not hang or crash
					default:
						t.Errorf("%s: %v", name, err)
					}
				}
			}
		})
	}
	half.Wait()
	close(closing)
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	running.Wait()
	s = openIn(t, s.Dir(), testOptions(c))
	if config := load(t, s); config.Endpoint("api") == nil {
		t.Error("the configuration did not survive")
	}
}
