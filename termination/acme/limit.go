package acme

import (
	"context"
	"encoding/json"
	"time"

	"github.com/caddyserver/certmagic"
)

// keptLimit is what is kept of a rate limit, so that a restart does not ask a CA again that said when to come back.
type keptLimit struct {
	Error string    `json:"error"`
	Last  time.Time `json:"last"`
	Next  time.Time `json:"next"`
}

func (j *job) limitKey() string {
	return "limits/" + j.issuer.IssuerKey() + "/" + certmagic.StorageKeys.Safe(j.name)
}

// keepLimit keeps the rate limit that the status tells about. Where it cannot be kept, a restart asks once too often.
func (j *job) keepLimit(ctx context.Context) {
	j.mu.Lock()
	kept := keptLimit{Error: j.status.Error, Last: j.status.LastTry, Next: j.status.NextTry}
	j.mu.Unlock()
	text, err := json.Marshal(kept)
	if err == nil {
		err = j.manager.options.Storage.Put(ctx, j.limitKey(), text)
	}
	if err != nil {
		j.manager.options.Log.Warn("cannot keep when to ask the CA again", "name", j.name, "error", err)
	}
}

// waitOutLimit waits for the end of a rate limit of before the start. It shows what is kept first, and says so by looked:
// nobody else is to wait for that end.
func (j *job) waitOutLimit(ctx context.Context, looked func()) {
	o := j.manager.options
	text, _, err := o.Storage.Get(ctx, j.limitKey())
	if err != nil {
		return // there is none, or it cannot be read: then the CA says it again
	}
	var kept keptLimit
	if err := json.Unmarshal(text, &kept); err != nil || !kept.Next.After(o.Now()) || kept.Next.Sub(o.Now()) > maxBackoff {
		return
	}
	j.show(ctx)
	j.set(func(s *NameStatus) {
		s.State, s.Error, s.LastTry, s.NextTry = StateFailed, kept.Error, kept.Last, kept.Next
	})
	looked()
	j.sleep(ctx, kept.Next)
}
