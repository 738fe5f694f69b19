package tlstest

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
)

// ticketAcross: Alice, who may enter the staff endpoint, takes its ticket to the
// vault.
func (r *raid) ticketAcross() {
	for _, version := range versions() {
		for _, protocol := range protocols() {
			cache := newOneTicket()
			if !r.takeTicket(cache, version, protocol) {
				continue
			}
			variant := fmt.Sprintf("%s, %s", tls.VersionName(version), protocol)
			r.attempt(variant, at(VaultName), func() {
				config := r.client(VaultName, version, protocol, r.world.Alice)
				config.ClientSessionCache = cache
				r.get(config, VaultName, "/")
			})
		}
	}
}

// ticketAfterChange: Alice keeps a ticket of the staff endpoint and comes back with
// it when she may no longer enter.
func (r *raid) ticketAfterChange() {
	type kept struct {
		version  uint16
		protocol string
		cache    oneTicket
	}
	var tickets []kept
	for _, version := range versions() {
		for _, protocol := range protocols() {
			cache := newOneTicket()
			if r.takeTicket(cache, version, protocol) {
				tickets = append(tickets, kept{version, protocol, cache})
			}
		}
	}
	r.target.Tighten()
	for _, k := range tickets {
		variant := fmt.Sprintf("%s, %s", tls.VersionName(k.version), k.protocol)
		r.attempt(variant, at(StaffName), func() {
			config := r.client(StaffName, k.version, k.protocol, r.world.Alice)
			config.ClientSessionCache = k.cache
			r.get(config, StaffName, "/")
		})
	}
}

// takeTicket lets Alice enter the staff endpoint and keep a ticket. A server that
// gives none is safe from attacks by tickets.
func (r *raid) takeTicket(cache oneTicket, version uint16, protocol string) bool {
	r.t.Helper()
	config := r.client(StaffName, version, protocol, r.world.Alice)
	config.ClientSessionCache = cache
	if status, err := r.get(config, StaffName, "/"); err != nil {
		r.t.Fatalf("alice is not served at the staff endpoint: status %d, %v", status, err)
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
