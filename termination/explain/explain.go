// Package explain says what something is that a person pasted or dropped: certificates and what surrounds them in any encoding,
// headers of proxies, transcripts, error lines, numbers, a recorded ClientHello. Bytes in, words out: no sockets, no files, and
// nothing is kept.
package explain

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"countersign/termination"
	"countersign/termination/clienterror"
	"countersign/termination/unlock"
)

// Kind says what a finding is.
type Kind string

// The kinds of findings.
const (
	KindCertificate Kind = "certificate"
	KindRequest     Kind = "request"
	KindCRL         Kind = "crl"
	KindKey         Kind = "private_key" // recognised and not read
	KindPublicKey   Kind = "public_key"
	KindLocked      Kind = "locked" // PKCS#12 whose password is missing or wrong
	KindError       Kind = "error"
	KindAlert       Kind = "alert"
	KindFingerprint Kind = "fingerprint"
	KindJA4         Kind = "ja4"
	KindHello       Kind = "client_hello"
	KindHeader      Kind = "header"
	KindUnreadable  Kind = "unreadable" // meant as something, but broken, or of no known kind
	KindOther       Kind = "other"
)

// Fact is one value with its name, and what it means.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"` // hostile text
	Note  string `json:"note,omitempty"`
}

// Group is a group of facts with a sentence about it.
type Group struct {
	Title string `json:"title"`
	Note  string `json:"note"`
	Facts []Fact `json:"facts"`
}

// Finding is one thing in an input. All of its texts may hold a stranger's.
type Finding struct {
	Kind        Kind                    `json:"kind"`
	File        string                  `json:"file,omitempty"` // where it was found, of several
	Title       string                  `json:"title"`          // in words: what it is
	Text        string                  `json:"text,omitempty"`
	Faults      []string                `json:"faults,omitempty"`
	Notes       []string                `json:"notes,omitempty"`
	Do          []string                `json:"do,omitempty"`
	Groups      []Group                 `json:"groups,omitempty"`
	Command     string                  `json:"command,omitempty"` // that says the same
	Filter      string                  `json:"filter,omitempty"`  // of the handshakes that it may stand for
	Fingerprint termination.Fingerprint `json:"fingerprint,omitzero"`
	Certificate *x509.Certificate       `json:"-"`
	FromServer  bool                    `json:"from_server,omitempty"` // a server presented it, in a transcript
}

// Difference is one line of a comparison.
type Difference struct {
	Name  string `json:"name"`
	One   string `json:"one"`
	Other string `json:"other"`
	Same  bool   `json:"same"`
}

// Explained is what an input holds. There is at least one finding.
type Explained struct {
	Findings []Finding    `json:"findings"`
	Compared []Difference `json:"compared,omitempty"` // of two certificates of which neither signed the other
}

// Chain returns the certificates as a client would send them: the first leaf before the CAs that lead on from it.
func (e *Explained) Chain() []*x509.Certificate { return e.chain(true) }

// ClientChain is the same of what a client may present: what a server presented in a transcript is left out.
func (e *Explained) ClientChain() []*x509.Certificate { return e.chain(false) }

func (e *Explained) chain(servers bool) []*x509.Certificate {
	var all []*x509.Certificate
	for i := range e.Findings {
		if f := &e.Findings[i]; f.Certificate != nil && (servers || !f.FromServer) {
			all = append(all, f.Certificate)
		}
	}
	if len(all) == 0 {
		return nil
	}
	leaf := all[0]
	for _, c := range all {
		if !c.BasicConstraintsValid || !c.IsCA {
			leaf = c
			break
		}
	}
	chain := []*x509.Certificate{leaf}
	for len(chain) < len(all) {
		last := chain[len(chain)-1]
		i := slices.IndexFunc(all, func(c *x509.Certificate) bool {
			return !slices.Contains(chain, c) && bytes.Equal(c.RawSubject, last.RawIssuer)
		})
		if i < 0 {
			break
		}
		chain = append(chain, all[i])
	}
	return chain
}

// Has reports whether something of this kind was found.
func (e *Explained) Has(k Kind) bool {
	return slices.ContainsFunc(e.Findings, func(f Finding) bool { return f.Kind == k })
}

// Errors of [Read].
var (
	ErrTooLarge = fmt.Errorf("it is larger than %d KiB", termination.MaxUpload>>10)
	ErrNothing  = errors.New("there is nothing in it")
	ErrUnknown  = errors.New("nothing in it is recognised")
)

// Read says what data is. The password opens a PKCS#12 file, and is otherwise not looked at. A private key anywhere in it is
// recognised and not read, and data is then overwritten with zeros. The error is one of [ErrTooLarge], [ErrNothing] and
// [ErrUnknown], or one of [termination.ReadUpload].
func Read(data []byte, password string, now time.Time) (*Explained, error) {
	switch {
	case len(data) > termination.MaxUpload:
		return nil, ErrTooLarge
	case len(bytes.TrimSpace(data)) == 0:
		return nil, ErrNothing
	}
	out := &Explained{}
	switch {
	case unlock.IsPKCS12(data):
		out.Findings = readPKCS12(data, password, now)
	case isCapture(data):
		out.Findings = readCapture(data)
	case isHello(data):
		out.Findings = readHello(data)
	default:
		if err := out.readText(data, now); err != nil {
			return nil, err
		}
	}
	if len(out.Findings) == 0 {
		return nil, ErrUnknown
	}
	out.compare()
	return out, nil
}

// Join puts together what several files are.
func Join(all ...*Explained) *Explained {
	out := &Explained{}
	for _, e := range all {
		out.Findings = append(out.Findings, e.Findings...)
	}
	out.compare()
	return out
}

