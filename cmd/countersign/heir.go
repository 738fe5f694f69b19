package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/live"
	"countersign/termination/sockets"
)

// takeoverVariable makes a process take over from the one that started it. Its value says how they talk.
const (
	takeoverVariable = "COUNTERSIGN_TAKEOVER"
	takeoverPipes    = "1"
)

// The descriptors that such a process gets: see [os/exec.Cmd.ExtraFiles].
const (
	descriptorIn = 3 + iota
	descriptorOut
	firstSocket
)

const (
	changeLooks = 250 * time.Millisecond // how often the new process looks whether the old one's connections have to be judged again
	queueRoom   = 2                      // the old process's records may fill one in that many places of the hub's queue
	queueLooks  = 10 * time.Millisecond
)

// heir is the new process's side of an upgrade: it takes over from the process that started it.
type heir struct {
	*talk
	stop    context.CancelFunc
	working sync.WaitGroup
}

// newHeir returns nil for a process that takes nothing over, else it puts what it was given into the set.
func newHeir(getenv func(string) string, set *sockets.Set) (*heir, error) {
	switch getenv(takeoverVariable) {
	case "":
		return nil, nil //nolint:nilnil // an ordinary start
	case takeoverPipes:
	default:
		return nil, errors.New("the running program wants to hand over in a way that this version does not know; stop it and start this one")
	}
	_ = os.Unsetenv(takeoverVariable) // it is not meant for what this process starts
	h := &heir{talk: newTalk(receive(descriptorIn, "from the process before"), receive(descriptorOut, "to the process before")), stop: func() {}}
	hello, err := h.await(stepHello, nil)
	if err != nil {
		return nil, fmt.Errorf("take over: %w", err)
	}
	for i, name := range hello.Sockets {
		f := receive(firstSocket+i, name.Use+" "+name.Address)
		if f == nil {
			return nil, errors.New("take over: a socket is missing")
		}
		set.Inherit(name, f)
	}
	return h, nil
}

// ready says that this program can run on the data directory, and waits until the store there is closed.
func (h *heir) ready(ctx context.Context, version, dir string) error {
	files, err := store.Inspect(ctx, dir)
	if err != nil {
		return err
	}
	if err := h.say(message{Step: stepReady, Version: version, Files: files}); err != nil {
		return nil //nolint:nilerr // the process before is gone, and with it its lock
	}
	return h.wait(ctx, stepGo)
}

// prepared says that clients wait for this program alone, and waits until they are its own.
func (h *heir) prepared(ctx context.Context) error {
	if err := h.say(message{Step: stepPrepared}); err != nil {
		return nil //nolint:nilerr // the process before is gone, and everything is ours
	}
	return h.wait(ctx, stepYours)
}

// wait waits for a step of the process before. Where that one has died, nobody is left to wait for: we go on.
func (h *heir) wait(ctx context.Context, want step) error {
	_, err := h.await(want, ctx.Done())
	if errors.Is(err, errSilent) {
		return nil
	}
	return err
}

// accepting says that there is no way back, and from then on takes the records of the process before and tells it of
// changes, until it has ended.
func (h *heir) accepting(a *app) {
	_ = h.say(message{Step: stepAccepting})
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	h.working.Go(func() {
		defer stop()
		h.takeRecords(ctx, a)
	})
	h.working.Go(func() { h.tellChanges(ctx, a) })
}

// failed tells why this process does not take over.
func (h *heir) failed(err error) {
	_ = h.say(message{Step: stepFailed, Error: strings.TrimSpace(err.Error())})
}

func (h *heir) end() {
	h.stop()
	h.close()
	h.working.Wait()
}

// takeRecords publishes what became of the connections of the process before.
func (h *heir) takeRecords(ctx context.Context, a *app) {
	for {
		select {
		case m, ok := <-h.heard:
			if !ok {
				a.log.Info("the process before has ended")
				// Only now can it not go back to its copies any more. An upgrade that is under way already has its own.
				if a.upgrading.TryLock() {
					defer a.upgrading.Unlock()
					a.removeKept()
				}
				return
			}
			var r records
			if err := json.Unmarshal(m.Records, &r); err != nil {
				a.log.Error("a record of the process before cannot be read", "error", err)
				continue
			}
			r.publish(ctx, a.hub)
		case <-ctx.Done():
			return
		}
	}
}

// tellChanges says of which endpoints the connections of the process before would have to be judged again: it holds the
// configuration of the moment of the upgrade, and can only end them.
func (h *heir) tellChanges(ctx context.Context, a *app) {
	tick := time.NewTicker(changeLooks)
	defer tick.Stop()
	revision, first := a.gateway.Config().Revision, a.gateway.Admission()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := a.gateway.Config().Revision; now != revision {
			revision = now
			var changed []string
			current := a.gateway.Admission()
			for id, was := range first {
				if current[id] != was {
					changed = append(changed, id)
				}
			}
			slices.Sort(changed)
			if len(changed) > 0 && h.say(message{Step: stepChanged, Endpoints: changed}) != nil {
				return
			}
		}
	}
}

// records are a batch of the history on its way from one process to the next.
type records struct {
	Handshakes []*termination.CarriedHandshake `json:"handshakes,omitempty"`
	Ends       []*termination.CarriedEnd       `json:"ends,omitempty"`
}

func newRecords(b termination.HistoryBatch) records {
	var r records
	for _, h := range b.Handshakes {
		r.Handshakes = append(r.Handshakes, termination.Carry(h))
	}
	for _, e := range b.Ends {
		r.Ends = append(r.Ends, termination.CarryEnd(e))
	}
	return r
}

// publish hands everything to the hub, no faster than that takes it.
func (r *records) publish(ctx context.Context, hub *live.Hub) {
	room := func() bool {
		for {
			if s := hub.Status(); s.Queue < s.QueueSize/queueRoom {
				return true
			}
			select {
			case <-ctx.Done():
				return false
			case <-time.After(queueLooks):
			}
		}
	}
	for _, h := range r.Handshakes {
		if h == nil || !room() {
			return
		}
		record := h.Record()
		record.Seq = 0 // it gets one of ours
		hub.Publish(record)
	}
	for _, e := range r.Ends {
		if e == nil || !room() {
			return
		}
		hub.Complete(e.End())
	}
}
