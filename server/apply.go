package server

import (
	"context"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
)

// Change is the one way to change the configuration: mutate writes, the whole is loaded, validated and compiled in the
// same transaction, committed, and then served. Nothing is stored that could not be served, and nothing else calls the
// gateway's Apply, so that revisions enter it in the order in which they were committed.
func (s *Server) Change(ctx context.Context, actor store.Actor, mutate func(*store.Tx) error) (*termination.Config, error) {
	s.applying.Lock()
	defer s.applying.Unlock()
	before, policies := s.current(), s.policyHashes()
	config, problems, err := s.store.Change(ctx, actor, mutate, s.gateway.Prepare)
	if err != nil {
		return nil, err
	}
	if err := s.serve(ctx, config, problems); err != nil {
		return config, err
	}
	s.proveChanged(before, config, policies)
	return config, nil
}

// Load puts what the store holds into force. It is called once at the start, before Serve.
func (s *Server) Load(ctx context.Context) error {
	s.applying.Lock()
	defer s.applying.Unlock()
	config, problems, err := s.store.Load(ctx)
	if err != nil {
		return fmt.Errorf("load the configuration: %w", err)
	}
	return s.serve(ctx, config, problems)
}

// serve hands a configuration that is stored to the gateway. The end of a request is no reason to break off.
func (s *Server) serve(ctx context.Context, config *termination.Config, problems []store.Problem) error {
	for _, p := range problems {
		s.log.Warn("something in the store cannot be used", "problem", p.Error())
	}
	s.problems.Store(&problems)
	if err := s.gateway.Apply(context.WithoutCancel(ctx), config); err != nil {
		return &Problem{
			Status: http.StatusInternalServerError, Code: "not_in_force", Title: "The change is saved, but not in force",
			Advice: "What ran before runs on. Restart the gateway to serve what is saved; the log says why it could not be done now.",
			Err:    fmt.Errorf("apply revision %d: %w", config.Revision, err),
		}
	}
	return nil
}

// change is [Server.Change] for the user of a request.
func (s *Server) change(c echo.Context, mutate func(*store.Tx) error) (*termination.Config, error) {
	return s.Change(c.Request().Context(), actorOf(c), mutate)
}

// current is the configuration in force. It must not be changed.
func (s *Server) current() *termination.Config { return s.gateway.Config() }