// readText reads what may be text, and what [termination.ReadUpload] knows.
func (e *Explained) readText(data []byte, now time.Time) error {
	text := ""
	if utf8.Valid(data) {
		text = strings.TrimSpace(string(data))
		if f, ok := readWord(text); ok {
			e.Findings = append(e.Findings, f)
			return nil
		}
		if f, inner, ok := unwrap(text); ok {
			e.Findings = append(e.Findings, f)
			data = inner
		} else if f, inner, ok := readJWK(text); ok {
			e.Findings = append(e.Findings, f)
			if f.Kind == KindKey {
				clear(data)
				return nil
			}
			data = inner
		}
	}
	if len(data) > 0 {
		upload, err := termination.ReadUpload(data)
		if err != nil {
			return fmt.Errorf("read what was given: %w", err)
		}
		for i := range upload.Items {
			e.Findings = append(e.Findings, readItem(&upload.Items[i], now)...)
		}
	}
	if isTranscript(text) {
		for i := range e.Findings {
			if f := &e.Findings[i]; f.Certificate != nil {
				f.FromServer, f.Notes = true, append(f.Notes, "The server presented it: it is not judged as a client's.")
			}
		}
	}
	// A request is an error line when it is about TLS, else nothing is said of text that surrounds certificates.
	for _, r := range clienterror.Read(errorLines(text)) {
		e.Findings = append(e.Findings, findingOf(r))
	}
	return nil
}

// isTranscript reports whether a text is what openssl s_client prints, whose certificates are the server's.
func isTranscript(text string) bool {
	for line := range strings.Lines(text) {
		if strings.TrimRight(line, "\r\n") == "Server certificate" {
			return true
		}
	}
	return false
}

// errorLines are the lines of a text outside its PEM blocks that may tell of an error, within what [clienterror.Read] reads.
func errorLines(text string) string {
	var b strings.Builder
	inside := false
	for line := range strings.Lines(text) {
		switch {
		case strings.Contains(line, "-----BEGIN "):
			inside = true
		case strings.Contains(line, "-----END "):
			inside = false
		case !inside && len(line) < 2000 && strings.TrimSpace(line) != "" && !strings.Contains(line, "Verify return code: 0") && b.Len()+len(line) < clienterror.MaxText:
			b.WriteString(line)
			if !strings.HasSuffix(line, "\n") {
				b.WriteByte('\n')
			}
		}
	}
	return b.String()
}

func findingOf(r clienterror.Reading) Finding {
	f := Finding{Kind: KindError, Title: r.Meaning, Notes: r.Notes, Do: r.Do, Filter: r.Filter()}
	var facts []Fact
	if r.Line != "" {
		facts = append(facts, Fact{Name: "Line", Value: r.Line})
	}
	if r.Tool != "" {
		facts = append(facts, Fact{Name: "Printed by", Value: r.Tool})
	}
	facts = append(facts, Fact{Name: "At fault", Value: map[clienterror.Fault]string{clienterror.FaultClient: "the client, or how it was called", clienterror.FaultServer: "the server's side", clienterror.FaultNetwork: "not known; perhaps something between"}[r.Fault]})
	if len(r.Reasons) > 0 {
		codes := make([]string, len(r.Reasons))
		for i, c := range r.Reasons {
			codes[i] = string(c)
		}
		facts = append(facts, Fact{Name: "May stand for", Value: strings.Join(codes, ", ")})
	}
	f.Groups = []Group{{Title: "What it says", Facts: facts}}
	return f
}

// readItem explains one thing of an upload.
func readItem(i *termination.UploadItem, now time.Time) []Finding {
	switch i.Kind {
	case termination.UploadPrivateKey:
		return []Finding{{
			Kind: KindKey, Title: "A private key. It was recognised, not read, and is not kept.",
			Text: "Whoever has it can act as its owner. It has now been in one more place than it should.",
			Do:   []string{"Explain the certificate instead: it holds no secret.", "If others could see the key, make a new one and have its certificate issued again."},
		}}
	case termination.UploadRequest:
		return []Finding{readRequest(i)}
	case termination.UploadCRL:
		return readCRLs(i, now)
	case termination.UploadPublicKey, termination.UploadSSHKey:
		return []Finding{{Kind: KindPublicKey, Title: i.Title, Text: i.Message}}
	case termination.UploadText, termination.UploadEmpty:
		return nil
	case termination.UploadUnreadable:
		return []Finding{{Kind: KindUnreadable, Title: i.Title, Text: i.Message}}
	default: // a certificate, or what its reader has words for
	}
	if i.Certificate != nil {
		return []Finding{readCertificate(i, now)}
	}
	return []Finding{{Kind: KindOther, Title: i.Title, Text: i.Message}}
}

func readPKCS12(data []byte, password string, now time.Time) []Finding {
	certificates, err := unlock.Certificates(data, password)
	if err != nil {
		f := Finding{Kind: KindLocked, Title: "A PKCS#12 file that could not be opened", Text: err.Error()}
		if field, ok := errors.AsType[termination.FieldError](err); ok {
			f.Text, f.Do = upper(field.Problem)+".", []string{upper(field.Advice) + "."}
		}
		return []Finding{f}
	}
	out := []Finding{{Kind: KindOther, Title: fmt.Sprintf("A PKCS#12 file with %d certificates", len(certificates)), Text: "If there is a private key in it, it was not looked at further."}}
	if len(certificates) == 1 {
		out[0].Title = "A PKCS#12 file with one certificate"
	}
	for _, c := range certificates[:min(len(certificates), termination.MaxUploadCertificates)] {
		upload, err := termination.ReadUpload(bytes.Clone(c.Raw))
		if err != nil {
			continue
		}
		for i := range upload.Items {
			out = append(out, readItem(&upload.Items[i], now)...)
		}
	}
	return out
}

func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
