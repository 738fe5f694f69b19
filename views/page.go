package views

import (
	"countersign/termination"
	"countersign/views/format"
	"countersign/views/parts"
)

// Name is the name of the product.
const Name = "countersign"

// Page is what the frame around every page shows.
type Page struct {
	format.Clock
	Title      string
	User       string // who is signed in; empty: nobody
	CSRF       string // the token that every form of method post holds
	Appearance Appearance
	Nav        []NavItem
	Settings   NavItem
	Status     Status
	Assets     Assets
	Modules    []string // scripts of this page, by their names in static
	Keys       []Key    // what single keys do on this page, beside those of every page
	Said       []Said   // what the last action did
}

// Appearance is how this browser wants its pages.
type Appearance struct {
	Theme   string // "system", "light" or "dark"
	Dense   bool
	KeysOff bool
	UTC     bool
}

// Key says what some keys do.
type Key struct {
	Keys []string // any of them
	Does string
}

// NavItem is one entry of the rail.
type NavItem struct {
	Label   string
	Href    string
	Key     string // pressed after "g"
	Count   string // empty: none
	Current bool
}

// Status is the line at the bottom of every page.
type Status struct {
	Address string
	Store   string // its size; empty: not known
	Keep    string // how long history is kept
	Version string
}

// Assets says where the files of package static are.
type Assets struct {
	URL    func(name string) string
	Sprite string // the drawn symbols, trusted markup
}

// Said is one sentence about what the last action did.
type Said struct {
	Tone string // "ok", "warn" or "bad"
	Text string
}

// htmxConfig keeps htmx from writing a style element, which the policy header forbids.
const htmxConfig = `{"includeIndicatorCSS":false,"history":true,"defaultTimeout":30000}`

// modules lists the scripts of every page, with those of this one before the last: it looks whether they fill the
// status line.
func modules(p Page) []string {
	list := append([]string{"theme.js", "keys.js", "copy.js", "tabs.js", "forms.js"}, p.Modules...)
	if p.User != "" {
		list = append(list, "status.js")
	}
	return list
}

func breakGlyph(beat int) parts.Glyph {
	return parts.GlyphOf(termination.OutcomeRefused, termination.Beat(beat), false)
}

func firstText(w Welcome) string {
	switch {
	case w.Came:
		return "came"
	case w.First != nil:
		return "turned away, try again"
	}
	return "waiting for you"
}
