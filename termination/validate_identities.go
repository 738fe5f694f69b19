package termination

import (
	"fmt"
	"strings"
)

// Bounds of identities.
const (
	MaxIdentities     = 20_000
	maxIdentityPins   = 100
	maxIdentityPlaces = 200
	maxMatchText      = 1024
	// maxLooseMatches bounds the matches that begin with no exact text: each is compared with each client.
	maxLooseMatches = 1000
	// maxBurst keeps what may be taken at once within what a time can hold.
	maxBurst = 10_000
)

const kindIdentity = "identity"

// identities checks the named clients. Endpoints and authorities are found by maps: there may be many.
func (v *validation) identities() {
	if n := len(v.config.Identities); n > MaxIdentities {
		v.add(kindIdentity, v.config.Identities[MaxIdentities].Name, "name", fmt.Sprintf("there are %d identities", n), fmt.Sprintf("%d at most; trust an authority and match by names instead", MaxIdentities))
		return
	}
	endpoints, authorities := map[string]*Endpoint{}, map[string]bool{}
	for i := range v.config.Endpoints {
		endpoints[v.config.Endpoints[i].Name] = &v.config.Endpoints[i]
	}
	for i := range v.config.Authorities {
		authorities[v.config.Authorities[i].Name] = true
	}
	seen, owners, loose := map[string]bool{}, map[Pin]string{}, 0
	for i := range v.config.Identities {
		identity := &v.config.Identities[i]
		v.name(kindIdentity, identity.Name, seen)
		v.identityPins(identity, owners)
		for _, m := range identity.Matches {
			v.identityMatch(identity, m, authorities)
			if !exactMatch(m) {
				loose++
			}
		}
		if len(identity.Matches) > maxIdentityPins {
			v.add(kindIdentity, identity.Name, "match", fmt.Sprintf("%d matches are too many", len(identity.Matches)), fmt.Sprintf("use %d at most", maxIdentityPins))
		}
		if loose > maxLooseMatches {
			v.add(kindIdentity, identity.Name, "match", fmt.Sprintf("more than %d matches hold no exact uri, dns, email, cn or serial, and each is compared with each client", maxLooseMatches), "write names out, or let rules decide about many at once")
			loose = 0
		}
		v.identityPlaces(identity, endpoints)
		if err := CheckRate(identity.Rate); err != nil {
			v.add(kindIdentity, identity.Name, "rate", err.Error(), "write it as in rate: 50/s and burst: 100")
		}
	}
}

func (v *validation) identityPins(identity *Identity, owners map[Pin]string) {
	if n := len(identity.Pins); n > maxIdentityPins {
		v.add(kindIdentity, identity.Name, "pins", fmt.Sprintf("%d pins are too many for one client", n), fmt.Sprintf("use %d at most, or more identities", maxIdentityPins))
		return
	}
	for _, pin := range identity.Pins {
		other, taken := owners[pin]
		switch {
		case taken && other == identity.Name:
			v.add(kindIdentity, identity.Name, "pins", fmt.Sprintf("%s stands there twice", pin), "remove one")
		case taken:
			v.add(kindIdentity, identity.Name, "pins", fmt.Sprintf("%s is registered for the identity %q already, and a client is one identity", pin, other), "remove it from one of them")
		}
		owners[pin] = identity.Name
	}
}

func (v *validation) identityMatch(identity *Identity, m Subject, authorities map[string]bool) {
	say := func(problem, advice string) { v.add(kindIdentity, identity.Name, "match", problem, advice) }
	switch {
	case m.Pin != nil:
		say("a match goes by names", "write a pin under pins")
	case m.Identity != "":
		say("an identity cannot be known by an identity", "say what its certificate holds, as in uri or cn")
	case m.Authority == "":
		say("it names no authority, and another CA could write the same names", "add authority: to it, the one that issues this client's certificates")
	case !authorities[m.Authority]:
		say(fmt.Sprintf("there is no authority %q", m.Authority), "upload it under Trust, or declare it under authorities")
	case !m.ByName():
		say(fmt.Sprintf("it holds no name, so every client of %s would be this one", m.Authority), "add uri, dns, email, cn, o, ou, ip, serial or issuer")
	}
	for _, f := range m.Fields() {
		if len(*f.Value) > maxMatchText || strings.ContainsRune(*f.Value, 0) {
			say(fmt.Sprintf("%s is no name that a certificate could hold", f.Key), fmt.Sprintf("use %d bytes at most", maxMatchText))
		}
	}
	if m.IP != "" {
		if _, err := ParsePrefix(m.IP); err != nil {
			say(err.Error(), "write an address or a network, as in 10.0.0.0/8")
		}
	}
	if m.Serial != "" {
		if _, err := ParseSerial(m.Serial); err != nil {
			say(err.Error(), "")
		}
	}
}

// exactMatch reports whether a match is found by one of its texts.
func exactMatch(m Subject) bool {
	for _, s := range [...]string{m.URI, m.DNS, m.Email, m.CN, m.Serial} {
		if s != "" && !strings.Contains(s, "*") {
			return true
		}
	}
	return false
}

func (v *validation) identityPlaces(identity *Identity, endpoints map[string]*Endpoint) {
	if n := len(identity.Endpoints); n > maxIdentityPlaces {
		v.add(kindIdentity, identity.Name, "endpoints", fmt.Sprintf("%d endpoints are too many", n), fmt.Sprintf("name %d at most", maxIdentityPlaces))
		return
	}
	for i, name := range identity.Endpoints {
		e := endpoints[name]
		switch {
		case name == EndpointElsewhere: // of an agent's policy: no endpoint can be called so
		case e == nil:
			v.add(kindIdentity, identity.Name, "endpoints", fmt.Sprintf("there is no endpoint %q", name), "create it first, or name another")
		case e.TerminateAt == AtUpstream:
			v.add(kindIdentity, identity.Name, "endpoints", fmt.Sprintf("TLS of %q ends in its service, so nobody here sees its clients' certificates", name), "name an endpoint whose TLS ends at the edge or an agent")
		}
		for _, before := range identity.Endpoints[:i] {
			if before == name {
				v.add(kindIdentity, identity.Name, "endpoints", fmt.Sprintf("%q stands there twice", name), "remove one")
			}
		}
	}
}

// CheckRate refuses a rate that could not be kept.
func CheckRate(r Rate) error {
	switch {
	case r.Count < 0 || r.Burst < 0:
		return fmt.Errorf("a rate and a burst are not negative")
	case !r.Limited() && r.Burst > 0:
		return fmt.Errorf("a burst of %d bounds nothing without a rate", r.Burst)
	case !r.Limited():
		return nil
	case r.Count > maxRate:
		return fmt.Errorf("%d is out of range; use 1 to %d", r.Count, maxRate)
	case r.Burst > max(r.Count, maxBurst):
		return fmt.Errorf("a burst of %d is out of range; use 1 to %d", r.Burst, max(r.Count, maxBurst))
	}
	for _, per := range rateUnits() {
		if r.Per == per {
			return nil
		}
	}
	return fmt.Errorf("its period is %s; a rate is per second, minute, hour or day", r.Per)
}

// awaits reports whether an identity lets clients into an endpoint by itself: by its pins, or by those that it will get.
func (v *validation) awaits(endpoint string) bool {
	for i := range v.config.Identities {
		if identity := &v.config.Identities[i]; identity.ByPin() && identity.Knows(endpoint) {
			return true
		}
	}
	return false
}
