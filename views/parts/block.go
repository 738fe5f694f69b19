package parts

import (
	"context"
	"io"
	"strings"

	"github.com/a-h/templ"

	"countersign/views/format"
)

// Block shows text from a stranger whose line ends are meant, as it is, in a box of its own; what is invisible in it is
// made visible. It is no template because within pre the white space of a template would show.
func Block(s string) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		var b strings.Builder
		b.WriteString(`<pre class="code fold" tabindex="0">`)
		for i, line := range strings.Split(s, "\n") {
			if i > 0 {
				b.WriteByte('\n')
			}
			for _, p := range format.Pieces(line) {
				if p.Hidden {
					b.WriteString(`<span class="hostile">` + templ.EscapeString(p.Text) + `</span>`)
				} else {
					b.WriteString(templ.EscapeString(p.Text))
				}
			}
		}
		b.WriteString("</pre>")
		_, err := io.WriteString(w, b.String())
		return err
	})
}
