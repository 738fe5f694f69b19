package store

import (
	"errors"
	"fmt"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"countersign/termination"
)

// Kinds of objects, as they stand in errors, problems and the audit log.
const (
	KindAuthority   = "authority"
	KindCertificate = "certificate"
	KindLocalCA     = "local CA"
	KindEndpoint    = "endpoint"
	KindDefaults    = "defaults"
	KindSetting     = "setting"
	KindSession     = "session"
	KindToken       = "token"
	KindIssued      = "issued certificate"
	KindHandshake   = "handshake"
	KindClient      = "client" // by its certificate, in the register
	KindAgent       = "agent"
	KindInvitation  = "invitation"
	KindAgentCA     = "agents' CA"
	KindIdentity    = "identity"
	KindBlock       = "block"

	KindRegistration = "invitation of a client"
	KindCredential   = "credential"
	KindSavedView    = "saved view"
)

// NotFoundError says that there is no such object.
type NotFoundError struct {
	Kind string
	Name string // name or ID, as it was asked for
}

func (e NotFoundError) Error() string {
	return fmt.Sprintf("there is no %s %q", e.Kind, e.Name)
}

// AmbiguousError says that a prefix of an ID fits more than one object.
type AmbiguousError struct {
	Kind   string
	Prefix string
}

func (e AmbiguousError) Error() string {
	return fmt.Sprintf("%q fits more than one %s; give more of its ID", e.Prefix, e.Kind)
}

// NameTakenError says that another object of the kind has that name.
type NameTakenError struct {
	Kind string
	Name string
}

func (e NameTakenError) Error() string {
	return fmt.Sprintf("there is another %s named %q; choose another name", e.Kind, e.Name)
}

// InUseError says that an object cannot go because others need it.
type InUseError struct {
	Kind string
	Name string
	By   []string // what needs it, in words: `endpoint "api"`, `route /x of endpoint "api"`, "the defaults"
}

func (e InUseError) Error() string {
	return fmt.Sprintf("%s %q is in use by %s; take it out there first", e.Kind, e.Name, strings.Join(e.By, ", "))
}

// ReadOnlyError says that an object can be changed only where it is declared.
type ReadOnlyError struct {
	Kind   string
	Name   string
	Origin termination.Origin // empty: the configuration file
}

func (e ReadOnlyError) Error() string {
	what := e.Kind
	if e.Name != "" {
		what += fmt.Sprintf(" %q", e.Name)
	}
	if e.Origin == termination.OriginCommand {
		return what + " was made by a command and ends with it; end that command, and run it as you want it"
	}
	return what + " is declared in the configuration file; change it there"
}

// DeclaredTwiceError says that a name stands in the configuration file and in the dashboard.
type DeclaredTwiceError struct {
	Kind string
	Name string
}

func (e DeclaredTwiceError) Error() string {
	return fmt.Sprintf("%s %q is declared in the configuration file, but the dashboard, or a command that runs, has one of that name already; rename or remove one of the two", e.Kind, e.Name)
}

// TextError says that a text cannot be stored.
type TextError struct {
	Field   string
	Problem string
}

func (e TextError) Error() string { return e.Field + " " + e.Problem }

// LockedError says that another process holds the data directory.
type LockedError struct{ Dir string }

func (e LockedError) Error() string {
	return fmt.Sprintf("the data directory %s is in use by another process; stop that one, or choose another directory with --data", e.Dir)
}

// ExposedDirError says that the data directory can be read by others and is not plainly ours to close.
type ExposedDirError struct{ Dir string }

func (e ExposedDirError) Error() string {
	return fmt.Sprintf("the directory %s is open to other users and holds other files; choose a directory of its own with --data, or close it with: chmod 700 %s", e.Dir, e.Dir)
}

// NewerError says that a store was written by a newer version.
type NewerError struct {
	File    string
	Version int // of the file's schema
	Known   int // the newest that this program knows
}

func (e NewerError) Error() string {
	return fmt.Sprintf("%s was written by a newer version of countersign (schema %d, this program knows up to %d); start that version, or restore a backup made before the upgrade", e.File, e.Version, e.Known)
}

// ForeignError says that a file in the store's place is none of ours.
type ForeignError struct {
	File   string
	Detail string
}

func (e ForeignError) Error() string {
	return fmt.Sprintf("%s is no store of countersign (%s); move it away, or choose another directory with --data", e.File, e.Detail)
}

// DamagedError says that the configuration's file cannot be relied upon.
type DamagedError struct {
	File   string
	Detail string
}

func (e DamagedError) Error() string {
	return fmt.Sprintf("%s is damaged (%s); nothing was changed in it. Restore a backup of the data directory, or move the file and its key away to begin anew", e.File, e.Detail)
}

// DiskFullError says that a change could not be written for want of room.
type DiskFullError struct{ File string }

func (e DiskFullError) Error() string {
	return fmt.Sprintf("the disk that holds %s is full; nothing was changed. Make room and try again", e.File)
}

// KeyFileError says that the file that opens sealed private keys is missing, is another store's, or cannot be opened.
type KeyFileError struct {
	File    string
	Problem string
	Advice  string
}

func (e KeyFileError) Error() string {
	return fmt.Sprintf("key file %s: %s; %s", e.File, e.Problem, e.Advice)
}

var (
	// ErrNoSession is returned for a session token that is unknown or has ended.
	ErrNoSession = errors.New("no such session; sign in again with the link that `countersign login` prints")
	// ErrNoLink is returned for a sign-in link that is unknown, used up or has expired.
	ErrNoLink = errors.New("this sign-in link was used already or has expired; print a fresh one with `countersign login`")
	// ErrNoToken is returned for an API token that is unknown or revoked.
	ErrNoToken = errors.New("no such API token, or it was revoked; make one with `countersign token create`")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the store is closed")
)

// resultCode returns the primary SQLite result code in err, or 0.
func resultCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}

// isDamage reports whether err says that a database file is damaged.
func isDamage(err error) bool {
	code := resultCode(err)
	return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
}

// explain makes a typed error of what the disk did to a database file.
func explain(path string, err error) error {
	switch {
	case isDamage(err):
		return DamagedError{File: path, Detail: err.Error()}
	case resultCode(err) == sqlite3.SQLITE_FULL:
		return DiskFullError{File: path}
	}
	return err
}

func isUnique(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && (e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}

func fieldError(kind, name, field, problem, advice string) error {
	return termination.ValidationError{{Kind: kind, Name: name, Field: field, Problem: problem, Advice: advice}}
}
