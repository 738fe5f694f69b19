//go:build unix

package main

import (
	"os"
	"syscall"
)

// upgradeSignal asks for an upgrade.
func upgradeSignal() os.Signal { return syscall.SIGUSR2 }

// receive makes a descriptor that was passed to this process fit for it: reads of it can be broken off, and what this
// process starts does not get it.
func receive(descriptor int, name string) *os.File {
	syscall.CloseOnExec(descriptor)
	_ = syscall.SetNonblock(descriptor, true) // fails only where nothing was passed
	return os.NewFile(uintptr(descriptor), name)
}
