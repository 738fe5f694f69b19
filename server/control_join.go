package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/live"
)

const (
	joinBody    = 2 << 20 // largest request of a command: a bundle, a certificate and a key, in JSON
	maxCommands = 32      // that have joined at a time
	// maxWatching is how many of them see their handshakes: the rest of the live stream's places is for people.
	maxWatching = live.MaxSubscribers / 2
	leaveRetry  = 5 * time.Second
	readyEvery  = 20 * time.Millisecond // between looks at whether an agent is ready
)

// commands are those that have joined, by the ID of their endpoint.
type commands struct {
	mu       sync.Mutex
	joined   map[string]*command
	places   int // taken: by those that have joined, and by those about to
	watching int
	stopping context.Context // of the control socket
	stop     context.CancelFunc
}

// command is one that has joined.
type command struct {
	cancel context.CancelFunc
	gone   chan struct{} // closed when nothing of it is left
}

// JoinLine is one line of the answer to a command that joined; one of its members is set.
type JoinLine struct {
	Joined    *Joined          `json:"joined,omitempty"`
	Handshake *JoinedHandshake `json:"handshake,omitempty"`
	Missed    uint64           `json:"missed,omitempty"` // handshakes that are not in the lines
	Blind     bool             `json:"blind,omitempty"`  // handshakes are not shown: too many watch already
	End       string           `json:"end,omitempty"`    // why the gateway ends it
}

// joinFailure is the answer to a command that has no endpoint.
type joinFailure struct {
	Error       string `json:"error"`
	Unreachable bool   `json:"unreachable"` // its address cannot be opened
}

// JoinedHandshake is a handshake with the endpoint of a command. Its texts are hostile.
type JoinedHandshake struct {
	ID         string              `json:"id"`
	Time       time.Time           `json:"time"`
	Address    string              `json:"address"`
	Client     string              `json:"client,omitempty"`
	ServerName string              `json:"server_name,omitempty"`
	Outcome    termination.Outcome `json:"outcome"`
	Reason     termination.Reason  `json:"reason,omitempty"`
	Title      string              `json:"title,omitempty"` // of the reason
	Duration   float64             `json:"milliseconds"`
}

// serveJoin serves a command: it adds the endpoint that it asks for, tells it of its handshakes, and removes everything
// when the command ends, which the closed connection tells even if it was killed.
func (c *Control) serveJoin(w http.ResponseWriter, r *http.Request) {
	var ask JoinRequest
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, joinBody))
	d.DisallowUnknownFields()
	if err := d.Decode(&ask); err != nil || d.More() {
		answerJSON(w, http.StatusBadRequest, controlError{Error: "the request is no single JSON object of an endpoint, or is too large"})
		return
	}
	defer clear(ask.Key)
	if !c.commands.enter() {
		answerJSON(w, http.StatusConflict, controlError{Error: "too many commands have joined this gateway, or it is stopping"})
		return
	}
	defer c.commands.release()
	// A command may stay for days.
	stream := http.NewResponseController(w)
	_, _ = stream.SetReadDeadline(time.Time{}), stream.SetWriteDeadline(time.Time{})
	began := c.server.now()
	made, joined, err := c.join(r.Context(), &ask)
	if err != nil {
		c.failJoin(w, err)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	own := &command{cancel: cancel, gone: make(chan struct{})}
	c.commands.add(made.Endpoint.ID, own)
	defer close(own.gone)
	defer c.commands.remove(made.Endpoint.ID)
	defer c.leave(made, ask.By)
	defer cancel()
	// A command that was suspended reads nothing; it must not keep the gateway from stopping.
	stuck := context.AfterFunc(c.commands.stopping, func() { cancel(); _ = stream.SetWriteDeadline(time.Now().Add(time.Second)) })
	defer stuck()

	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusCreated)
	out := json.NewEncoder(w)
	say := func(l JoinLine) error {
		if err := out.Encode(l); err != nil {
			return err
		}
		return stream.Flush()
	}
	c.server.log.Info("a command has joined", "endpoint", joined.Name, "url", joined.URL, "by", ask.By)
	if say(JoinLine{Joined: joined}) != nil {
		return
	}
	c.tell(ctx, joined, began, say)
	if c.commands.stopping.Err() != nil {
		_ = say(JoinLine{End: "the gateway is stopping"}) // whoever has left does not need it
	}
}

// tell sends the handshakes of an endpoint until ctx ends. What was before it began is of somebody else's endpoint of
// that name.
func (c *Control) tell(ctx context.Context, joined *Joined, began time.Time, say func(JoinLine) error) {
	if !c.commands.watch() {
		if say(JoinLine{Blind: true}) == nil {
			<-ctx.Done()
		}
		return
	}
	defer c.commands.unwatch()
	filter, err := termination.ParseFilter(endpointFilter(joined.Name), began)
	if err != nil {
		c.server.log.Error("the handshakes of a command cannot be shown", "error", err)
		<-ctx.Done()
		return
	}
	sub, err := c.server.hub.Subscribe(live.Request{Filter: filter})
	if err != nil {
		if say(JoinLine{Blind: true}) == nil {
			<-ctx.Done()
		}
		return
	}
	defer sub.Close()
	teller := joinTeller{began: began.UnixMilli(), say: say}
	for {
		frame, err := sub.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				<-ctx.Done() // the stream has ended before the command
			}
			return
		}
		if teller.frame(frame) != nil {
			return
		}
	}
}

