package expression

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"net/netip"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"countersign/termination"
)

// Input is what an expression is asked about.
type Input struct {
	// Leaf is the client's certificate, proven and verified. Without one every variable under conn.tls.client is empty.
	Leaf       *x509.Certificate
	Authority  string // that vouches for it; empty: a pin does
	Identity   string // that it is known by; empty: none
	ServerName string // in lower case
	Version    uint16 // of TLS
	Peer       netip.Addr
	Now        time.Time
	Request    *Request // nil: there is none yet
}

// Request is what an expression may know of an HTTP request.
type Request struct {
	Method string
	Path   string // as it was matched: decoded and cleaned
	Host   string // as the client sent it, without the port
}

// Variable is a name that expressions may use.
type Variable struct {
	Name string
	Type string // as CEL writes it
	Help string // what it holds
}

// needs says what a variable cannot do without.
type needs uint8

const (
	needsRequest needs = 1 << iota
	needsPeer
	needsTime
	needsVersion
	needsClient
	// claimed: a CA writes it into certificates, and another CA could write the same.
	claimed
	// bound: says whose certificate it is, so that what is claimed is claimed under somebody's name.
	bound
)

// variable is a Variable with its value.
type variable struct {
	name  string
	kind  *cel.Type
	help  string
	needs needs
	value func(*Input) ref.Val
}

const (
	clientRoot  = "conn.tls.client"
	clientShort = "client"
)

// Variables lists the names that expressions may use, but for the short form of those under conn.tls.client.
func Variables() []Variable {
	list := variables()
	out := make([]Variable, len(list))
	for i, v := range list {
		out[i] = Variable{Name: v.name, Type: cel.FormatCELType(v.kind), Help: v.help}
	}
	return out
}

func variables() []variable {
	list := []variable{
		{clientRoot + ".pem", cel.StringType, "the certificate as PEM", needsClient | bound, ofLeaf(func(c *x509.Certificate) string {
			return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
		})},
		{clientRoot + ".fingerprint", cel.StringType, "SHA-256 of the certificate, 64 lower-case hex digits", needsClient | bound, ofLeaf(func(c *x509.Certificate) string {
			return termination.FingerprintOf(c).String()
		})},
		{clientRoot + ".key_fingerprint", cel.StringType, "SHA-256 of its public key", needsClient | bound, ofLeaf(func(c *x509.Certificate) string {
			return termination.KeyFingerprintOf(c).String()
		})},
		{clientRoot + ".serial_number", cel.StringType, "lower-case hex without leading zeros", needsClient | claimed, ofLeaf(termination.SerialOf)},
		{clientRoot + ".signature_algorithm", cel.StringType, "such as ECDSA-SHA256", needsClient, ofLeaf(func(c *x509.Certificate) string {
			return c.SignatureAlgorithm.String()
		})},
		{clientRoot + ".identity", cel.StringType, "name of the identity that it is known by; empty: none", needsClient | bound, func(in *Input) ref.Val { return types.String(in.Identity) }},
		{clientRoot + ".authority", cel.StringType, "name of the authority that vouches for it; empty where a pin does", needsClient | bound, func(in *Input) ref.Val { return types.String(in.Authority) }},
		{clientRoot + ".san.dns_names", stringList(), "its DNS names", needsClient | claimed, ofLeafList(func(c *x509.Certificate) []string { return c.DNSNames })},
		{clientRoot + ".san.email_addresses", stringList(), "its e-mail addresses", needsClient | claimed, ofLeafList(func(c *x509.Certificate) []string { return c.EmailAddresses })},
		{clientRoot + ".san.ip_addresses", stringList(), "its IP addresses", needsClient | claimed, ofLeafList(ipAddresses)},
		{clientRoot + ".san.uris", stringList(), "its URIs, as they stand in the certificate", needsClient | claimed, ofLeafList(termination.URIsOf)},
		{clientRoot + ".validity.not_before", cel.TimestampType, "when it begins", needsClient, ofLeafTime(func(c *x509.Certificate) time.Time { return c.NotBefore })},
		{clientRoot + ".validity.not_after", cel.TimestampType, "when it ends", needsClient, ofLeafTime(func(c *x509.Certificate) time.Time { return c.NotAfter })},
		{clientRoot + ".extensions", cel.ListType(cel.MapType(cel.StringType, cel.DynType)), "its extensions: id, critical, value (bytes)", needsClient | claimed, extensions},
		{"conn.tls.sni", cel.StringType, "the server name that the client asked for, in lower case", 0, func(in *Input) ref.Val { return types.String(in.ServerName) }},
		{"conn.tls.version", cel.StringType, "1.2 or 1.3", needsVersion, func(in *Input) ref.Val { return types.String(versionText(in.Version)) }},
		{"conn.client_ip", cel.StringType, "the client's address; see inCidrRange", needsPeer, func(in *Input) ref.Val { return types.String(in.Peer.Unmap().WithZone("").String()) }},
		{"req.method", cel.StringType, "such as GET; https only", needsRequest, func(in *Input) ref.Val { return types.String(in.Request.Method) }},
		{"req.path", cel.StringType, "path of the request, decoded", needsRequest, func(in *Input) ref.Val { return types.String(in.Request.Path) }},
		{"req.host", cel.StringType, "host of the request, in lower case without a port", needsRequest, func(in *Input) ref.Val { return types.String(in.Request.Host) }},
		{"now", cel.TimestampType, "the time of the decision", needsTime, func(in *Input) ref.Val { return types.Timestamp{Time: in.Now} }},
	}
	for _, n := range [...]struct {
		name string
		der  func(*x509.Certificate) []byte
		help string
	}{
		{"subject", func(c *x509.Certificate) []byte { return c.RawSubject }, "its subject"},
		{"issuer", func(c *x509.Certificate) []byte { return c.RawIssuer }, "its issuer"},
	} {
		list = append(list, nameVariables(clientRoot+"."+n.name, n.help, n.der)...)
	}
	return list
}

