package views

import (
	"strconv"
	"strings"

	"countersign/views/format"
	"countersign/views/parts"
)

// Endpoints is what the list of endpoints shows.
type Endpoints struct {
	List    []EndpointRow
	Example EndpointExample
}

// EndpointExample is a first endpoint that works as it stands.
type EndpointExample struct {
	Name, Host, Port, Mode, Authority string
	MakeCA                            bool // a local CA is made with it
}

// EndpointHead is what is said of an endpoint in the list and at the top of its own pages.
type EndpointHead struct {
	Name        string
	Href        string
	URL         string
	Open        bool // a browser can open it
	State       string
	Mark        string // the shape that says the same as the tone
	StateTone   parts.Tone
	Problem     string // why it does not listen and what to do; empty: nothing is wrong
	Stopped     bool
	StoppedBy   string
	StoppedAt   string
	ReadOnly    bool // the configuration file declares it, or a command made it
	Demo        bool // made at the first start
	Command     bool // made by a command, ends with it
	Rate        string
	Spark       Spark
	Failed      uint64 // in the last 15 minutes
	Counted     string // since when it is counted, where that is shorter; empty: it is not
	FailedHref  string
	LiveHref    string
	Connections int
}

// Period is what its numbers are of, in words.
func (h EndpointHead) Period() string {
	if h.Counted != "" {
		return h.Counted
	}
	return "in 15 min"
}

// EndpointRow is one endpoint of the list.
type EndpointRow struct {
	Head        EndpointHead
	Path        parts.Path
	Policy      string // who may come in
	Trust       string // by what
	Upstream    string
	Certificate string // how long it lives
	Warnings    []EndpointWarning
}

// EndpointWarning is something to know about an endpoint.
type EndpointWarning struct {
	Tone parts.Tone
	Text string
}

// Spark is a small curve of counts.
type Spark struct {
	Path  string // of SVG; empty: nothing came
	Words string
}

// SparkOf draws counts of steps of so many seconds.
func SparkOf(counts []uint64, seconds int) Spark {
	var most uint64
	for _, n := range counts {
		most = max(most, n)
	}
	if most == 0 || len(counts) < 2 {
		return Spark{Words: "No handshakes in 15 minutes"}
	}
	var b strings.Builder
	for i, n := range counts {
		x, y := float64(i)*120/float64(len(counts)-1), 18-16*float64(n)/float64(most)
		b.WriteString(map[bool]string{true: "M", false: "L"}[i == 0])
		b.WriteString(strconv.FormatFloat(x, 'f', 0, 64) + " " + strconv.FormatFloat(y, 'f', 1, 64))
	}
	return Spark{Path: b.String(), Words: "Handshakes in 15 minutes, at most " + format.Int(most) + " in " + strconv.Itoa(seconds) + " seconds"}
}

// EndpointForm is the form of an endpoint.
type EndpointForm struct {
	Edit     bool // of one that is there
	Action   string
	ReadOnly bool
	Problems []string // what belongs to no field
	Would    *Rehearsal
	Periods  []parts.Option

	Name, Host, Port, Upstream, Aliases, Listen, UpstreamCA, UpstreamName parts.Input

	Scheme, At           []parts.Option
	AtError              string
	TLS                  TLSForm
	Behind               BehindForm
	Certificates         []Tick
	CertificatesError    string
	Also                 AlsoForm
	OfferCA              string // why a local CA has to be made; empty: it need not
	MakeCA               bool
	Policy               PolicyForm
	Routes               []RouteForm
	RoutesError          string
	MoreOpen, RoutesOpen bool
	Tried                *Tried
}

// TLSForm is what is offered and accepted in TLS, and what comes before it.
type TLSForm struct {
	Preset, Suites, ALPN, StartTLS, ProxyFrom        parts.Input
	Presets, MinVersion, MaxVersion, StartTLSChoices []parts.Option
	VersionError                                     string
	Open                                             bool
}

// BehindForm is how the targets of an upstream are chosen, watched and spoken to.
type BehindForm struct {
	Health, HealthInterval, ConnectTimeout, ResponseTimeout, Proxy, Certificate parts.Input
	Balance, Host, Proxies, Certificates                                        []parts.Option
	Error                                                                       string
	Open                                                                        bool
}

// Tick is a box to tick.
type Tick struct {
	Value   string
	Note    string
	Clients string // how many came of late; empty: not asked
	Ticked  bool
}

// Tried is what a try of the upstream found.
type Tried struct {
	Tone parts.Tone
	Text string
}

// PolicyForm is the form of a client policy.
type PolicyForm struct {
	Modes, MoreModes       []parts.Option
	ModeError              string
	Authorities            []Tick
	AuthoritiesError       string
	Pins, MaxDepth, OnLoss parts.Input
	OnLossChoices          []parts.Option
	Inherit, Announce      bool
	Defaults               string // "one" or how many; empty: there are none
	DefaultNames           []string
	MoreOpen               bool
	Checks                 ChecksForm
}

// ChecksForm is what a client policy checks besides whom it trusts.
type ChecksForm struct {
	Rules                                    RulesForm
	When                                     parts.Input
	Hygiene                                  []HygieneField
	ReportOnly, Soft, Open                   bool
	SoftError, ReportOnlyError, HygieneError string
}

// RulesForm are the rules of a client policy, in rows, or as text where they are many.
type RulesForm struct {
	Rows    []RuleRow
	Text    parts.Input
	AsText  bool
	Offered bool // the first came with a link, and is not saved
	Error   string
}

// RuleRow is one rule.
type RuleRow struct {
	Number, Index                  string // from 1, and from 0
	Filled, First, Last            bool
	Weak                           bool // goes by the common name
	Effect, Kind, Value, Authority parts.Input
	Effects, Kinds, Authorities    []parts.Option
}

// HygieneField is one check of hygiene.
type HygieneField struct {
	Input  parts.Input
	Levels []parts.Option
}

// AlsoForm is what an endpoint demands besides its client policy, and what its service is told.
type AlsoForm struct {
	AllOf, AnyOf, Formats []Tick
	Headers               parts.Input
	Strip, Verbose, Open  bool
	Error, ForwardError   string
}

// RouteForm is one row of routes.
type RouteForm struct {
	Number                                                      int
	Path, Mode, Authorities, Upstream, UpstreamName, UpstreamCA parts.Input
	Modes                                                       []parts.Option
	Inherit                                                     string // name of the box
	Inherits                                                    bool
	Strip                                                       string // name of the box
	Strips                                                      bool
}
