package views

import (
	"net/url"

	"countersign/views/parts"
)

// SavedLink is a saved view as it stands on the Live page.
type SavedLink struct {
	Name    string
	Filter  string
	Href    string
	Current bool // the page shows it
}

// SavedViews is the page where views are saved, renamed and removed.
type SavedViews struct {
	Name, Filter parts.Input
	Items        []SavedItem
}

// SavedItem is one saved view.
type SavedItem struct {
	ID     string
	Name   string
	Filter string
	Href   string
	By     string
	When   string
	Exact  string
}

// exportHref is where what the filter selects can be had as a file.
func exportHref(kind, filter string) string {
	href := "/live/export." + kind
	if filter != "" {
		href += "?" + url.Values{"f": {filter}}.Encode()
	}
	return href
}
