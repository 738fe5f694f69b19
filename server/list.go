package server

import (
	"net/http"
	"net/url"
	"strconv"

	"countersign/termination"
	"countersign/views"
	"countersign/views/format"
)

// listHref is the address of a list's rows from a number on: filters are names and values in turn, and empty values are
// left out.
func listHref(path string, from int, filters ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(filters); i += 2 {
		if filters[i+1] != "" {
			v.Set(filters[i], filters[i+1])
		}
	}
	if from > 0 {
		v.Set("from", strconv.Itoa(from))
	}
	if len(v) == 0 {
		return path
	}
	return path + "?" + v.Encode()
}

// pageStart reads where a page begins; what is no place in the list is its beginning.
func pageStart(text string, total int) int {
	from, err := strconv.Atoi(text)
	if err != nil || from < 0 || from >= total {
		return 0
	}
	return from
}

// readCursor reads the number below which to go on; empty: from the newest.
func readCursor(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, &Problem{Status: http.StatusBadRequest, Code: "cursor", Title: "That link to older handshakes is damaged", Href: "/live", Link: "Newest handshakes"}
	}
	return n, nil
}

func cursorOf(n uint64) string { return strconv.FormatUint(n, 10) }

// rowsFrom leads from a page with at most rows of a list's total to those beside it; empty where all fit.
func rowsFrom(from, rows, total int, href func(from int) string) views.Rows {
	if total <= rows {
		return views.Rows{}
	}
	end := min(from+rows, total)
	r := views.Rows{Shown: format.Int(from+1) + " to " + format.Int(end) + " of " + format.Int(total)}
	if from > 0 {
		r.Earlier = href(max(from-rows, 0))
	}
	if end < total {
		r.Later = href(end)
	}
	return r
}

// endpointLinks leads to the endpoints of those names, as many as most, and says how many more there are.
func endpointLinks(config *termination.Config, names []string, most int) (links []views.Link, more int) {
	for _, name := range names[:min(len(names), most)] {
		link := views.Link{Label: name, Href: "/endpoints"}
		if e := config.Endpoint(name); e != nil {
			link.Href = endpointPath(e)
		} else if name == termination.EndpointElsewhere {
			link.Label = "an endpoint that is closed"
		}
		links = append(links, link)
	}
	return links, max(len(names)-most, 0)
}
