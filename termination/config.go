package termination

// Config is the complete wanted configuration. The gateway takes it as a whole or not at all; it is never changed
// after it was handed over.
type Config struct {
	Revision     uint64
	Node         string // identifies the gateway that records a handshake
	Authorities  []Authority
	Certificates []Certificate
	LocalCAs     []LocalCA // able to issue server certificates; the first that may sign a name does
	Defaults     Defaults
	Endpoints    []Endpoint
	Limits       Limits
}

// Defaults are trusted by every endpoint that verifies, unless it says Inherit: false.
type Defaults struct {
	Authorities []string
	Pins        []Pin
}

// Authority returns the authority of that name, or nil.
func (c *Config) Authority(name string) *Authority {
	for i := range c.Authorities {
		if c.Authorities[i].Name == name {
			return &c.Authorities[i]
		}
	}
	return nil
}

// Certificate returns the server certificate of that name, or nil.
func (c *Config) Certificate(name string) *Certificate {
	for i := range c.Certificates {
		if c.Certificates[i].Name == name {
			return &c.Certificates[i]
		}
	}
	return nil
}

// Endpoint returns the endpoint of that name, or nil.
func (c *Config) Endpoint(name string) *Endpoint {
	for i := range c.Endpoints {
		if c.Endpoints[i].Name == name {
			return &c.Endpoints[i]
		}
	}
	return nil
}

// Effective returns a with the defaults' authorities and pins added where it inherits them. A policy that does not
// verify anything inherits nothing.
func (c *Config) Effective(a ClientAuth) ClientAuth {
	if !a.Inherit || a.Mode == ModeOff {
		return a
	}
	out := a
	out.Authorities = union(a.Authorities, c.Defaults.Authorities)
	out.Pins = union(a.Pins, c.Defaults.Pins)
	return out
}

func union[T comparable](a, b []T) []T {
	out := make([]T, 0, len(a)+len(b))
	seen := make(map[T]bool, len(a)+len(b))
	for _, list := range [][]T{a, b} {
		for _, v := range list {
			if !seen[v] {
				seen[v] = true
				out = append(out, v)
			}
		}
	}
	return out
}
