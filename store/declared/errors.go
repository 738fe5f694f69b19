package declared

import (
	"errors"
	"fmt"
	"strings"

	"countersign/termination"
)

// Error is one thing that is wrong with a configuration file.
type Error struct {
	File    string
	Line    int // from 1; 0: the file as a whole
	Column  int
	Problem string // what is wrong
	Advice  string // what to do
}

// Error is "file:line:column: problem; advice", which editors understand.
func (e Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Column > 0 {
		fmt.Fprintf(&b, ":%d", e.Column)
	}
	b.WriteString(": " + e.Problem)
	if e.Advice != "" {
		b.WriteString("; " + e.Advice)
	}
	return b.String()
}

// Errors is everything that is wrong with a configuration file, in the order of its lines.
type Errors []Error

// Error lists all problems, a line each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Locate adds file and line to what the validation of the whole configuration objects to. What does not stem from the
// file is returned as it is.
func (d *Declaration) Locate(err error) error {
	var invalid termination.ValidationError
	if !errors.As(err, &invalid) {
		return err
	}
	out := make(Errors, 0, len(invalid))
	for _, f := range invalid {
		at := d.find(f)
		problem := fmt.Sprintf("%s %q", f.Kind, f.Name)
		if f.Name == "" {
			problem = f.Kind
		}
		if f.Field != "" {
			problem += ", " + f.Field
		}
		out = append(out, Error{File: d.Path, Line: at.line, Column: at.column, Problem: problem + ": " + f.Problem, Advice: f.Advice})
	}
	return out
}

// find returns the place of a field, or of the nearest thing around it that stands in the file.
func (d *Declaration) find(f termination.FieldError) place {
	for field := f.Field; field != ""; {
		if at, ok := d.places[placeKey(f.Kind, f.Name, field)]; ok {
			return at
		}
		i := strings.LastIndexByte(field, '.')
		if i < 0 {
			break
		}
		field = field[:i]
	}
	return d.places[placeKey(f.Kind, f.Name, "")]
}

func placeKey(kind, name, field string) string { return kind + "\x00" + name + "\x00" + field }
