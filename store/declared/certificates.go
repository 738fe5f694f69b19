package declared

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/unlock"
)

func (r *reader) authorities(n ast.Node, d *store.Declared) {
	r.list(n, "authorities", func(_ int, e ast.Node) {
		if a, ok := r.authority(e); ok {
			d.Authorities = append(d.Authorities, a)
		}
	})
}

// authority reads one authority and the file that it names.
func (r *reader) authority(n ast.Node) (termination.Authority, bool) {
	before := r.failed
	a := termination.Authority{Origin: termination.OriginFile}
	anchors := string(termination.AnchorsRoots)
	at := nodes{}
	var source *namedFile
	meant := r.mapping(n, "the authority", map[string]field{
		"name": func(n ast.Node) { at["name"] = n; r.text(n, &a.Name) },
		"pem_file": func(n ast.Node) {
			at["pem"] = n
			source = r.readNamed(n)
		},
		"pem": func(n ast.Node) {
			var s string
			if at["pem"] != nil {
				r.fail(n, "pem and pem_file both say what the authority holds", "keep one of them")
			} else if at["pem"] = n; r.text(n, &s) {
				source = &namedFile{node: n, data: []byte(s)}
			}
		},
		"anchors": func(n ast.Node) {
			at["anchors"] = n
			r.word(n, "anchors", &anchors, string(termination.AnchorsRoots), string(termination.AnchorsAll))
		},
		"crl_files":  func(n ast.Node) { at["crl_files"] = n; r.crlFiles(n, &a.Revocation) },
		"crl_urls":   func(n ast.Node) { at["crl_urls"] = n; r.texts(n, "crl_urls", &a.Revocation.CRLURLs) },
		"ocsp_url":   func(n ast.Node) { at["ocsp_url"] = n; r.text(n, &a.Revocation.OCSPURL) },
		"revocation": func(n ast.Node) { at["revocation"] = n; r.revocationMode(n, &a.Revocation) },
	}, nil)
	if meant == nil {
		return a, false
	}
	if !meant["pem_file"] && !meant["pem"] {
		r.fail(n, "the authority has no certificates", "give pem_file: or pem:")
	}
	if at["anchors"] == nil {
		at["anchors"] = at["pem"] // what is wrong with the anchors is wrong with the certificates
	}
	r.named("authority", n, at, a.Name, meant)
	if r.failed > before {
		return a, false
	}
	a.Certificates = r.planned(source, termination.AnchorPolicy(anchors))
	return a, r.failed == before
}

// named checks the name of an object, and notes where the object and its keys stand. An object of a list is found by its
// name afterwards.
func (r *reader) named(kind string, n ast.Node, at nodes, name string, meant map[string]bool) {
	if at["name"] == nil {
		if !meant["name"] {
			r.fail(n, "the "+kind+" has no name", "give it one, as in name: api")
		}
		return
	}
	key := placeKey(kind, name, "")
	if other, taken := r.places[key]; taken {
		r.fail(at["name"], fmt.Sprintf("the %s of line %d is named %q already", kind, other.line, name), "give each "+kind+" a name of its own")
		return
	}
	if err := termination.CheckName(name); err != nil && name != "" {
		r.fail(at["name"], err.Error(), "choose another name")
	}
	r.places[key] = placeOf(n)
	for field, n := range at {
		if n != nil {
			r.places[placeKey(kind, name, field)] = placeOf(n)
		}
	}
}

// planned reads CA certificates. What a person would be asked about in the dashboard was answered by writing the file;
// what is refused there is an error here.
func (r *reader) planned(source *namedFile, anchors termination.AnchorPolicy) []termination.CACertificate {
	upload, err := termination.ReadUpload(source.data)
	if err != nil {
		r.fail(source.node, source.where(0)+err.Error(), "give PEM or DER certificates")
		return nil
	}
	plan := termination.PlanAuthority(upload, termination.PlanOptions{Anchors: anchors, Declared: true, KeepExpired: true, Now: time.Now()})
	certificates := plan.Certificates()
	refused := false
	for _, i := range plan.Items {
		if i.Use == termination.UseRefuse || i.Use == termination.UseAsk {
			refused = true
			r.fail(source.node, source.where(i.Line)+inWords(i.UploadItem), "")
			continue
		}
		r.warn(source, i.Line, i.Title, i.Warnings)
	}
	if err := plan.Err(); err != nil && !refused {
		r.fail(source.node, source.where(0)+err.Error(), "give the certificate of the CA that signs the clients' certificates")
	}
	return certificates
}

// warn notes what is worth knowing about a certificate that is used all the same.
func (r *reader) warn(source *namedFile, line int, title string, warnings []termination.UploadWarning) {
	at := placeOf(source.node)
	for _, w := range warnings {
		if len(r.warnings) < maxErrors {
			r.warnings = append(r.warnings, Warning{
				Error:  Error{File: r.file, Line: at.line, Column: at.column, Problem: clip(source.where(line) + title + ": " + w.Text)},
				Strong: w.Strong,
			})
		}
	}
}

// inWords says what is wrong with a thing in a file, and what to do.
func inWords(i termination.UploadItem) string {
	if strings.HasPrefix(i.Message, i.Title) {
		return i.Message
	}
	return i.Title + ": " + i.Message
}

// where names the file that an error is in, and the line in that file; "" for text in the configuration itself.
func (f *namedFile) where(line int) string {
	switch {
	case f.path == "":
		return ""
	case line == 0:
		return f.path + ": "
	}
	return fmt.Sprintf("%s:%d: ", f.path, line)
}

