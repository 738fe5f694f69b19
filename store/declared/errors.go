package declared

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"countersign/store"
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
	b.WriteString(": ")
	if e.Advice == "" {
		b.WriteString(e.Problem)
	} else {
		b.WriteString(strings.TrimSuffix(e.Problem, ".") + "; " + e.Advice)
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

// Warning is something worth knowing about what a configuration file says, although it is applied.
type Warning struct {
	Error

	Strong bool // think about it
}

// Locate adds file and line to what the store and the validation of the whole configuration object to. The result is
// an [Errors]; what does not stem from the file is returned as it is.
func (d *Declaration) Locate(err error) error {
	if invalid, ok := errors.AsType[termination.ValidationError](err); ok {
		out := make(Errors, 0, len(invalid))
		for _, f := range invalid {
			problem := fmt.Sprintf("%s %q", f.Kind, f.Name)
			if f.Name == "" {
				problem = f.Kind
			}
			if f.Field != "" {
				problem += ", " + f.Field
			}
			out = append(out, d.at(d.find(f.Kind, f.Name, f.Field), problem+": "+f.Problem, f.Advice))
		}
		slices.SortStableFunc(out, func(a, b Error) int { return a.Line - b.Line })
		return out
	}
	if twice, ok := errors.AsType[store.DeclaredTwiceError](err); ok {
		return Errors{d.at(d.find(twice.Kind, twice.Name, "name"), fmt.Sprintf("the dashboard has an object of the kind %s named %q already", twice.Kind, twice.Name), "rename or delete one of the two")}
	}
	if inUse, ok := errors.AsType[store.InUseError](err); ok {
		return Errors{d.at(place{}, fmt.Sprintf("%s %q left the file, but is needed by %s", inUse.Kind, inUse.Name, strings.Join(inUse.By, ", ")), "put it back, or take it out there first")}
	}
	return err
}

func (d *Declaration) at(p place, problem, advice string) Error {
	return Error{File: d.Path, Line: p.line, Column: p.column, Problem: problem, Advice: advice}
}

// find returns the place of a field, or of the nearest thing around it that stands in the file.
func (d *Declaration) find(kind, name, field string) place {
	for field != "" {
		if at, ok := d.places[placeKey(kind, name, field)]; ok {
			return at
		}
		if at, ok := d.onlyRoute(kind, name, field); ok {
			return at
		}
		field = field[:max(0, strings.LastIndexByte(field, '.'))]
	}
	return d.places[placeKey(kind, name, "")]
}

// maxRoutes bounds the search for the route that an error is about.
const maxRoutes = 1000

// onlyRoute finds the place of a field of routes when the error does not say of which, and one route alone has it.
func (d *Declaration) onlyRoute(kind, name, field string) (place, bool) {
	rest, ok := strings.CutPrefix(field, "routes.")
	if !ok {
		return place{}, false
	}
	var found place
	n := 0
	for i := range maxRoutes {
		if at, ok := d.places[placeKey(kind, name, routeField(i, rest))]; ok {
			found = at
			n++
		}
	}
	return found, n == 1
}

func routeField(i int, field string) string { return fmt.Sprintf("routes[%d].%s", i, field) }

func placeKey(kind, name, field string) string { return kind + "\x00" + name + "\x00" + field }
