package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"countersign/termination"
)

// Options are what [Open] needs besides the directory. The zero value is usable.
type Options struct {
	Clock      func() time.Time // nil: time.Now
	Passphrase string           // protects the key file; empty: its mode 0600 does
	Log        *slog.Logger     // nil: slog.Default()

	workFactor int // of scrypt, so that tests do not take a second each; 0: age's default
}

// Store keeps the configuration and the history of one gateway in one directory. All methods may be called from
// several goroutines.
type Store struct {
	dir     string
	clock   func() time.Time
	log     *slog.Logger
	lock    *os.File
	config  *database
	records *history
	sealer  *sealer
	seen    agentsSeen
	// identityCertificates are kept between loads.
	identityCertificates atomic.Pointer[parsedCertificates]
	node                 string

	writing chan struct{}   // holds one token; whoever takes it may write to the configuration
	known   map[string]bool // IDs of objects with a problem, guarded by writing
	closed  bool            // guarded by writing

	warningsMu sync.Mutex
	warnings   []Warning
}

// Warning is something that an operator should know, although nothing stopped for it.
type Warning struct {
	Time time.Time
	Text string // what happened, and what to do
}

// Open opens the store in dir and makes what is missing: the directory, the two databases, the key file. It holds the
// directory until Close. Errors that an operator can act upon are typed: [LockedError], [ExposedDirError],
// [NewerError], [ForeignError], [DamagedError], [KeyFileError].
func Open(ctx context.Context, dir string, o Options) (*Store, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find data directory: %w", err)
	}
	lock, err := openDirectory(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, clock: o.Clock, log: o.Log, lock: lock, writing: make(chan struct{}, 1)}
	if err := s.open(ctx, o); err != nil {
		if s.config != nil {
			_ = s.config.close()
		}
		if s.records != nil {
			_ = s.records.close()
		}
		_ = lock.Close()
		return nil, err
	}
	s.writing <- struct{}{}
	if err := s.forgetCommands(ctx); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, o Options) error {
	k := configurationKind()
	steps, err := loadMigrations(k.migrations)
	if err != nil {
		return err
	}
	if s.config, err = openDatabase(ctx, s.dir, k, steps, s.now().UnixMilli()); err != nil {
		return err
	}
	if err := s.openState(ctx, o); err != nil {
		return err
	}
	_, problems, err := s.Load(ctx)
	if resultCode(err) == sqlite3.SQLITE_ERROR {
		// Our statements are right, so the tables are not those that we made.
		return DamagedError{File: s.config.path, Detail: err.Error()}
	}
	if err != nil {
		return err
	}
	s.remember(problems)
	for _, p := range problems {
		s.warn(p.Error())
	}
	if s.records, err = openHistory(ctx, s.dir, s.now, s.warn); err != nil {
		return err
	}
	s.records.startRetention(s.History)
	return nil
}

// openState reads the one row of the store's state and opens the key file. In a new store the key file comes first: a
// crash in between leaves a key file without a store, which the next start takes up.
func (s *Store) openState(ctx context.Context, o Options) error {
	var recipient string
	err := s.config.reader.QueryRowContext(ctx, "SELECT node, recipient FROM state").Scan(&s.node, &recipient)
	fresh := errors.Is(err, sql.ErrNoRows)
	if err != nil && !fresh {
		return fmt.Errorf("read the store's state: %w", err)
	}
	if s.sealer, err = openSealer(s.dir, o.Passphrase, recipient, o.workFactor); err != nil {
		return err
	}
	if s.sealer.notice != "" {
		s.warn(s.sealer.notice)
	}
	if !fresh {
		return nil
	}
	s.node = termination.NewID(termination.PrefixNode, s.now())
	_, err = s.config.writer.ExecContext(ctx, "INSERT INTO state (one, node, revision, recipient) VALUES (1, ?, 0, ?)", s.node, s.sealer.identity.Recipient().String())
	if err != nil {
		return fmt.Errorf("begin the store's state: %w", err)
	}
	return nil
}

// Close ends what the store runs, writes everything to the two database files and lets the directory go. It waits for
// a change that is under way.
func (s *Store) Close() error {
	<-s.writing
	defer func() { s.writing <- struct{}{} }()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.writeSeen(context.Background())
	if cerr := s.records.close(); err == nil {
		err = cerr
	}
	if cerr := s.config.close(); err == nil {
		err = cerr
	}
	if cerr := s.lock.Close(); err == nil {
		err = cerr
	}
	return err
}

// Dir returns the absolute path of the data directory.
func (s *Store) Dir() string { return s.dir }

// Node returns the ID of this gateway, which it keeps for life.
func (s *Store) Node() string { return s.node }

// Warnings returns what an operator should know, oldest first.
func (s *Store) Warnings() []Warning {
	s.warningsMu.Lock()
	defer s.warningsMu.Unlock()
	return append([]Warning(nil), s.warnings...)
}

// maxWarnings bounds the list: something that goes wrong every second must not fill the memory.
const maxWarnings = 50

func (s *Store) warn(text string) {
	s.log.Warn(text)
	s.warningsMu.Lock()
	defer s.warningsMu.Unlock()
	if len(s.warnings) == maxWarnings {
		s.warnings = append(s.warnings[:0], s.warnings[1:]...)
	}
	s.warnings = append(s.warnings, Warning{Time: s.now(), Text: text})
}

func (s *Store) now() time.Time { return s.clock().UTC() }

// acquire waits for the right to write to the configuration.
func (s *Store) acquire(ctx context.Context) error {
	select {
	case <-s.writing:
	case <-ctx.Done():
		return fmt.Errorf("wait for another change to finish: %w", ctx.Err())
	}
	if s.closed {
		s.release()
		return ErrClosed
	}
	return nil
}

func (s *Store) release() { s.writing <- struct{}{} }

// remember keeps the IDs of what could not be read, so that a later change is not blamed for it. The caller holds the
// right to write.
func (s *Store) remember(problems []Problem) {
	s.known = make(map[string]bool, len(problems))
	for _, p := range problems {
		s.known[p.ID] = true
	}
}

func fromMillis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
