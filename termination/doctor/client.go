package doctor

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
)

// lookAtClient says what can be said of the client's own files before anybody is asked.
func (x *examination) lookAtClient() {
	id, r := x.o.Identity, x.report
	if id == nil {
		r.add("client certificate", Note, "none was given; with one: --cert FILE --key FILE", "")
		return
	}
	leaf := id.Chain[0]
	p := presented(leaf)
	r.Client = &p
	r.add("client certificate", Note, fmt.Sprintf("%q, issued by %q, %s in its file; SHA-256 %s", p.Subject, p.Issuer, company(len(id.Chain)), p.Fingerprint), "")
	if id.Fits() {
		r.add("client key", OK, "it belongs to the certificate", "")
	} else {
		r.add("client key", Bad, "it does not belong to the certificate: nothing is presented with it, as other clients would not", x.keyFix())
	}
	x.dates("client certificate", "the client's certificate", "have it issued anew", leaf)
	if len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		r.add("client use", Bad, "the certificate is not made for clients: its extended key usage lacks clientAuth", "have it issued anew with clientAuth")
	}
	for i, c := range id.Chain[1:] {
		if id.Chain[i].CheckSignatureFrom(c) != nil {
			r.add("client chain", Warn, fmt.Sprintf("certificate %d of the file, %q, did not sign the one before it; servers may not find a chain through it", i+2, subjectOf(c)), "put the file into order: the client's certificate, its issuer, the issuer's issuer")
			return
		}
	}
}

// keyFix looks whether the key belongs to another certificate of the file.
func (x *examination) keyFix() string {
	id := x.o.Identity
	for i, c := range id.Chain[1:] {
		if (&Identity{Chain: []*x509.Certificate{c}, Key: id.Key}).Fits() {
			return fmt.Sprintf("it belongs to certificate %d of the file, %q: put that one first", i+2, subjectOf(c))
		}
	}
	return "find the pair: openssl x509 -noout -pubkey -in CERT and openssl pkey -pubout -in KEY print the same where they belong together"
}

// lookAtRequest says whether the server asks for a certificate, and whether it names the CA of this client's.
func (x *examination) lookAtRequest(a *Attempt) {
	r, id := x.report, x.o.Identity
	if !a.Asked {
		text := "the server asks for no client certificate"
		if id != nil {
			text += ", so none was sent"
		}
		r.add("request", Note, text, "")
		return
	}
	if len(a.Named) == 0 {
		r.add("request", Note, "the server asks for a client certificate and names no CAs", "")
		return
	}
	text := "the server asks for a client certificate from " + quoted(a.Named)
	if id == nil {
		r.add("request", Note, text, "")
		return
	}
	if x.reaches(a) {
		r.add("request", OK, text+", and this client's leads there", "")
		return
	}
	text += fmt.Sprintf("; the file leads to %q, which is not among them", x.leadsTo())
	if a.Sent {
		text += ". Browsers, Java and Go then send nothing; curl and openssl send it all the same, as was done here"
	}
	r.add("request", Warn, text, x.chainFix())
}

// leadsTo is the name of the issuer at which the client's file ends.
func (x *examination) leadsTo() string {
	chain := x.o.Identity.Chain
	return issuerOf(chain[len(chain)-1])
}

// chainFix is for a client whose file leads to no CA that the server names.
func (x *examination) chainFix() string {
	return fmt.Sprintf("use a certificate from a CA that is named; or, if %q is below one of them, add its certificate to the file: cat client.crt intermediate.crt > chain.crt", x.leadsTo())
}

// reaches reports whether a certificate of the client's file was issued by a CA that the server names.
func (x *examination) reaches(a *Attempt) bool {
	return slices.ContainsFunc(x.o.Identity.Chain, func(c *x509.Certificate) bool {
		return slices.ContainsFunc(a.parsed.named, func(name []byte) bool { return bytes.Equal(name, c.RawIssuer) })
	})
}

func quoted(names []string) string {
	out := make([]string, 0, mostNames)
	for _, n := range names[:min(len(names), mostNames)] {
		out = append(out, fmt.Sprintf("%q", n))
	}
	text := strings.Join(out, ", ")
	if n := len(names); n > mostNames {
		text += fmt.Sprintf(" and %d more", n-mostNames)
	}
	return text
}

