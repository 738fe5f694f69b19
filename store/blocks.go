package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"countersign/termination"
)

// blockRow is a block as it was read; err says why it cannot be used.
type blockRow struct {
	termination.Block
	authorityID string
	err         error
}

// Block keeps clients out by hand, from now on. A block that is there already is an error that names it. One without an
// origin is the dashboard's.
func (tx *Tx) Block(b termination.Block) (termination.Block, error) {
	if b.Origin == "" {
		b.Origin = termination.OriginDashboard
	}
	if err := termination.CheckBlock(&b); err != nil {
		return b, termination.ValidationError{*err}
	}
	if err := tx.writable(KindBlock, b.String(), b.Origin); err != nil {
		return b, err
	}
	var pin, serial, authority any
	if b.Pin != nil {
		pin = b.Pin.String()
	} else {
		a, err := tx.Authority(b.Authority)
		if err != nil {
			return b, fieldError(KindBlock, b.String(), "authority", fmt.Sprintf("there is no authority %q", b.Authority), "name the one whose CA has issued the certificate")
		}
		b.Authority = a.Name
		serial, authority = b.Serial, a.ID
	}
	b.ID, b.Since, b.By = termination.NewID(termination.PrefixBlock, tx.now), tx.now, tx.actor.Name
	err := tx.exec("INSERT INTO blocks (id, origin, pin, serial, authority_id, why, created, created_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		b.ID, string(b.Origin), pin, serial, authority, b.Why, tx.now.UnixMilli(), b.By)
	if isUnique(err) {
		return b, fieldError(KindBlock, b.String(), "", "is blocked already", "there is nothing to do")
	}
	if err != nil {
		return b, saving(KindBlock, b.String(), err)
	}
	return b, tx.audit(ActionCreate, KindBlock, b.ID, b.String(), nil, describeBlock(b))
}

// Unblock removes the block with that ID.
func (tx *Tx) Unblock(id string) error {
	rows, err := readBlocks(tx.ctx, tx.sql, id)
	if err != nil {
		return err
	}
	if len(rows) == 0 || id == "" {
		return NotFoundError{Kind: KindBlock, Name: id}
	}
	b := rows[0].Block
	if err := tx.writable(KindBlock, b.String(), b.Origin); err != nil {
		return err
	}
	if err := tx.exec("DELETE FROM blocks WHERE id = ?", b.ID); err != nil {
		return saving(KindBlock, b.String(), err)
	}
	return tx.audit(ActionDelete, KindBlock, b.ID, b.String(), describeBlock(b), nil)
}

// replaceDeclaredBlocks makes the blocks of the configuration file equal to what it says. Those that stay keep their time.
func (tx *Tx) replaceDeclaredBlocks(wanted []termination.Block) error {
	rows, err := readBlocks(tx.ctx, tx.sql, "")
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.Origin != termination.OriginFile {
			continue
		}
		same := func(b termination.Block) bool { return b.String() == r.String() && b.Why == r.Why }
		if i := slices.IndexFunc(wanted, same); i >= 0 && r.err == nil {
			wanted = slices.Delete(slices.Clone(wanted), i, i+1)
			continue
		}
		if err := tx.Unblock(r.ID); err != nil {
			return err
		}
	}
	for _, b := range wanted {
		b.Origin = termination.OriginFile
		if _, err := tx.Block(b); err != nil {
			return err
		}
	}
	return nil
}

// readBlocks returns blocks in the order in which they were made: the one with that ID, or, with an empty id, all.
func readBlocks(ctx context.Context, q *sql.Tx, id string) ([]blockRow, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT b.id, b.origin, b.pin, b.serial, b.authority_id, a.name, b.why, b.created, b.created_by
		FROM blocks b LEFT JOIN authorities a ON a.id = b.authority_id WHERE ?1 = '' OR b.id = ?1 ORDER BY b.created, b.id`, id)
	if err != nil {
		return nil, fmt.Errorf("read blocks: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []blockRow
	for rows.Next() {
		var r blockRow
		var pin, serial, authorityID, authority sql.NullString
		var created int64
		if err := rows.Scan(&r.ID, &r.Origin, &pin, &serial, &authorityID, &authority, &r.Why, &created, &r.By); err != nil {
			return nil, fmt.Errorf("read blocks: %w", err)
		}
		r.Serial, r.authorityID, r.Authority, r.Since = serial.String, authorityID.String, authority.String, fromMillis(created)
		if pin.Valid {
			p, err := termination.ParsePin(pin.String)
			if err != nil {
				r.err = errors.New("what it blocks cannot be read")
			}
			r.Pin = &p
		}
		if bad := termination.CheckBlock(&r.Block); bad != nil && r.err == nil {
			r.err = errors.New(bad.Problem)
		}
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read blocks: %w", err)
	}
	return out, nil
}

// blocks puts what is blocked into the configuration. A block that cannot be read must not vanish silently: whom it keeps
// out is not known.
func (l *loader) blocks() error {
	rows, err := readBlocks(l.ctx, l.sql, "")
	if err != nil {
		return err
	}
	for _, r := range rows {
		if why, broken := l.broken[r.authorityID]; broken && r.err == nil {
			r.err = errors.New(why)
		}
		if r.err != nil {
			l.breaksBlock(r.ID, r.err)
			continue
		}
		l.config.Blocked = append(l.config.Blocked, r.Block)
	}
	return nil
}

func (l *loader) breaksBlock(id string, err error) {
	l.problem(KindBlock, id, id, err.Error()+"; endpoints that ask for certificates let nobody in until it is removed, since whom it keeps out is not known")
	l.closeAsking(fmt.Sprintf("the block %s cannot be used", id))
}

// closeAsking closes every endpoint that asks for certificates.
func (l *loader) closeAsking(why string) {
	for i := range l.config.Endpoints {
		if e := &l.config.Endpoints[i]; !l.closed[e.ID] && asksAnywhere(e) {
			l.closeEndpoint(i, why)
		}
	}
}

type describedBlock struct {
	What      string `json:"what"`
	Pin       string `json:"pin,omitempty"`
	Serial    string `json:"serial,omitempty"`
	Authority string `json:"authority,omitempty"`
	Why       string `json:"why"`
}

func describeBlock(b termination.Block) describedBlock {
	d := describedBlock{What: b.String(), Serial: b.Serial, Authority: b.Authority, Why: b.Why}
	if b.Pin != nil {
		d.Pin = b.Pin.String()
	}
	return d
}
