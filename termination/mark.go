package termination

import "slices"

// Mark is a shape that somebody gave a handshake to find it again. It means what they want it to mean; empty: none.
type Mark string

// The four shapes.
const (
	MarkStar     Mark = "star"
	MarkSquare   Mark = "square"
	MarkTriangle Mark = "triangle"
	MarkDiamond  Mark = "diamond"
)

// Marks lists the shapes in the order in which they are offered.
func Marks() []Mark { return []Mark{MarkStar, MarkSquare, MarkTriangle, MarkDiamond} }

// Known reports whether m is one of the four shapes.
func (m Mark) Known() bool { return slices.Contains(Marks(), m) }

// Symbol draws the shape as a character.
func (m Mark) Symbol() string {
	switch m {
	case MarkStar:
		return "★"
	case MarkSquare:
		return "■"
	case MarkTriangle:
		return "▲"
	case MarkDiamond:
		return "◆"
	}
	return ""
}
