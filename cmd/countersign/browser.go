package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// redirectFile leads the browser to the sign-in link. A link on a browser's command line could be read by every user of
// the machine in the list of processes; this file only by its owner.
const redirectFile = "sign-in.html"

// openBrowser opens the link in the user's browser.
func openBrowser(_ context.Context, dir, link string) error {
	opener := browserCommand(runtime.GOOS, os.Getenv)
	if opener == nil {
		return nil // there is no browser here, which is no failure
	}
	path, err := writeRedirect(dir, link)
	if err != nil {
		return err
	}
	c := exec.Command(opener[0], append(opener[1:], path)...) // it is to outlive us
	c.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "COUNTERSIGN_") })
	if err := c.Start(); err != nil {
		return fmt.Errorf("open the browser: %w", err)
	}
	go func() { _ = c.Wait() }() // ends with the opener, which hands over to the browser
	return nil
}

// browserCommand returns the program that opens a file in the browser, or nil.
func browserCommand(system string, getenv func(string) string) []string {
	var command []string
	switch system {
	case "darwin":
		command = []string{"open"}
	case "windows":
		command = []string{"rundll32", "url.dll,FileProtocolHandler"}
	default:
		if getenv("DISPLAY") == "" && getenv("WAYLAND_DISPLAY") == "" {
			return nil
		}
		command = []string{"xdg-open"}
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return nil
	}
	command[0] = path
	return command
}

// redirectPage needs no script: a refresh is enough.
const redirectPage = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={{.}}">
<title>Countersign</title><p><a href="{{.}}">To the dashboard</a>
`

// writeRedirect writes the file for the browser and returns its path.
func writeRedirect(dir, link string) (string, error) {
	page, err := template.New("redirect").Parse(redirectPage)
	if err != nil {
		return "", fmt.Errorf("write the page that leads to the dashboard: %w", err)
	}
	var text bytes.Buffer
	if err := page.Execute(&text, link); err != nil {
		return "", fmt.Errorf("write the page that leads to the dashboard: %w", err)
	}
	path := filepath.Join(dir, redirectFile)
	if err := writePrivate(path, text.Bytes()); err != nil {
		return "", err
	}
	return path, nil
}

func removeRedirect(dir string) {
	_ = os.Remove(filepath.Join(dir, redirectFile)) // most often there is none
}

// writePrivate writes a file that its owner alone can read, whole or not at all.
func writePrivate(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // of mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// isTerminal reports whether a person looks at the file. /dev/null is a device too, but nobody looks at it.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
