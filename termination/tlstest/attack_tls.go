package tlstest

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// ticketAcross: somebody takes a ticket of an endpoint that he may enter to another
// one that he may not.
func (r *raid) ticketAcross() {
	stranger := SelfSigned(CN("bob"))
	for _, way := range []struct {
		name     string
		from, to string
		as       *Cert
	}{
		{"from staff to a pin", StaffName, VaultName, r.world.Alice},
		{"from staff to a rule", StaffName, DeskName, r.world.Alice},
		{"from the lobby to staff", LobbyName, StaffName, stranger},
		{"from the lobby to a pin", LobbyName, VaultName, stranger},
	} {
		for _, version := range versions() {
			for _, protocol := range protocols() {
				cache := newOneTicket()
				if !r.takeTicket(cache, way.from, way.as, version, protocol) {
					continue
				}
				r.attempt(fmt.Sprintf("%s, %s, %s", way.name, tls.VersionName(version), protocol), at(way.to), func() {
					config := r.client(way.to, version, protocol, way.as)
					config.ClientSessionCache = cache
					r.get(config, way.to, "/")
				})
			}
		}
	}
}

// ticketAfterChange: somebody keeps a ticket and comes back with it when he may no
// longer enter; and once more when he may again, but by another policy than that
// under which it was given.
func (r *raid) ticketAfterChange() {
	for _, loss := range r.target.Losses {
		type kept struct {
			name     string
			version  uint16
			protocol string
			cache    oneTicket
			ticket   *tls.ClientSessionState
		}
		var tickets []kept
		if loss.Prepare != nil {
			loss.Prepare()
		}
		for _, version := range versions() {
			for _, protocol := range protocols() {
				cache := newOneTicket()
				if r.takeTicket(cache, loss.Endpoint, loss.As, version, protocol) {
					ticket, _ := cache.Get("")
					tickets = append(tickets, kept{fmt.Sprintf("%s, %s, %s", loss.Name, tls.VersionName(version), protocol), version, protocol, cache, ticket})
				}
			}
		}
		come := func(k kept) (resumed bool) {
			k.cache.Put("", k.ticket)
			config := r.client(loss.Endpoint, k.version, k.protocol, loss.As)
			config.ClientSessionCache = k.cache
			s, err := r.open(config, nil)
			if err != nil {
				return false
			}
			defer s.close()
			s.get(loss.Endpoint, "/", nil)
			return s.conn.ConnectionState().DidResume
		}
		loss.Apply()
		for _, k := range tickets {
			r.attempt(k.name, at(loss.Endpoint), func() { come(k) })
		}
		loss.Undo()
		for _, k := range tickets {
			if come(k) && !loss.Spares {
				r.gotIn = append(r.gotIn, k.name+", with the old ticket")
			}
		}
	}
}

// takeTicket lets somebody enter an endpoint and keep a ticket. A server that gives
// none is safe from attacks by tickets.
func (r *raid) takeTicket(cache oneTicket, endpoint string, as *Cert, version uint16, protocol string) bool {
	r.t.Helper()
	config := r.client(endpoint, version, protocol, as)
	config.ClientSessionCache = cache
	if status, err := r.get(config, endpoint, "/"); err != nil || status != http.StatusOK {
		r.t.Fatalf("%s does not serve whom it should: status %d, %v", endpoint, status, err)
	}
	_, has := cache.Get("")
	return has
}

// systemRoots: a stranger whom any public authority has certified comes when the
// staff endpoint has lost its own.
func (r *raid) systemRoots(public *Cert) {
	if public == nil {
		r.t.Fatal("this attack needs an authority that the system trusts: see TrustedBySystem")
	}
	mallory := public.Client("mallory")
	enter := func(when string) {
		for _, version := range versions() {
			for _, endpoint := range []string{StaffName, VaultName} {
				variant := fmt.Sprintf("%s, %s, %s", when, endpoint, tls.VersionName(version))
				r.attempt(variant, at(endpoint), func() {
					r.get(r.client(endpoint, version, "http/1.1", mallory), endpoint, "/")
				})
			}
		}
	}
	enter("with its authority")
	r.target.Orphan()
	enter("without")
}

// unprovenCertificate: somebody sends Bob's certificate, which is public, after one
// whose key he has.
func (r *raid) unprovenCertificate() {
	w := r.world
	stranger := NewCA(CN("Stranger")).Client("bob")
	for name, pair := range map[string]tls.Certificate{
		"alice, then bob":       w.Alice.TLSWith(w.Bob),
		"a stranger, then bob":  stranger.TLSWith(w.Bob),
		"self-signed, then bob": SelfSigned(CN("bob")).TLSWith(w.Bob, w.ClientCA),
	} {
		for _, version := range versions() {
			for _, endpoint := range []string{StaffName, VaultName} {
				if endpoint == StaffName && name == "alice, then bob" {
					continue // she may enter there
				}
				variant := fmt.Sprintf("%s, %s, %s", name, endpoint, tls.VersionName(version))
				r.attempt(variant, at(endpoint), func() {
					config := r.client(endpoint, version, "http/1.1", nil)
					config.GetClientCertificate = present(pair)
					r.get(config, endpoint, "/")
				})
			}
		}
	}
}

// fragments: a hello for the vault, without a certificate, comes in pieces.
func (r *raid) fragments() {
	var padding []string // makes a hello of some 50 KB
	for range 200 {
		padding = append(padding, strings.Repeat("x", 250))
	}
	for _, version := range versions() {
		for _, size := range []int{1000, 16000} {
			r.attempt(fmt.Sprintf("large, %s, records of %d bytes", tls.VersionName(version), size), at(VaultName), func() {
				config := r.client(VaultName, version, "http/1.1", nil)
				config.NextProtos = append(config.NextProtos, padding...)
				s, err := r.open(config, func(c net.Conn) net.Conn { return &fragmenting{Conn: c, size: size} })
				if err != nil {
					return
				}
				defer s.close()
				s.get(VaultName, "/", nil)
			})
		}
		for _, size := range []int{1, 5, 40, 100} {
			for _, segments := range []bool{false, true} {
				for _, endpoint := range []string{StaffName, VaultName} {
					variant := fmt.Sprintf("%s, %s, records of %d bytes, single bytes %v", endpoint, tls.VersionName(version), size, segments)
					r.attempt(variant, at(endpoint), func() {
						s, err := r.open(r.client(endpoint, version, "http/1.1", nil), func(c net.Conn) net.Conn {
							return &fragmenting{Conn: c, size: size, segments: segments}
						})
						if err != nil {
							return
						}
						defer s.close()
						s.get(endpoint, "/", nil)
					})
				}
			}
		}
	}
}

// noName: the client names no endpoint, or one that does not exist.
func (r *raid) noName() {
	anybody := func(visit) bool { return true }
	for name, serverName := range map[string]string{
		"no name":       "",
		"an IP address": "127.0.0.1", // which crypto/tls does not send
		"unknown":       "nobody.example.test",
		"a parent":      "example.test",
		"a child":       "x." + StaffName,
		"a prefix":      StaffName + ".example.com",
	} {
		for _, version := range versions() {
			for _, endpoint := range []string{OpenName, StaffName, VaultName} {
				variant := fmt.Sprintf("%s, %s, %s", name, endpoint, tls.VersionName(version))
				r.attempt(variant, anybody, func() {
					r.get(r.client(serverName, version, "http/1.1", r.world.Alice), endpoint, "/")
				})
			}
		}
	}
}
