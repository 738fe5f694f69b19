package tunnel

import (
	"context"
	"sync"
	"time"

	"countersign/termination"
)

// rejoinTime is how long clients wait for an agent whose tunnel broke, and for those that were online before the
// gateway was started: by then an agent that is well is back. See retryMost.
const rejoinTime = 4 * time.Second

// rejoining knows which agents may be back in a moment.
type rejoining struct {
	registry Registry
	started  time.Time

	mu      sync.Mutex
	came    chan struct{}        // closed, and replaced, when an agent is ready
	losses  map[string]time.Time // by endpoint: when an agent's tunnel broke
	expects map[string]bool      // what the registry has said since the start
}

func newRejoining(r Registry) rejoining {
	return rejoining{registry: r, started: time.Now(), came: make(chan struct{}), losses: map[string]time.Time{}, expects: map[string]bool{}}
}

// arrivals is closed when an agent becomes ready after the call.
func (j *rejoining) arrivals() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.came
}

func (j *rejoining) arrived() {
	j.mu.Lock()
	defer j.mu.Unlock()
	close(j.came)
	j.came = make(chan struct{})
}

func (j *rejoining) lost(endpointID string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.losses[endpointID] = time.Now()
}

// keep forgets endpoints that are no more.
func (j *rejoining) keep(config *termination.Config) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for id := range j.losses {
		if agentEndpoint(config, func(e *termination.Endpoint) bool { return e.ID == id }) == nil {
			delete(j.losses, id)
		}
	}
}

// wait waits for an agent to become ready, if one of the endpoint may be back in a moment. It reports whether looking
// again makes sense.
func (j *rejoining) wait(ctx context.Context, endpointID string, came <-chan struct{}) bool {
	left := time.Until(j.until(ctx, endpointID))
	if left <= 0 {
		return false
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-came:
		return true
	case <-timer.C:
		return false
	case <-ctx.Done():
		return false
	}
}

// until is until when an agent may be back.
func (j *rejoining) until(ctx context.Context, endpointID string) time.Time {
	j.mu.Lock()
	until := j.losses[endpointID].Add(rejoinTime)
	expected, known := j.expects[endpointID]
	j.mu.Unlock()
	first := j.started.Add(rejoinTime)
	if j.registry == nil || time.Until(first) <= 0 || first.Before(until) {
		return until
	}
	if !known {
		ctx, cancel := context.WithTimeout(ctx, registryTime)
		defer cancel()
		var err error
		if expected, err = j.registry.Expects(ctx, endpointID); err != nil {
			return until // the clients are refused, as they would be without an agent
		}
		j.mu.Lock()
		j.expects[endpointID] = expected
		j.mu.Unlock()
	}
	if expected {
		return first
	}
	return until
}
