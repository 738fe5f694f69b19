package server

import (
	"context"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/views"
)

type memorySession struct {
	session session
	begun   time.Time
	seen    time.Time
	said    []views.Said
}

type memorySessions struct {
	mu     sync.Mutex
	byHash map[[32]byte]*memorySession
}

func (s *Server) beginSession(_ context.Context, secret, who string) error {
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	now := s.now()
	s.sessions.byHash[hashSecret(secret)] = &memorySession{session: session{who: who, via: "dashboard", csrf: csrfFor(secret), scope: ScopeAdmin}, begun: now, seen: now}
	return nil
}

func (s *Server) findSession(c echo.Context) (*session, error) {
	cookie, err := c.Cookie(SessionCookie)
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // nobody is signed in
	}
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	m := s.sessions.byHash[hashSecret(cookie.Value)]
	now := s.now()
	if m == nil || now.Sub(m.begun) >= sessionAbsolute || now.Sub(m.seen) >= sessionIdle {
		return nil, nil //nolint:nilnil // nobody is signed in
	}
	m.seen = now
	return &m.session, nil
}

func (s *Server) endSession(_ context.Context, who *session) error {
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	for h, m := range s.sessions.byHash {
		if &m.session == who {
			delete(s.sessions.byHash, h)
		}
	}
	return nil
}

func (s *Server) findToken(context.Context, string) (*session, error) { return nil, nil } //nolint:nilnil // none

func storeProblem(error) *Problem { return nil }

func (s *Server) seenAny() bool { return false }

// say keeps a sentence for the next page of this session.
func (s *Server) say(c echo.Context, tone, text string) {
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	for _, m := range s.sessions.byHash {
		if &m.session == sessionOf(c) {
			m.said = append(m.said, views.Said{Tone: tone, Text: text})
		}
	}
}

func (s *Server) takeSaid(who *session) []views.Said {
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	for _, m := range s.sessions.byHash {
		if &m.session == who {
			said := m.said
			m.said = nil
			return said
		}
	}
	return nil
}
