package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// childVariable makes the test binary a program that does something to a store: "open DIR" or "work DIR".
const childVariable = "COUNTERSIGN_STORE_TEST"

// runIfChild does what the variable says and does not return, or returns at once without it.
func runIfChild() {
	verb, dir, ok := strings.Cut(os.Getenv(childVariable), " ")
	if !ok {
		return
	}
	o := Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), workFactor: 2}
	s, err := Open(context.Background(), dir, o)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if verb == "open" {
		fmt.Println("opened")
		_ = s.Close()
		os.Exit(0)
	}
	work(s)
}

func child(verb, dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+verb+" "+dir)
	return cmd
}

// runChild returns what a child printed that ends by itself.
func runChild(t testing.TB, verb, dir string) string {
	t.Helper()
	out, err := child(verb, dir).CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		t.Fatalf("run child: %v", err)
	}
	return string(out)
}

// kept is how many authorities a working child keeps.
const kept = 5

// work makes one change after the other and prints each revision once it was acknowledged, while handshakes are
// written. It does not end by itself.
func work(s *Store) {
	ca := tlstest.NewCA()
	go func() {
		for seq := s.NextSeq(); ; seq++ {
			h := refusedAt(seq, time.Now())
			h.Presented = ca.Chain()
			if err := s.WriteHistory(termination.HistoryBatch{Handshakes: []*termination.Handshake{h}}); err != nil {
				fmt.Println("history:", err)
				os.Exit(1)
			}
		}
	}()
	for {
		config, _, err := s.Change(context.Background(), Actor{Name: "child", Via: "test"}, func(tx *Tx) error {
			if _, err := tx.CreateAuthority(authority(fmt.Sprintf("a%d", tx.Revision()), ca)); err != nil {
				return err
			}
			if tx.Revision() > kept {
				if err := tx.DeleteAuthority(fmt.Sprintf("a%d", tx.Revision()-kept)); err != nil {
					return err
				}
			}
			return tx.PutSetting("last", tx.Revision())
		}, nil)
		if err != nil {
			fmt.Println("change:", err)
			os.Exit(1)
		}
		fmt.Println("acknowledged", config.Revision)
	}
}

// TestAcknowledgedChangesSurviveKill kills a process that changes its store, again and again, and compares what it had
// acknowledged with what is there.
func TestAcknowledgedChangesSurviveKill(t *testing.T) {
	const kills = 24
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(1, 61))
	var journal uint64
	for i := range kills {
		journal = max(journal, workUntilKilled(t, dir, 1+random.IntN(20), time.Duration(random.IntN(3000))*time.Microsecond))
		found := checkWork(t, dir, journal)
		if t.Failed() {
			t.Fatalf("after kill %d", i+1)
		}
		journal = found // what was committed, but not acknowledged, stays too
	}
	if journal < uint64(kills) {
		t.Errorf("only %d changes in %d lives", journal, kills)
	}
}

// workUntilKilled kills a child a moment after it acknowledged that many changes, and returns the last revision that it
// acknowledged.
func workUntilKilled(t *testing.T, dir string, changes int, moment time.Duration) uint64 {
	t.Helper()
	cmd := child("work", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var last uint64
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, err := fmt.Sscanf(lines.Text(), "acknowledged %d", &last); err != nil {
			t.Errorf("the child said %q", lines.Text())
		}
		if changes--; changes == 0 {
			time.AfterFunc(moment, func() { _ = cmd.Process.Kill() })
		}
	}
	if err := cmd.Wait(); err == nil || stderr.Len() > 0 {
		t.Errorf("the child ended with %v: %s", err, stderr.String())
	}
	return last
}

// checkWork opens the store, checks that it holds one revision exactly, not older than acknowledged, and returns it.
func checkWork(t *testing.T, dir string, acknowledged uint64) uint64 {
	t.Helper()
	s := openIn(t, dir, testOptions(newClock()))
	config, problems, err := s.Load(context.Background())
	if err != nil || len(problems) > 0 {
		t.Fatalf("load: %v, %v", problems, err)
	}
	if config.Revision < acknowledged || config.Revision > acknowledged+1 {
		t.Errorf("revision %d was acknowledged, %d is there", acknowledged, config.Revision)
	}
	var names, want []string
	for _, a := range config.Authorities {
		names = append(names, a.Name)
	}
	for r := uint64(max(1, int64(config.Revision)-kept+1)); r <= config.Revision; r++ {
		want = append(want, fmt.Sprintf("a%d", r))
	}
	slices.Sort(names)
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("revision %d holds %v", config.Revision, names)
	}
	var last uint64
	if found, err := s.Setting(context.Background(), "last", &last); err != nil || !found || last != config.Revision {
		t.Errorf("revision %d says that it is %d (%v, %v)", config.Revision, last, found, err)
	}
	if entries := audit(t, s, AuditQuery{Limit: 1}); len(entries) != 1 || entries[0].Revision != config.Revision {
		t.Errorf("the audit log of revision %d ends with %+v", config.Revision, entries)
	}
	if _, err := s.Handshakes(context.Background(), HistoryQuery{}); err != nil {
		t.Errorf("history: %v", err)
	}
	if warnings := s.Warnings(); len(warnings) > 0 {
		t.Errorf("warnings: %v", warnings)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return config.Revision
}
