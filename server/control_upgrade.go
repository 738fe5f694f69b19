package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// Bounds of how long each step of an upgrade may take.
const (
	minUpgradePatience = time.Second
	maxUpgradePatience = time.Hour
)

// Upgrade replaces the running program by the one that lies in its place now. Each step of it may take as long as
// patience. When it fails, the running program goes on.
type Upgrade func(ctx context.Context, patience time.Duration) (Upgraded, error)

// Upgraded says who runs after an upgrade.
type Upgraded struct {
	From    string `json:"from"` // version
	To      string `json:"to"`
	Process int    `json:"process"` // ID of the new one
}

type controlUpgradeRequest struct {
	Patience time.Duration `json:"patience_ns"`
}

func (c *Control) upgrade(w http.ResponseWriter, r *http.Request) {
	var ask controlUpgradeRequest
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&ask); err != nil || d.More() || ask.Patience < minUpgradePatience || ask.Patience > maxUpgradePatience {
		answerJSON(w, http.StatusBadRequest, controlError{"the patience of an upgrade is between a second and an hour"})
		return
	}
	if c.server.opts.Upgrade == nil {
		answerJSON(w, http.StatusNotImplemented, controlError{"this gateway cannot be upgraded while it runs"})
		return
	}
	answer := http.NewResponseController(w)
	_ = answer.SetReadDeadline(time.Time{}) // an upgrade takes its time, and has its own bounds
	_ = answer.SetWriteDeadline(time.Time{})
	done, err := c.server.opts.Upgrade(r.Context(), ask.Patience)
	if err != nil {
		answerJSON(w, http.StatusConflict, controlError{err.Error()}) // it was logged
		return
	}
	answerJSON(w, http.StatusCreated, done)
}

// Upgrade asks the gateway to replace itself by the program that lies in its place now, and waits for that. When no
// gateway answers, the error wraps [ErrNoGateway].
func (c *ControlClient) Upgrade(ctx context.Context, patience time.Duration) (Upgraded, error) {
	var answer Upgraded
	err := postTo(ctx, &http.Client{Transport: c.http.Transport}, "/upgrade", controlUpgradeRequest{patience}, &answer)
	if errors.Is(err, context.Canceled) {
		return answer, errors.New("whether the gateway is upgraded was not waited for; its log says")
	}
	return answer, err
}
