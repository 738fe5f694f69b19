//go:build !unix

package main

import "os"

// upgradeSignal asks for an upgrade. There is no such signal here; the command says so.
func upgradeSignal() os.Signal { return os.Kill }

func receive(descriptor int, name string) *os.File { return os.NewFile(uintptr(descriptor), name) }
