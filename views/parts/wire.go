package parts

import (
	"strconv"
	"strings"

	"countersign/termination"
)

// Station is a party on a wire.
type Station string

// The stations of a wire.
const (
	StationClient   Station = "client"
	StationRing     Station = "ring"     // TLS is opened here
	StationBox      Station = "box"      // plaintext passes
	StationGate     Station = "gate"     // passes sealed; the name is read
	StationUpstream Station = "upstream" // the service
	StationOpener   Station = "opener"   // the service, which opens TLS itself
)

// Stretch is the wire between two stations.
type Stretch struct {
	Sealed bool
	Label  string
}

// Path is a drawn wire: Stations at X, Stretches between them, one fewer.
type Path struct {
	Words     string // the text alternative
	X         []int
	Stations  []Station
	Labels    []string // below the stations; may be shorter
	Stretches []Stretch
	Width     int
	Height    int  // with labels 84, without 52
	Off       bool // drawn in grey: not chosen
}

// Where the parties stand on every path, so that the places where TLS can end compare at a glance.
const (
	ClientX   = 40
	EdgeX     = 275
	AgentX    = 490
	UpstreamX = 700
	PathWidth = 760
)

// PathOf draws where an endpoint's TLS ends.
func PathOf(e *termination.Endpoint) Path {
	sealedBehind := e.Upstream.Scheme == termination.UpstreamHTTPS || e.Upstream.Scheme == termination.UpstreamTLS
	p := Path{X: []int{ClientX, EdgeX, UpstreamX}, Width: PathWidth, Height: 84}
	if e.TerminateAt == termination.AtUpstream {
		p.Stations = []Station{StationClient, StationGate, StationOpener}
		p.Labels = []string{"", "reads the name only", ""}
		p.Stretches = []Stretch{{Sealed: true}, {Sealed: true, Label: "TLS, yours"}}
		p.Words = "Sealed from the client to the upstream; only the server name is read here"
		return p
	}
	p.Stations = []Station{StationClient, StationRing, StationUpstream}
	p.Labels = nil
	inside, front := "plain bytes", "TLS"
	if e.Upstream.HTTP() {
		inside = "plain HTTP"
	}
	if e.ClientAuth.Mode == termination.ModeRequire {
		front = "TLS, client proven"
	}
	where := "edge"
	if e.TerminateAt == termination.AtAgent {
		where = "agent"
	}
	p.Words = "Sealed from the client to the " + where + ", opened at the " + where + ", then " + inside + " to the upstream"
	if sealedBehind {
		inside = "TLS, sealed again"
		p.Words = "Sealed from the client to the " + where + ", opened at the " + where + ", sealed again to the upstream"
	}
	if e.TerminateAt == termination.AtAgent {
		p.X = []int{ClientX, EdgeX, AgentX, UpstreamX}
		p.Stations = []Station{StationClient, StationGate, StationRing, StationUpstream}
		p.Labels = []string{"", "reads the name only", ""}
		p.Stretches = []Stretch{{Sealed: true}, {Sealed: true}, {Sealed: sealedBehind, Label: inside}}
		return p
	}
	if e.Upstream.Scheme == termination.UpstreamBuiltin {
		inside = "inside this process"
	}
	p.Stretches = []Stretch{{Sealed: true, Label: front}, {Sealed: sealedBehind, Label: inside}}
	return p
}

func (p Path) y() int { return 40 - (84-p.height())/2 + (84-p.height())/8 }

func (p Path) height() int {
	if p.Height == 0 {
		return 84
	}
	return p.Height
}

func (p Path) viewBox() string {
	return "0 0 " + strconv.Itoa(p.Width) + " " + strconv.Itoa(p.height())
}

func (p Path) class() string {
	if p.Off {
		return "wire off"
	}
	return "wire"
}

// reach is how far a station's drawing extends from its middle.
func (s Station) reach() int {
	switch s {
	case StationClient:
		return 24
	case StationRing:
		return 20
	case StationOpener:
		return 26
	case StationGate:
		return 0 // the wire goes on through it
	default:
		return 19
	}
}

type span struct{ a, b, y int }

func (p Path) span(i int) span {
	return span{a: p.X[i] + p.Stations[i].reach(), b: p.X[i+1] - p.Stations[i+1].reach(), y: p.y()}
}

// sealed draws the double line with its hatching.
func (s span) sealed() string {
	var b strings.Builder
	line := func(x1, y1, dx, dy int) {
		b.WriteString("M" + strconv.Itoa(x1) + " " + strconv.Itoa(y1) + "l" + strconv.Itoa(dx) + " " + strconv.Itoa(dy))
	}
	line(s.a, s.y-8, s.b-s.a, 0)
	line(s.a, s.y+8, s.b-s.a, 0)
	for x := s.a + 3; x < s.b-8; x += 9 {
		line(x, s.y+7, 8, -14)
	}
	return b.String()
}

func (s span) plain() string {
	return "M" + strconv.Itoa(s.a) + " " + strconv.Itoa(s.y) + "H" + strconv.Itoa(s.b)
}

func (s span) arrow() string {
	return "M" + strconv.Itoa(s.b-7) + " " + strconv.Itoa(s.y-5) + "l7 5-7 5"
}

func (s span) middle() string { return strconv.Itoa((s.a + s.b) / 2) }

func (p Path) at(i int) string {
	return "translate(" + strconv.Itoa(p.X[i]) + " " + strconv.Itoa(p.y()) + ")"
}

func (p Path) labelY() string { return strconv.Itoa(p.height() - 8) }
