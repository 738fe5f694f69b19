package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"countersign/termination/sockets"
)

// step names what the old process and the new one tell each other during an upgrade, in this order.
type step string

const (
	stepHello     step = "hello"     // old: these sockets are yours
	stepReady     step = "ready"     // new: I could run; I would change these files of the store
	stepGo        step = "go"        // old: the store is closed
	stepPrepared  step = "prepared"  // new: everything is open, clients wait for me
	stepYours     step = "yours"     // old: accept them
	stepAccepting step = "accepting" // new: they are accepted; from here on there is no way back
	stepRecords   step = "records"   // old: what became of my connections
	stepChanged   step = "changed"   // new: who may be connected to these endpoints is another question now
	stepFailed    step = "failed"    // new: why it is over
)

// maxLine bounds a message. A batch of the history is the largest; the two programs trust each other.
const maxLine = 64 << 20

// message is one line of JSON.
type message struct {
	Step      step            `json:"step"`
	Version   string          `json:"version,omitempty"`
	Sockets   []sockets.Name  `json:"sockets,omitempty"`   // in the order of their descriptors
	Files     []string        `json:"files,omitempty"`     // of the store
	Endpoints []string        `json:"endpoints,omitempty"` // IDs
	Records   json.RawMessage `json:"records,omitempty"`
	Error     string          `json:"error,omitempty"`
}

// talk is one end of the two pipes between the processes.
type talk struct {
	in  io.ReadCloser
	out io.WriteCloser

	heard chan message // closed when the other side is gone
	gone  chan struct{}

	mu sync.Mutex // one message at a time
}

// newTalk begins to listen. Messages wait until somebody takes them; close ends that.
func newTalk(in io.ReadCloser, out io.WriteCloser) *talk {
	t := &talk{in: in, out: out, heard: make(chan message), gone: make(chan struct{})}
	go t.listen()
	return t
}

func (t *talk) listen() {
	defer close(t.heard)
	lines := bufio.NewScanner(t.in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var m message
		if json.Unmarshal(lines.Bytes(), &m) != nil {
			return // not one of us: as good as gone
		}
		select {
		case t.heard <- m:
		case <-t.gone:
			return
		}
	}
}

// close ends both pipes, and so tells the other side.
func (t *talk) close() {
	close(t.gone)
	_ = t.out.Close()
	_ = t.in.Close()
	for range t.heard { // until listen has ended
	}
}

// say sends a message.
func (t *talk) say(m message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("say %s: %w", m.Step, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := t.out.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("say %s: %w", m.Step, err)
	}
	return nil
}

var (
	// errSilent says that the other process is gone.
	errSilent = errors.New("it ended without a word; what it printed may say why")
	// errSlow says that the other process is there and does nothing.
	errSlow = errors.New("it did not come that far in time")
)

// await waits for a step; stop ends that.
func (t *talk) await(want step, stop <-chan struct{}) (message, error) {
	select {
	case m, ok := <-t.heard:
		switch {
		case !ok:
			return m, errSilent
		case m.Step == stepFailed:
			return m, errors.New(m.Error)
		case m.Step != want:
			return m, fmt.Errorf("it said %q where %q was due", m.Step, want)
		}
		return m, nil
	case <-stop:
		return message{}, fmt.Errorf("%w (%s)", errSlow, want)
	}
}
