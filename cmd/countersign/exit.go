package main

import (
	"errors"

	"countersign/store"
	"countersign/store/declared"
)

// Exit codes, for scripts. docs/configuration.md lists them too.
const (
	exitDone          = 0
	exitFailed        = 1
	exitUsage         = 2
	exitConfiguration = 3
	exitStore         = 4
	exitAddress       = 5
)

const exitCodesHelp = `
Exit codes: 0 done; 1 failed; 2 wrong command line; 3 configuration file refused, nothing applied;
4 data directory cannot be used (in use, damaged, newer, not ours, open to others, key file); 5 dashboard's address,
or that of a command's endpoint, cannot be opened.
`

var (
	// errUsage is wrapped by every error about the command line itself.
	errUsage = errors.New("wrong command line")
	// errAddress is wrapped when an address cannot be opened: the dashboard's, or that of a command's endpoint.
	errAddress = errors.New("cannot open the address")
	// errAgentDirectory is wrapped when an agent's directory cannot be used.
	errAgentDirectory = errors.New("cannot use the agent's directory")
	// errCutShort says that a second signal ended the program before everything had ended by itself.
	errCutShort = errors.New("ended at once, connections were cut")
)

// exitCode returns the code that stands for an error.
func exitCode(err error) int {
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errDoesNotPass):
		return exitFailed
	case errors.Is(err, errUnreadable):
		return exitUsage
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, errContradicts):
		return exitContradicts
	case errors.Is(err, errNotProven):
		return exitNotProven
	case errors.Is(err, errNotLetIn):
		return exitNotLetIn
	case errors.Is(err, errNotTried):
		return exitNotTried
	case isError[declared.Errors](err):
		return exitConfiguration
	case isError[store.LockedError](err), isError[store.ExposedDirError](err), isError[store.NewerError](err),
		isError[store.ForeignError](err), isError[store.DamagedError](err), isError[store.KeyFileError](err):
		return exitStore
	case errors.Is(err, errAgentDirectory):
		return exitStore
	case errors.Is(err, errAddress):
		return exitAddress
	default:
		return exitFailed
	}
}

func isError[E error](err error) bool {
	_, is := errors.AsType[E](err)
	return is
}
