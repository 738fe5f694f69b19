package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"countersign/server/client"
)

// until is a context whose deadline passes when the test says so.
type until struct {
	context.Context
	passed chan struct{}
}

func (u until) Done() <-chan struct{} { return u.passed }

func (u until) Err() error {
	select {
	case <-u.passed:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// A history that is too slow, or holds nothing that the filter selects for as long as anybody waits, is said and does not end tail.
func TestTailGoesOnWithoutAHistory(t *testing.T) {
	for answer, want := range map[string]string{
		"": "begins without it",
		`{"items":[],"cursor":"x","searched_until":"2026-11-22T13:40:00Z"}`: "searched back to " + time.Date(2026, 11, 22, 13, 40, 0, 0, time.UTC).Local().Format(time.DateTime),
	} {
		ctx := until{t.Context(), make(chan struct{})}
		asked := 0
		gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if asked++; asked == 1 && answer != "" {
				_, _ = io.WriteString(w, answer)
				return
			}
			close(ctx.passed)
			<-r.Context().Done()
		}))
		c, err := client.New(client.Options{URL: gateway.URL})
		if err != nil {
			t.Fatal(err)
		}
		var out, said bytes.Buffer
		tail := &tail{client: c, most: tailLines, rows: &jsonRows{out: &out}, said: &said}
		if err := tail.recorded(ctx); err != nil || out.Len() != 0 || !strings.Contains(said.String(), want) {
			t.Errorf("after %q: %v, said %q, printed %q", answer, err, said.String(), out.String())
		}
		gateway.Close()
	}
}
