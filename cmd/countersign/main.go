// Command countersign puts mutual TLS in front of any service and shows every handshake as it happens.
//
// main parses, wires and waits: one file for each subcommand, app.go for the program that `serve` runs.
package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
)

// version is set when a release is built: -ldflags "-X main.version=v1.2.3".
var version = "dev"

// programPath is where this program was started from, links not resolved, so that an upgrade finds what lies there then.
// It is empty when nobody knows.
func programPath() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	named, err := exec.LookPath(os.Args[0])
	if err == nil {
		named, err = filepath.Abs(named)
	}
	if err != nil || !sameFile(named, self) {
		return self // it was started under another name
	}
	return named
}

func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

func main() {
	p := &program{out: os.Stdout, err: os.Stderr, getenv: os.Getenv, version: version, path: programPath(), args: os.Args[1:]}
	os.Exit(p.run(context.Background(), os.Args[1:]))
}
