package termination

import "fmt"

// hygiene refuses levels that are none: [Hygiene.Complete] would take them for the default, which nobody wrote.
func (v *validation) hygiene(e *Endpoint, field string, h Hygiene) {
	for _, c := range h.Checks() {
		switch *c.Level {
		case "", LevelRefuse, LevelWarn, LevelOff:
		default:
			v.add("endpoint", e.Name, field+".hygiene."+c.Key, fmt.Sprintf("%q is unknown", *c.Level), "use refuse, warn or off")
		}
	}
}
