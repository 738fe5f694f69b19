package views

import "countersign/views/parts"

// TargetLine is a target of an upstream as it is right now.
type TargetLine struct {
	Target  string
	Tone    parts.Tone
	State   string // "no failure seen", "does not answer since 14:02"
	Now     string // what is under way
	Error   string // the last failure, while it does not answer
	ErrorAt string
}
