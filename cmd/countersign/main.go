// Command countersign puts mutual TLS in front of any service and shows every handshake as it happens.
//
// main parses, wires and waits: one file for each subcommand, app.go for the program that `serve` runs.
package main

import (
	"context"
	"os"
)

// version is set when a release is built: -ldflags "-X main.version=v1.2.3".
var version = "dev"

func main() {
	p := &program{out: os.Stdout, err: os.Stderr, getenv: os.Getenv, version: version}
	os.Exit(p.run(context.Background(), os.Args[1:]))
}
