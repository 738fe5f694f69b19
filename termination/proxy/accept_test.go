package proxy

import "testing"

func TestPreferred(t *testing.T) {
	const text, json, html = "text/plain", "application/json", "text/html"
	for accept, want := range map[string]string{
		"":                 text,
		"*/*":              text,
		"application/json": json,
		"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8": html, // a browser
		"application/json, text/plain, */*":                                          json, // axios
		"text/plain, application/json":                                               text,
		"text/html;q=0.5, application/json;q=0.9":                                    json,
		"text/html;q=0, */*":                                                         text,
		"text/plain;q=0, */*":                                                        json,
		"text/*":                                                                     text,
		"application/*":                                                              json,
		"image/png":                                                                  text,
		"TEXT/HTML":                                                                  html,
		"text/html; charset=utf-8":                                                   html,
		"text/html;q=nonsense":                                                       text,
		"text/html;q=2":                                                              text,
		"text/html;q=-1, application/json":                                           json,
		"text/html;q=NaN":                                                            text,
		",,;;, text/html":                                                            html,
		"*/*;q=0":                                                                    text,
	} {
		var lines []string
		if accept != "" {
			lines = []string{accept}
		}
		if got := preferred(lines, text, json, html); got != want {
			t.Errorf("%q prefers %s, want %s", accept, got, want)
		}
	}
	if got := preferred([]string{"image/png", "text/html"}, text, html); got != html {
		t.Errorf("two lines prefer %s", got)
	}
}

func FuzzPreferred(f *testing.F) {
	f.Add("text/html;q=0.5,*/*")
	f.Fuzz(func(t *testing.T, accept string) {
		switch preferred([]string{accept}, "text/plain", "application/json", "text/html") {
		case "text/plain", "application/json", "text/html":
		default:
			t.Fatal("it is none of the offers")
		}
	})
}
