package api

import (
	"time"

	"countersign/termination/upstream"
)

// TargetStatus is a target of an upstream as it is right now.
type TargetStatus struct {
	Target      string     `json:"target" example:"http://127.0.0.1:8080"`
	Healthy     bool       `json:"healthy" doc:"No failure is known that was not followed by a success."`
	Since       time.Time  `json:"since" doc:"Since when it is or is not healthy."`
	LastError   string     `json:"last_error,omitempty"`
	LastErrorAt *time.Time `json:"last_error_at,omitempty"`
	InUse       int64      `json:"in_use" doc:"Requests, or connections of raw bytes, that are under way."`
}

func targetOf(t upstream.TargetStatus) TargetStatus {
	out := TargetStatus{Target: t.Target, Healthy: t.Healthy, Since: t.Since, LastError: t.LastError, InUse: t.InUse}
	if !t.LastErrorAt.IsZero() {
		out.LastErrorAt = &t.LastErrorAt
	}
	return out
}
