package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build says which program this is.
type build struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Revision string `json:"revision,omitempty"` // of the sources
	Modified bool   `json:"modified,omitempty"` // the sources differed from the revision
}

func (p *program) versionCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "version", Short: "Print which version this is", Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			b := p.build()
			if asJSON {
				return p.printJSON(b)
			}
			fmt.Fprintf(p.out, "countersign %s\n%s %s\n", b.Version, b.Go, b.Platform)
			if b.Revision != "" {
				fmt.Fprint(p.out, "revision "+b.Revision)
				if b.Modified {
					fmt.Fprint(p.out, ", modified")
				}
				fmt.Fprintln(p.out)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (p *program) build() build {
	b := build{Version: p.version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Revision = s.Value
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
	}
	return b
}
