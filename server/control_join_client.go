package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"syscall"
	"time"
)

const leaveTime = 10 * time.Second

// ErrGatewayGone says that the gateway that a command had joined has ended without a word.
var ErrGatewayGone = errors.New("the gateway has gone away")

// Membership is what a command has joined, and for how long.
type Membership struct {
	Joined
	client *ControlClient
	end    context.CancelFunc
	body   io.ReadCloser
	lines  *bufio.Scanner
}

// Join adds an endpoint for as long as the command runs: until [Membership.Leave], until ctx ends, or until the process
// does. When no gateway answers, the error wraps [ErrNoGateway]; where the endpoint's address cannot be opened it is a
// [JoinError].
func (c *ControlClient) Join(ctx context.Context, ask JoinRequest) (*Membership, error) {
	body, err := json.Marshal(ask)
	if err != nil {
		return nil, fmt.Errorf("ask the gateway: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	m, err := c.join(ctx, body)
	if err != nil {
		cancel()
		return nil, err
	}
	m.end = cancel
	return m, nil
}

func (c *ControlClient) join(ctx context.Context, body []byte) (*Membership, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://countersign/join", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask the gateway: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	// No limit on the whole: the answer lasts as long as the command.
	res, err := (&http.Client{Transport: c.http.Transport}).Do(r)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w (%w)", ErrNoGateway, err)
	}
	if err != nil {
		return nil, fmt.Errorf("ask the gateway: %w", err)
	}
	if res.StatusCode != http.StatusCreated {
		defer func() { _ = res.Body.Close() }()
		var failed joinFailure
		if json.NewDecoder(io.LimitReader(res.Body, controlBody)).Decode(&failed) != nil || failed.Error == "" {
			failed.Error = "the gateway answered " + res.Status
		}
		if failed.Unreachable {
			return nil, JoinError{Problem: failed.Error}
		}
		return nil, errors.New(failed.Error)
	}
	m := &Membership{client: c, body: res.Body, lines: bufio.NewScanner(res.Body)}
	m.lines.Buffer(nil, controlBody)
	first, err := m.Next()
	if err == nil && first.Joined == nil {
		err = errors.New("the gateway answered something else; is it another version? Restart it")
	}
	if err != nil {
		_ = res.Body.Close()
		return nil, err
	}
	m.Joined = *first.Joined
	return m, nil
}

// Next waits for the next line. The error is [ErrGatewayGone] when there is none any more.
func (m *Membership) Next() (JoinLine, error) {
	var line JoinLine
	if !m.lines.Scan() {
		return line, ErrGatewayGone
	}
	if err := json.Unmarshal(m.lines.Bytes(), &line); err != nil {
		return line, fmt.Errorf("read the gateway's answer: %w", err)
	}
	return line, nil
}

// Ready waits until the endpoint's agent is given clients.
func (m *Membership) Ready(ctx context.Context) error {
	return m.client.post(ctx, "/ready/"+m.ID, struct{}{}, &struct{}{})
}

// Leave removes what was joined, and returns when nothing of it is left.
func (m *Membership) Leave(ctx context.Context) error {
	defer func() { m.end(); _ = m.body.Close() }()
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	err := m.client.post(ctx, "/leave/"+m.ID, struct{}{}, &struct{}{})
	if errors.Is(err, ErrNoGateway) {
		return nil // it went first, and takes its endpoints along
	}
	return err
}
