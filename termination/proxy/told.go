package proxy

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"countersign/termination"
)

const (
	// mostOfHeader bounds one header that tells who the client is, name and value, in bytes. Services that take more than
	// this in one line are rare, and many take 8 KiB.
	mostOfHeader = 16 << 10
	// mostOfIdentity bounds all of them together.
	mostOfIdentity = 32 << 10
	// leftOutHeader names the headers, and parts of headers, that are not told: a service finds none of them, and would
	// otherwise not know why.
	leftOutHeader = "Countersign-Left-Out"
)

// told are the headers that tell who the client is.
type told struct {
	site    *Site
	by      toldBy
	headers []toldHeader
	size    int      // of the headers, in bytes
	leftOut []string // names of headers, or a header and its part, as in X-Forwarded-Client-Cert/Chain
	why     []string // for the operator, of those that have a reason of their own
}

// toldBy is what the headers depend on, beside the site and the certificates of the connection.
type toldBy struct {
	policy   string // hash
	verified string // the value of X-Client-Verify
	asserted bool
}

type toldHeader struct {
	name  string
	value []string // one; shared by all requests of the connection, and changed by none
}

// setIdentity tells the upstream who the client is, in the header sets of the endpoint and in headers of its own.
func (x *exchange) setIdentity(h http.Header) {
	if len(x.site.Endpoint.ForwardIdentity)+len(x.site.headers) == 0 {
		return
	}
	t := x.told()
	if slices.ContainsFunc(x.site.headers, func(own ownHeader) bool { return !own.lasting() }) {
		of := *t
		of.headers, of.leftOut, of.why = slices.Clip(t.headers), slices.Clip(t.leftOut), slices.Clip(t.why)
		t = &of
		x.tellOwn(t, func(own *ownHeader) bool { return !own.lasting() })
	}
	for i := range t.headers {
		h[t.headers[i].name] = t.headers[i].value
	}
	if len(t.leftOut) > 0 {
		h[leftOutHeader] = []string{t.leftOutText()}
		x.noteLeftOut(t)
	}
}

// told returns what the upstream is told of the client. It is made once for a connection, as long as neither the site nor
// what the policy says changes; only headers that depend on the request are made for each.
func (x *exchange) told() *told {
	by := toldBy{x.route.Policy.Hash(), verifyText(x.route.Policy, x.conn, x.client), x.asserted()}
	x.conn.mu.Lock()
	t := x.conn.told
	x.conn.mu.Unlock()
	if t != nil && t.site == x.site && t.by == by {
		return t
	}
	t = x.tell()
	t.site, t.by = x.site, by
	x.conn.mu.Lock()
	x.conn.told = t
	x.conn.mu.Unlock()
	return t
}

// tell makes the headers of all sets in their order. An identity is asserted only for a client that the policy in force
// has verified; that it was not is said by the set "nginx" alone, which has a word for it.
func (x *exchange) tell() *told {
	t := &told{}
	c := &telling{}
	if x.asserted() {
		c.id, c.leaf, c.chain = x.conn.leafIdentity(), x.conn.Handshake.Presented[0], vouched(x.conn.Handshake.Presented[0], x.client.Path)
	}
	for _, format := range x.site.Endpoint.ForwardIdentity {
		var headers []candidate
		switch {
		case format == termination.IdentityNginx:
			headers = c.nginx(verifyText(x.route.Policy, x.conn, x.client))
		case c.leaf == nil:
		case format == termination.IdentityXFCC:
			headers = c.xfcc()
		case format == termination.IdentityRFC9440:
			headers = c.rfc9440()
		case format == termination.IdentityTraefik:
			headers = c.traefik()
		case format == termination.IdentityALB:
			headers = c.alb()
		}
		for _, h := range headers {
			t.add(h)
		}
	}
	x.tellOwn(t, (*ownHeader).lasting)
	return t
}

// vouched is the chain that was verified, leaf first, without its anchor: nobody vouches for what else was presented. Of
// a pinned certificate it is the certificate alone.
func vouched(leaf *x509.Certificate, path []*x509.Certificate) []*x509.Certificate {
	if len(path) < 2 {
		return []*x509.Certificate{leaf}
	}
	return path[:len(path)-1]
}

// candidate is a header that a set would like to tell. A value is told whole or not at all: a certificate, or a list of
// names, that was cut off could mean something else.
type candidate struct {
	name   string
	forms  []form // the best first; one must fit
	beside string // another header without which this one is not told; empty: none
}

// form is a value of a header, and which parts of it are missing.
type form struct {
	value   string
	without []string
}

func plain(name, value string) candidate { return candidate{name: name, forms: []form{{value: value}}} }

// add tells a header in the first of its forms that fits.
func (t *told) add(c candidate) {
	if c.beside != "" && slices.Contains(t.leftOut, c.beside) {
		c.forms = nil
	}
	for _, f := range c.forms {
		n := lineSize(c.name, f.value)
		// Receivers drop a space at the end (RFC 9110, section 5.5), and of a name that ends with "\ " the half of it.
		if n > mostOfHeader || t.size+n > mostOfIdentity || strings.Trim(f.value, " ") != f.value {
			continue
		}
		t.size += n
		t.headers = append(t.headers, toldHeader{c.name, []string{f.value}})
		for _, part := range f.without {
			t.leave(c.name + "/" + part)
		}
		return
	}
	t.leave(c.name)
}

func (t *told) leftOutText() string { return strings.Join(t.leftOut, ", ") }

func (t *told) leave(what string) {
	if !slices.Contains(t.leftOut, what) {
		t.leftOut = append(t.leftOut, what)
	}
}

// lineSize is what a header takes in HTTP/1.1, in bytes.
func lineSize(name, value string) int { return len(name) + len(": \r\n") + len(value) }

// noteLeftOut puts what the upstream is not told into the record, once as long as it is the same.
func (x *exchange) noteLeftOut(t *told) {
	detail := fmt.Sprintf("The service was not told %s: too large for a header, or not to be written in it without doubt.", strings.Join(t.leftOut, ", "))
	if len(t.why) > 0 {
		detail += " " + strings.Join(t.why, "; ") + "."
	}
	x.conn.mu.Lock()
	known := x.conn.leftOut == detail
	x.conn.leftOut = detail
	x.conn.mu.Unlock()
	if !known {
		x.conn.note(Note{Reason: termination.ReasonIdentityLeftOut, Detail: detail})
	}
}
