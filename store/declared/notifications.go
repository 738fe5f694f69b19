package declared

import (
	"github.com/goccy/go-yaml/ast"

	"countersign/store"
)

// notifications reads whom to tell of what needs somebody. What is wrong with the values the store says.
func (r *reader) notifications(n ast.Node, d *store.Declared) {
	var out store.Notifications
	note := func(field string, n ast.Node) {
		r.places[placeKey("setting", store.SettingNotifications, field)] = placeOf(n)
	}
	note("", n)
	r.mapping(n, "notifications", map[string]field{
		"webhook": func(n ast.Node) { note("webhook", n); r.text(n, &out.Webhook) },
		"secret":  func(n ast.Node) { note("secret", n); r.text(n, &out.Secret) },
		"kinds": func(n ast.Node) {
			note("kinds", n)
			var kinds []string
			r.texts(n, "kinds", &kinds)
			for _, k := range kinds {
				out.Kinds = append(out.Kinds, store.NoticeKind(k))
			}
		},
	}, nil)
	d.Notifications = &out
}
