package store

import (
	"context"
	"errors"
	"fmt"

	"countersign/termination"
)

// Command is what a command like `countersign http` has for as long as it runs. Nothing else may refer to it.
type Command struct {
	Endpoint    termination.Endpoint
	Authority   *termination.Authority   // of its own; nil: none
	Certificate *termination.Certificate // likewise
}

// CreateCommand adds what a command has, and returns it with its new IDs.
func (tx *Tx) CreateCommand(c Command) (Command, error) {
	tx.command = true
	defer func() { tx.command = false }()
	if c.Authority != nil {
		a := *c.Authority
		a.Origin = termination.OriginCommand
		a, err := tx.CreateAuthority(a)
		if err != nil {
			return c, err
		}
		c.Authority = &a
	}
	if c.Certificate != nil {
		cert := *c.Certificate
		cert.Origin = termination.OriginCommand
		cert, err := tx.CreateCertificate(cert, SourceFile)
		if err != nil {
			return c, err
		}
		c.Certificate = &cert
	}
	c.Endpoint.Origin = termination.OriginCommand
	var err error
	c.Endpoint, err = tx.CreateEndpoint(c.Endpoint)
	return c, err
}

// DeleteCommand removes what CreateCommand has returned, as far as it is there.
func (tx *Tx) DeleteCommand(c Command) error {
	own := []commandObject{{KindEndpoint, c.Endpoint.ID}}
	if c.Certificate != nil {
		own = append(own, commandObject{KindCertificate, c.Certificate.ID})
	}
	if c.Authority != nil {
		own = append(own, commandObject{KindAuthority, c.Authority.ID})
	}
	return tx.deleteCommandObjects(own)
}

// commandObject is something that a command made.
type commandObject struct{ kind, id string }

// deleteCommandObjects removes objects, those that refer to others first.
func (tx *Tx) deleteCommandObjects(list []commandObject) error {
	tx.command = true
	defer func() { tx.command = false }()
	remove := map[string]func(string) error{KindEndpoint: tx.DeleteEndpoint, KindCertificate: tx.DeleteCertificate, KindAuthority: tx.DeleteAuthority}
	for _, o := range list {
		err := remove[o.kind](o.id)
		if _, gone := errors.AsType[NotFoundError](err); err != nil && !gone {
			return err
		}
	}
	return nil
}

// forgetCommands removes what commands have left of a gateway that did not end by itself: whoever opens the store has it
// alone, so they have ended too.
func (s *Store) forgetCommands(ctx context.Context) error {
	var left []commandObject
	for _, kind := range []string{KindEndpoint, KindCertificate, KindAuthority} {
		meta, err := s.Meta(ctx, kind)
		if err != nil {
			return err
		}
		for id, m := range meta {
			if m.Origin == termination.OriginCommand {
				left = append(left, commandObject{kind, id})
			}
		}
	}
	if len(left) == 0 {
		return nil
	}
	_, _, err := s.Change(ctx, Actor{Name: "start", Via: "start"}, func(tx *Tx) error { return tx.deleteCommandObjects(left) }, nil)
	if err != nil {
		return fmt.Errorf("remove what commands have left behind: %w", err)
	}
	return nil
}
