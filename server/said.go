package server

import (
	"sync"

	"github.com/labstack/echo/v4"

	"countersign/views"
)

// maxSaid bounds what waits to be said to one session, and for how many sessions.
const maxSaid = 64

// said keeps, for each session, what the last action did until the next page says it.
type said struct {
	mu        sync.Mutex
	bySession map[string][]views.Said
}

// say tells the user of this request, on the page that comes next, what was done; tone is "ok", "warn" or "bad".
func (s *Server) say(c echo.Context, tone, text string) {
	u := userOf(c)
	if u == nil || u.id == "" {
		return
	}
	s.said.mu.Lock()
	defer s.said.mu.Unlock()
	list := s.said.bySession[u.id]
	if len(list) >= maxSaid || list == nil && len(s.said.bySession) >= maxSaid {
		return // sessions that never look at a page
	}
	s.said.bySession[u.id] = append(list, views.Said{Tone: tone, Text: text})
}

func (s *Server) takeSaid(u *user) []views.Said {
	s.said.mu.Lock()
	defer s.said.mu.Unlock()
	list := s.said.bySession[u.id]
	delete(s.said.bySession, u.id)
	return list
}
