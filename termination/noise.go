package termination

// Noise classes what knocks at every open port of a network and is no client of a service. It is recorded and counted
// like everything else; pages fold it, so that it does not bury what a person looks for.
type Noise string

// The classes of noise. What began a ClientHello and sent a wrong one is none: somebody may be trying to make it work.
const (
	NoisePortCheck Noise = "port_check" // connected, and said nothing: port scans, health checks of load balancers
	NoisePlainHTTP Noise = "plain_http" // an HTTP request without TLS
	NoiseScan      Noise = "scan"       // another protocol, or bytes that belong to none
	NoiseHalfHello Noise = "half_hello" // a ClientHello that stops half way
)

// Words says what the class is, in the plural, for a row that stands for several.
func (n Noise) Words() string {
	switch n {
	case NoisePortCheck:
		return "port or health checks"
	case NoisePlainHTTP:
		return "plain HTTP requests"
	case NoiseScan:
		return "knocks in another protocol"
	case NoiseHalfHello:
		return "half ClientHellos"
	}
	return ""
}

// NoiseReasons lists the reasons that noise can have; not every handshake with one of them is noise.
func NoiseReasons() []Reason { return []Reason{ReasonSilent, ReasonNotTLS, ReasonHelloBroken} }
