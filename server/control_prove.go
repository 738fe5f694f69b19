package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"countersign/termination/proof"
)

// maxProofAnswer bounds the report that a gateway answers with, in bytes.
const maxProofAnswer = 1 << 20

// serveProve proves an endpoint for the command line.
func (c *Control) serveProve(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(proofTime + controlTimeout))
	report, err := c.server.Prove(r.Context(), r.PathValue("ref"))
	if p, is := errors.AsType[*Problem](err); is {
		text := p.Title
		if p.Detail != "" {
			text += ": " + lowerFirst(strings.TrimSuffix(p.Detail, "."))
		}
		if p.Advice != "" {
			text += "; " + lowerFirst(p.Advice)
		}
		answerJSON(w, http.StatusConflict, controlError{text})
		return
	}
	if err != nil {
		c.fail(w, err)
		return
	}
	answerJSON(w, http.StatusCreated, report)
}

// Prove has the gateway prove an endpoint, by name or ID. When no gateway answers, the error wraps [ErrNoGateway].
func (c *ControlClient) Prove(ctx context.Context, ref string) (*proof.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, proofTime+controlTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://countersign/prove/"+url.PathEscape(ref), nil)
	if err != nil {
		return nil, fmt.Errorf("ask the gateway: %w", err)
	}
	res, err := (&http.Client{Transport: c.http.Transport}).Do(r)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w (%w)", ErrNoGateway, err)
	}
	if err != nil {
		return nil, fmt.Errorf("ask the gateway: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	answer := json.NewDecoder(io.LimitReader(res.Body, maxProofAnswer))
	if res.StatusCode != http.StatusCreated {
		var failed controlError
		if answer.Decode(&failed) != nil || failed.Error == "" {
			failed.Error = "the gateway answered " + res.Status
		}
		return nil, errors.New(failed.Error)
	}
	var report proof.Report
	if err := answer.Decode(&report); err != nil {
		return nil, fmt.Errorf("read the gateway's answer: %w", err)
	}
	return &report, nil
}