// roots reads the CA certificates that an upstream is verified against.
func (r *reader) roots(n ast.Node) []*x509.Certificate {
	source := r.readNamed(n)
	if source == nil {
		return nil
	}
	upload, err := termination.ReadUpload(source.data)
	if err != nil {
		r.fail(n, source.where(0)+err.Error(), "give PEM or DER certificates")
		return nil
	}
	certificates := upload.Certificates()
	for _, i := range upload.Items {
		// Something was meant by each block in the file, so none is left out in silence.
		if i.Certificate == nil && i.Kind != termination.UploadText && i.Kind != termination.UploadEmpty {
			r.fail(n, source.where(i.Line)+inWords(i), "keep only the certificates of CAs in it")
			return nil
		}
	}
	if len(certificates) == 0 {
		// An empty pool would mean the system's roots, which nobody asked for.
		r.fail(n, source.where(0)+"there is no certificate in it", "give the CA that signed the upstream's certificate")
	}
	return certificates
}

func (r *reader) certificates(n ast.Node, d *store.Declared) {
	r.list(n, "certificates", func(_ int, e ast.Node) {
		if c, ok := r.certificate(e); ok {
			d.Certificates = append(d.Certificates, c)
		}
	})
}

// certificate reads one server certificate with its key.
func (r *reader) certificate(n ast.Node) (termination.Certificate, bool) {
	before := r.failed
	var name string
	var cert, key, password *namedFile
	at := nodes{}
	meant := r.mapping(n, "the certificate", map[string]field{
		"name":      func(n ast.Node) { at["name"] = n; r.text(n, &name) },
		"cert_file": func(n ast.Node) { at["cert_file"] = n; cert = r.readNamed(n) },
		"key_file":  func(n ast.Node) { at["key_file"] = n; key = r.readNamed(n) },
		"key_password_file": func(n ast.Node) {
			at["key_password_file"] = n
			password = r.readNamed(n)
		},
	}, nil)
	if meant == nil {
		return termination.Certificate{}, false
	}
	if !meant["cert_file"] {
		r.fail(n, "the certificate has no cert_file", "give the file with the leaf first, then the intermediates")
	}
	r.named("certificate", n, at, name, meant)
	if r.failed > before {
		return termination.Certificate{}, false
	}
	return r.keyPair(name, cert, key, password)
}

// keyPair puts a certificate and its key together. key is nil when it stands in the same file, password when nothing is
// locked.
func (r *reader) keyPair(name string, cert, key, password *namedFile) (termination.Certificate, bool) {
	var keyData []byte
	if key != nil {
		keyData = key.data
	}
	var passphrase string
	if password != nil {
		passphrase = firstLine(password.data)
		clear(password.data)
	}
	read, err := unlock.ReadServerCertificate(cert.data, keyData, passphrase, time.Now())
	clear(cert.data) // a key may be in either
	clear(keyData)
	if err != nil {
		r.failCertificate(cert, key, password, err)
		return termination.Certificate{}, false
	}
	r.chains = append(r.chains, chain{name, cert, read})
	return read.Certificate("", name, termination.OriginFile), true
}

// chain is a certificate whose chain is completed, and its notes told, once the whole file was read.
type chain struct {
	name   string
	source *namedFile
	read   *termination.ServerCertificate
}

// complete adds what chains lack and the file holds elsewhere, and warns about names that an endpoint's certificates are not for.
func (r *reader) complete(d *store.Declared) {
	known := (&termination.Config{Authorities: d.Authorities, Certificates: d.Certificates}).KnownIssuers()
	for _, c := range r.chains {
		c.read.Complete(known, time.Now())
		r.warn(c.source, 0, c.name, c.read.Notes)
		for i := range d.Certificates {
			if d.Certificates[i].Name == c.name {
				d.Certificates[i].Chain = c.read.Chain
			}
		}
	}
	config := &termination.Config{Certificates: d.Certificates}
	for i := range d.Endpoints {
		e := &d.Endpoints[i]
		if names := config.UncoveredNames(e); len(names) > 0 && len(r.warnings) < maxErrors {
			at := r.places[placeKey("endpoint", e.Name, "certificates")]
			r.warnings = append(r.warnings, Warning{Strong: true, Error: Error{
				File: r.file, Line: at.line, Column: at.column,
				Problem: clip(fmt.Sprintf("endpoint %q: none of its certificates is for %s, so clients that ask for that name refuse it", e.Name, strings.Join(names, ", "))),
			}})
		}
	}
}

// firstLine is what a file with a passphrase says: editors end it with a line break, which nobody means.
func firstLine(data []byte) string {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	return string(bytes.TrimSuffix(line, []byte("\r")))
}

// failCertificate puts an error about a certificate or its key on the line of the file in question.
func (r *reader) failCertificate(cert, key, password *namedFile, err error) {
	f, ok := errors.AsType[termination.FieldError](err)
	if !ok {
		r.fail(cert.node, cert.where(0)+err.Error(), "give PEM or DER files")
		return
	}
	at := cert
	switch {
	case f.Field == unlock.FieldPassphrase && password != nil:
		at = password
	case f.Field == unlock.FieldPassphrase:
		f.Advice = "give the passphrase in a file: key_password_file"
		fallthrough
	case f.Field == "key_file":
		if key != nil {
			at = key
		}
	}
	r.fail(at.node, at.where(0)+f.Problem, f.Advice)
}