// joinTeller turns frames of the live stream into lines.
type joinTeller struct {
	began    int64 // milliseconds since 1970
	outcomes []termination.Outcome
	reasons  map[termination.Reason]string
	say      func(JoinLine) error
}

func (t *joinTeller) frame(data []byte) error {
	var frame struct {
		Op       string                        `json:"op"`
		Outcomes []termination.Outcome         `json:"outcomes"`
		Reasons  map[termination.Reason]string `json:"reasons"`
		Events   []live.Event                  `json:"e"`
		N        uint64                        `json:"n"`
		Count    uint64                        `json:"count"`
	}
	if err := json.Unmarshal(data, &frame); err != nil {
		return err
	}
	switch frame.Op {
	case "hi":
		t.outcomes, t.reasons = frame.Outcomes, frame.Reasons
	case "gap":
		return t.say(JoinLine{Missed: frame.Count})
	case "ev":
		for _, e := range frame.Events {
			if err := t.event(e); err != nil {
				return err
			}
		}
		if frame.N > 1 {
			return t.say(JoinLine{Missed: (frame.N - 1) * uint64(len(frame.Events))})
		}
	}
	return nil
}

func (t *joinTeller) event(e live.Event) error {
	if e.Time < t.began || e.Proof != 0 || e.Update != 0 || e.Outcome < 0 || e.Outcome >= len(t.outcomes) {
		return nil
	}
	return t.say(JoinLine{Handshake: &JoinedHandshake{
		ID: e.ID, Time: time.UnixMilli(e.Time), Address: e.Address, Client: e.Client, ServerName: e.ServerName,
		Outcome: t.outcomes[e.Outcome], Reason: e.Reason, Title: t.reasons[e.Reason], Duration: e.Duration,
	}})
}

// leave removes what a command had. It tries again until that is done or the gateway stops; then the next start does it.
func (c *Control) leave(made store.Command, by string) {
	for {
		_, err := c.server.Change(context.Background(), store.Actor{Name: by, Via: viaCommand}, func(tx *store.Tx) error { return tx.DeleteCommand(made) })
		if err == nil || errors.Is(err, gateway.ErrClosed) || errors.Is(err, store.ErrClosed) {
			return
		}
		c.server.log.Error("what a command had cannot be removed yet", "endpoint", made.Endpoint.Name, "error", err)
		again := time.NewTimer(leaveRetry)
		select {
		case <-again.C:
		case <-c.commands.stopping.Done():
			again.Stop()
			return
		}
	}
}

// serveLeave ends a command that has joined, and answers when nothing of it is left.
func (c *Control) serveLeave(w http.ResponseWriter, r *http.Request) {
	c.commands.mu.Lock()
	own := c.commands.joined[r.PathValue("id")]
	c.commands.mu.Unlock()
	if own != nil {
		own.cancel()
		select {
		case <-own.gone:
		case <-r.Context().Done():
		}
	}
	answerJSON(w, http.StatusCreated, struct{}{})
}

// serveReady answers when the endpoint's agent is given clients.
func (c *Control) serveReady(w http.ResponseWriter, r *http.Request) {
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for {
		for _, a := range c.server.gateway.Status().Agents {
			if a.EndpointID != r.PathValue("id") {
				continue
			}
			if a.Ready() {
				answerJSON(w, http.StatusCreated, struct{}{})
				return
			}
			if a.Problem != "" {
				answerJSON(w, http.StatusUnprocessableEntity, controlError{"the agent cannot serve: " + a.Problem})
				return
			}
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		case <-c.commands.stopping.Done():
			answerJSON(w, http.StatusConflict, controlError{"the gateway is stopping"})
			return
		}
	}
}

// failJoin tells a command why it has no endpoint.
func (c *Control) failJoin(w http.ResponseWriter, err error) {
	if e, is := errors.AsType[JoinError](err); is {
		answerJSON(w, http.StatusConflict, joinFailure{Error: e.Problem, Unreachable: true})
		return
	}
	if e, is := errors.AsType[termination.FieldError](err); is {
		err = termination.ValidationError{e}
	}
	c.fail(w, err)
}

func newCommands() commands {
	ctx, cancel := context.WithCancel(context.Background())
	return commands{joined: map[string]*command{}, stopping: ctx, stop: cancel}
}

// enter takes a place, and reports whether there is one.
func (c *commands) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.places >= maxCommands || c.stopping.Err() != nil {
		return false
	}
	c.places++
	return true
}

func (c *commands) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.places--
}

func (c *commands) add(id string, own *command) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.joined[id] = own
}

func (c *commands) remove(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.joined, id)
}

func (c *commands) watch() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watching >= maxWatching {
		return false
	}
	c.watching++
	return true
}

func (c *commands) unwatch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watching--
}