// decide says how the handshake that counts ended.
func (x *examination) decide(a *Attempt) {
	r := x.report
	switch {
	case a.Alert != nil:
		r.Result, r.RefusedBy = NotLetIn, SideServer
		text, fix := x.alertStory(a)
		r.add("handshake", Bad, text, fix)
	case a.HTTP != nil:
		x.decideHTTP(a.HTTP)
	case a.Error != "":
		r.Result, r.RefusedBy = NotLetIn, SideServer
		text := "the server closed the connection without an alert"
		if a.Finished {
			text += ", after the handshake"
		}
		r.add("handshake", Bad, text+" ("+a.Error+"); if it sent one, it was lost on the way", "ask who runs the server; it may have logged why")
	default:
		r.Result = LetIn
		r.add("handshake", OK, "finished, and the server keeps the connection", "")
	}
	if id := x.o.Identity; id != nil && !id.Fits() && r.Result == LetIn {
		r.Result, r.RefusedBy = NotLetIn, SideClient // with these files nobody comes in as who they name
	}
}

func (x *examination) decideHTTP(h *HTTPAnswer) {
	r := x.report
	said := ""
	if h.Detail != "" {
		said = fmt.Sprintf(", %q", h.Detail)
	}
	refused := func(text, fix string) {
		r.Result, r.RefusedBy = NotLetIn, SideServer
		r.add("handshake", OK, "finished", "")
		r.add("HTTP", Bad, fmt.Sprintf("%d%s: %s", h.Status, said, text), fix)
	}
	switch {
	case h.Status == 421:
		refused("this name is not served on the connection's server name", "connect with the server name that the URL has; if --servername differs from it, leave it out")
	case h.Status == 401:
		refused("the service wants a token or a password besides", "send it, as with curl --oauth2-bearer or --user; doctor sends none")
	case h.Status == 403:
		refused("TLS let the client in, and HTTP did not", "ask who runs the service whether this client may come in")
	case h.Status == 400 && h.Detail != "":
		refused("the server refuses in HTTP what TLS let pass", "give the client a certificate that the server accepts: --cert FILE --key FILE")
	default:
		r.Result = LetIn
		r.add("handshake", OK, "finished", "")
		state := OK
		if h.Status >= 500 {
			state = Warn
		}
		r.add("HTTP", state, fmt.Sprintf("%d%s", h.Status, said), "")
	}
}

// alertWords names an alert.
func alertWords(a *Attempt) string { return fmt.Sprintf("%d %s", a.Alert.Number, a.Alert.Name) }

// alertStory says what an alert means for this client (RFC 8446, section 6.2), and what to do.
func (x *examination) alertStory(a *Attempt) (text, fix string) {
	text = "the server refused with alert " + alertWords(a)
	if a.Finished {
		text += ", after the handshake: in TLS 1.3 a client has finished before the server looks at its certificate, so a tool may have logged success first"
	}
	why, fix := x.alertMeaning(a)
	if why != "" {
		text += ". " + why
	}
	return text, fix
}

func (x *examination) alertMeaning(a *Attempt) (why, fix string) {
	const with = "give the client its certificate and key: --cert FILE --key FILE"
	switch a.Alert.Number {
	case 40, 42, 48, 116:
		if id := x.o.Identity; a.Asked && !a.Sent && id != nil && !id.Fits() {
			return "It demands a client certificate, and none was sent, since the key does not belong to it", "" // what to do stands beside the key
		}
		if a.Asked && !a.Sent {
			return "It demands a client certificate, and none was sent", with
		}
	}
	switch a.Alert.Number {
	case 40:
		return "Nothing in common, or a demand that was not met", "compare versions, cipher suites and groups of both sides"
	case 42, 46:
		return "It does not accept the client's certificate, and does not say why", "look at the server's record of this handshake"
	case 43:
		return "It cannot use a certificate of this kind", "have it issued with another key, or for clients"
	case 44:
		return "It says that the client's certificate was revoked", "have a new one issued"
	case 45:
		why = "It says that the client's certificate is out of date"
		if id := x.o.Identity; id != nil && x.o.Now().After(id.Chain[0].NotAfter) {
			return why, "" // so does this side, with what to do
		}
		return why, "have it issued anew; or compare both clocks"
	case 48:
		why = "It does not know the CA of the client's certificate"
		if id := x.o.Identity; id != nil && len(a.Named) > 0 && !x.reaches(a) {
			return why + ", or a certificate in between is missing: the file leads to " + fmt.Sprintf("%q", x.leadsTo()) + ", and the server names " + quoted(a.Named), x.chainFix()
		}
		return why, "use a certificate from a CA that the server trusts, with its whole chain"
	case 51:
		return "The client did not prove that it has the key", "use the key that belongs to the certificate"
	case 70:
		return "It speaks neither TLS 1.2 nor 1.3", "raise the server's versions; a program that is older than that speaks to it all the same, and should not"
	case 80:
		return "Something failed on its side", "ask who runs the server"
	case 112:
		return "It serves nothing under the name " + x.target.name, "correct the name, or connect by name and not by address: --servername NAME"
	case 120:
		return "It has no application protocol in common", "give what it speaks with --alpn, or allow http/1.1 there"
	}
	return "", ""
}