// nameVariables are those of a distinguished name: the whole of it, and its parts.
func nameVariables(root, help string, der func(*x509.Certificate) []byte) []variable {
	name := func(c *x509.Certificate) termination.DistinguishedName {
		return termination.ParseDistinguishedName(der(c))
	}
	out := []variable{
		{root, cel.StringType, help + ", as in RFC 2253", needsClient | claimed, ofLeaf(func(c *x509.Certificate) string { return name(c).Text() })},
		{root + ".common_name", cel.StringType, help + "'s common name, the most specific one", needsClient | claimed, ofLeaf(func(c *x509.Certificate) string {
			all := name(c).Values(asn1.ObjectIdentifier{2, 5, 4, 3})
			if len(all) == 0 {
				return ""
			}
			return all[len(all)-1]
		})},
	}
	for _, a := range [...]struct {
		field string
		id    int // below 2.5.4 (X.520)
	}{
		{"country", 6},
		{"locality", 7},
		{"province", 8},
		{"street_address", 9},
		{"organization", 10},
		{"organizational_unit", 11},
		{"postal_code", 17},
	} {
		id := asn1.ObjectIdentifier{2, 5, 4, a.id}
		out = append(out, variable{
			root + "." + a.field, stringList(), help + "'s " + strings.ReplaceAll(a.field, "_", " ") + "s", needsClient | claimed,
			ofLeafList(func(c *x509.Certificate) []string { return name(c).Values(id) }),
		})
	}
	return out
}

func stringList() *cel.Type { return cel.ListType(cel.StringType) }

func ofLeaf(f func(*x509.Certificate) string) func(*Input) ref.Val {
	return func(in *Input) ref.Val {
		if in.Leaf == nil {
			return types.String("")
		}
		return types.String(f(in.Leaf))
	}
}

func ofLeafList(f func(*x509.Certificate) []string) func(*Input) ref.Val {
	return func(in *Input) ref.Val {
		if in.Leaf == nil {
			return types.NewStringList(types.DefaultTypeAdapter, nil)
		}
		return types.NewStringList(types.DefaultTypeAdapter, f(in.Leaf))
	}
}

func ofLeafTime(f func(*x509.Certificate) time.Time) func(*Input) ref.Val {
	return func(in *Input) ref.Val {
		if in.Leaf == nil {
			return types.Timestamp{Time: time.Unix(0, 0).UTC()}
		}
		return types.Timestamp{Time: f(in.Leaf)}
	}
}

func ipAddresses(c *x509.Certificate) []string {
	var out []string
	for _, ip := range c.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			out = append(out, a.Unmap().String())
		}
	}
	return out
}

func extensions(in *Input) ref.Val {
	list := []map[string]any{}
	if in.Leaf != nil {
		for _, e := range in.Leaf.Extensions {
			list = append(list, map[string]any{"id": e.Id.String(), "critical": e.Critical, "value": e.Value})
		}
	}
	return types.NewDynamicList(types.DefaultTypeAdapter, list)
}

func versionText(v uint16) string {
	switch v {
	case 0x0303:
		return "1.2"
	case 0x0304:
		return "1.3"
	}
	return ""
}

// shorten gives the short form of a name under conn.tls.client.
func shorten(name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, clientRoot+".")
	return clientShort + "." + rest, ok
}
