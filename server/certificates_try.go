package server

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"countersign/termination"
	"countersign/views"
)

// tryOut writes the commands that try a fresh client certificate at an endpoint, and names the local CA that issued what
// the endpoint presents, if one did; false where the endpoint does not ask the client's CA, or speaks no HTTP.
func (i *issuing) tryOut(config *termination.Config, e *termination.Endpoint, ca *termination.LocalCA, base, password string) (t views.TryEndpoint, root *termination.LocalCA, ok bool) {
	policy := config.Effective(e.ClientAuth)
	asked := slices.Contains(policy.Authorities, ca.Name) && policy.Mode != termination.ModeOff
	if !asked || !e.Enabled || e.TerminateAt != termination.AtEdge || e.Scheme != termination.SchemeHTTPS {
		return t, nil, false
	}
	t = views.TryEndpoint{ID: e.ID, Name: e.Name}
	target, resolve := reach(e)
	var options []string
	if root = i.rootOf(config, e); root != nil {
		options = append(options, "--cacert "+shellQuote(rootFile(root, base)))
	} else {
		t.Notes = append(t.Notes, "The endpoint's own certificate comes from no CA here. If curl does not know its CA, name it with --cacert.")
	}
	if resolve != "" {
		options = append(options, "--resolve "+shellQuote(resolve))
	}
	command := func(cert ...string) string {
		return "curl " + strings.Join(slices.Concat(options, cert, []string{shellQuote(target)}), " \\\n     ")
	}
	t.PEM = command("--cert " + shellQuote(base+".pem"))
	t.P12 = command("--cert-type P12", "--cert "+shellQuote(base+".p12:"+password))
	return t, root, true
}

// reach returns the URL under which this machine reaches an endpoint, and what curl must be told about the name's
// address; names below localhost need nothing (RFC 6761, section 6.3).
func reach(e *termination.Endpoint) (target, resolve string) {
	address := e.Listen
	if address.IsUnspecified() {
		address = loopback(address.Is4())
	}
	port := strconv.Itoa(int(e.Port))
	if e.Fallback() {
		return "https://" + net.JoinHostPort(address.String(), port) + "/", ""
	}
	target = e.URL() + "/"
	if e.Host == "localhost" || strings.HasSuffix(e.Host, ".localhost") {
		return target, ""
	}
	text := address.String()
	if address.Is6() {
		text = "[" + text + "]"
	}
	return target, fmt.Sprintf("%s:%s:%s", e.Host, port, text)
}

// rootOf is the local CA that issued what an endpoint presents; nil where none did.
func (i *issuing) rootOf(config *termination.Config, e *termination.Endpoint) *termination.LocalCA {
	for _, status := range i.gateway.Status().Endpoints {
		if status.ID != e.ID || len(status.Leaves) == 0 {
			continue
		}
		for j := range config.LocalCAs {
			if status.Leaves[0].CheckSignatureFrom(config.LocalCAs[j].Certificate) == nil {
				return &config.LocalCAs[j]
			}
		}
	}
	return nil
}

func loopback(four bool) netip.Addr {
	if four {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}
