package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"countersign/termination"
)

// Bounds of saved views.
const (
	MaxSavedViews    = 50 // on one gateway
	MaxSavedViewName = 40 // characters
)

const selectSavedViews = "SELECT id, name, filter, created, created_by FROM saved_views "

// SavedView is a filter of the Live page under a name, for everybody who uses this gateway.
type SavedView struct {
	ID      string
	Name    string
	Filter  string // as it was typed; it is read again whenever the view is opened
	Created time.Time
	By      string // who saved it
}

// SavedViews lists all saved views by name.
func (s *Store) SavedViews(ctx context.Context) ([]SavedView, error) {
	rows, err := s.config.reader.QueryContext(ctx, selectSavedViews+"ORDER BY name")
	if err != nil {
		return nil, fmt.Errorf("list saved views: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []SavedView
	for rows.Next() {
		v, err := scanSavedView(rows)
		if err != nil {
			return nil, fmt.Errorf("list saved views: %w", err)
		}
		out = append(out, v)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list saved views: %w", err)
	}
	return out, nil
}

// AddSavedView keeps a filter under a name. A [termination.ValidationError] says what is wrong with either, or that there
// are [MaxSavedViews]; a [NameTakenError] that another view has the name.
func (s *Store) AddSavedView(ctx context.Context, actor Actor, name, filter string) (SavedView, error) {
	v := SavedView{Name: strings.TrimSpace(name), Filter: strings.TrimSpace(filter), By: actor.Name}
	if err := v.check(s.now()); err != nil {
		return v, err
	}
	err := s.changeSavedViews(ctx, actor, func(tx *Tx) error {
		var n int
		if err := tx.sql.QueryRowContext(tx.ctx, "SELECT count(*) FROM saved_views").Scan(&n); err != nil {
			return fmt.Errorf("count saved views: %w", err)
		}
		if n >= MaxSavedViews {
			return fieldError(KindSavedView, v.Name, "name", fmt.Sprintf("there are %d saved views already", MaxSavedViews), "remove one that nobody opens")
		}
		v.ID, v.Created = termination.NewID(termination.PrefixSavedView, tx.now), tx.now
		err := tx.exec("INSERT INTO saved_views (id, name, filter, created, created_by) VALUES (?, ?, ?, ?, ?)", v.ID, v.Name, v.Filter, tx.now.UnixMilli(), v.By)
		if err != nil {
			return saving(KindSavedView, v.Name, err)
		}
		return tx.audit(ActionCreate, KindSavedView, v.ID, v.Name, nil, describeSavedView(v))
	})
	return v, err
}

// UpdateSavedView gives the view with that ID or name another name, another filter, or both; an empty name or a nil filter
// leaves what is there.
func (s *Store) UpdateSavedView(ctx context.Context, actor Actor, ref, name string, filter *string) (SavedView, error) {
	var v SavedView
	err := s.changeSavedViews(ctx, actor, func(tx *Tx) (err error) {
		old, err := tx.savedView(ref)
		if err != nil {
			return err
		}
		v = old
		if name = strings.TrimSpace(name); name != "" {
			v.Name = name
		}
		if filter != nil {
			v.Filter = strings.TrimSpace(*filter)
		}
		if v == old {
			return nil
		}
		if err := v.check(tx.now); err != nil {
			return err
		}
		if err := tx.exec("UPDATE saved_views SET name = ?, filter = ? WHERE id = ?", v.Name, v.Filter, v.ID); err != nil {
			return saving(KindSavedView, v.Name, err)
		}
		return tx.audit(ActionUpdate, KindSavedView, v.ID, v.Name, describeSavedView(old), describeSavedView(v))
	})
	return v, err
}

// RemoveSavedView forgets the view with that ID or name.
func (s *Store) RemoveSavedView(ctx context.Context, actor Actor, ref string) (SavedView, error) {
	var v SavedView
	err := s.changeSavedViews(ctx, actor, func(tx *Tx) (err error) {
		if v, err = tx.savedView(ref); err != nil {
			return err
		}
		if err := tx.exec("DELETE FROM saved_views WHERE id = ?", v.ID); err != nil {
			return fmt.Errorf("remove saved view: %w", err)
		}
		return tx.audit(ActionDelete, KindSavedView, v.ID, v.Name, describeSavedView(v), nil)
	})
	return v, err
}

// changeSavedViews runs f in a transaction. Views are no part of the configuration, so the revision stays.
func (s *Store) changeSavedViews(ctx context.Context, actor Actor, f func(*Tx) error) error {
	if err := actor.check(); err != nil {
		return err
	}
	return s.write(ctx, actor, f)
}

func (tx *Tx) savedView(ref string) (SavedView, error) {
	v, err := scanSavedView(tx.sql.QueryRowContext(tx.ctx, selectSavedViews+"WHERE id = ?1 OR name = ?1 ORDER BY id = ?1 DESC LIMIT 1", ref))
	if errors.Is(err, sql.ErrNoRows) {
		return v, NotFoundError{Kind: KindSavedView, Name: ref}
	}
	if err != nil {
		return v, fmt.Errorf("look for saved view: %w", err)
	}
	return v, nil
}

// check refuses names that deceive, and filters that could not be opened.
func (v SavedView) check(now time.Time) error {
	if v.Name == "" {
		return fieldError(KindSavedView, "", "name", "it has no name", "say in a word or two what it shows")
	}
	if utf8.RuneCountInString(v.Name) > MaxSavedViewName {
		return fieldError(KindSavedView, "", "name", fmt.Sprintf("a name has at most %d characters", MaxSavedViewName), "shorten it")
	}
	if err := checkText("the name", v.Name); err != nil {
		return fieldError(KindSavedView, "", "name", err.Error(), "use letters, digits and signs that can be seen")
	}
	if v.Filter == "" {
		return fieldError(KindSavedView, v.Name, "filter", "it filters nothing", "type a filter first")
	}
	if _, err := termination.ParseFilter(v.Filter, now); err != nil {
		return fieldError(KindSavedView, v.Name, "filter", fmt.Sprintf("the filter is not understood: %v", err), "try it on the Live page first")
	}
	return nil
}

type describedSavedView struct {
	Name   string `json:"name"`
	Filter string `json:"filter"`
}

func describeSavedView(v SavedView) describedSavedView {
	return describedSavedView{Name: v.Name, Filter: v.Filter}
}

func scanSavedView(row scanner) (SavedView, error) {
	var v SavedView
	var created int64
	err := row.Scan(&v.ID, &v.Name, &v.Filter, &created, &v.By)
	v.Created = fromMillis(created)
	return v, err
}
