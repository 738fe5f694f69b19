package declared

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/goccy/go-yaml/ast"

	"countersign/store"
	"countersign/termination"
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
	before := len(r.errors)
	a := termination.Authority{Origin: termination.OriginFile}
	anchors := termination.AnchorsRoots
	var text []byte
	var source ast.Node
	take := func(n ast.Node, data []byte) {
		if source != nil {
			r.fail(n, "pem and pem_file both say what the authority holds", "keep one of them")
		}
		text, source = data, n
	}
	r.mapping(n, "the authority", map[string]field{
		"name":     func(n ast.Node) { r.text(n, &a.Name) },
		"pem_file": func(n ast.Node) { take(n, r.readNamed(n)) },
		"pem": func(n ast.Node) {
			var s string
			r.text(n, &s)
			take(n, []byte(s))
		},
		"anchors": func(n ast.Node) {
			var s string
			r.text(n, &s)
			anchors = termination.AnchorPolicy(s)
			if anchors != termination.AnchorsRoots && anchors != termination.AnchorsAll {
				r.fail(n, fmt.Sprintf("anchors: %q is unknown", s), "use roots, or all where a chain may stop at an intermediate")
			}
		},
	}, later{"crl_files", "crl_urls", "ocsp_url", "revocation"})
	if a.Name == "" {
		r.fail(n, "the authority has no name", "give it one, as in name: devices")
	}
	if source == nil {
		r.fail(n, "the authority has no certificates", "give pem_file: or pem:")
	}
	r.places[placeKey("authority", a.Name, "")] = placeOf(n)
	if len(r.errors) > before {
		return a, false
	}
	r.places[placeKey("authority", a.Name, "pem")] = placeOf(source)
	a.Certificates = r.planned(source, text, anchors)
	return a, len(r.errors) == before
}

// planned reads CA certificates. What a person would be asked about in the dashboard was answered by writing the file;
// what is refused there is an error here.
func (r *reader) planned(n ast.Node, text []byte, anchors termination.AnchorPolicy) []termination.CACertificate {
	upload, err := termination.ReadUpload(text)
	if err != nil {
		r.fail(n, err.Error(), "give PEM or DER certificates")
		return nil
	}
	plan := termination.PlanAuthority(upload, termination.PlanOptions{Anchors: anchors, Declared: true, Now: time.Now()})
	for _, i := range plan.Items {
		if i.Use == termination.UseRefuse || i.Use == termination.UseAsk {
			r.fail(n, i.Title+": "+i.Message, "")
		}
	}
	certificates := plan.Certificates()
	if len(certificates) == 0 {
		r.fail(n, "there is no CA certificate in it that can be used", "give the certificate of the CA that signs the clients' certificates")
	}
	return certificates
}

// roots reads the CA certificates that an upstream is verified against.
func (r *reader) roots(n ast.Node) []*x509.Certificate {
	text := r.readNamed(n)
	if text == nil {
		return nil
	}
	upload, err := termination.ReadUpload(text)
	if err != nil {
		r.fail(n, err.Error(), "give PEM or DER certificates")
		return nil
	}
	certificates := upload.Certificates()
	if len(certificates) == 0 {
		// An empty pool would mean the system's roots, which nobody asked for.
		r.fail(n, "there is no certificate in it", "give the CA that signed the upstream's certificate")
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
	before := len(r.errors)
	var name string
	var certData, keyData []byte
	var certNode, keyNode ast.Node
	r.mapping(n, "the certificate", map[string]field{
		"name":      func(n ast.Node) { r.text(n, &name) },
		"cert_file": func(n ast.Node) { certNode, certData = n, r.readNamed(n) },
		"key_file":  func(n ast.Node) { keyNode, keyData = n, r.readNamed(n) },
	}, later{"key_password_file"})
	if name == "" {
		r.fail(n, "the certificate has no name", "give it one, as in name: api")
	}
	if certNode == nil {
		r.fail(n, "the certificate has no cert_file", "give the file with the leaf first, then the intermediates")
	}
	r.places[placeKey("certificate", name, "")] = placeOf(n)
	if certNode != nil {
		r.places[placeKey("certificate", name, "cert_file")] = placeOf(certNode)
	}
	if keyNode != nil {
		r.places[placeKey("certificate", name, "key_file")] = placeOf(keyNode)
	}
	if len(r.errors) > before {
		return termination.Certificate{}, false
	}
	read, err := termination.ReadServerCertificate(certData, keyData, time.Now())
	if err != nil {
		r.failCertificate(certNode, keyNode, err)
		return termination.Certificate{}, false
	}
	return read.Certificate("", name, termination.OriginFile), true
}

// failCertificate puts an error about a certificate or its key on the line of the file in question.
func (r *reader) failCertificate(certNode, keyNode ast.Node, err error) {
	var f termination.FieldError
	if !errors.As(err, &f) {
		r.fail(certNode, err.Error(), "")
		return
	}
	at := certNode
	if f.Field == "key_file" && keyNode != nil {
		at = keyNode
	}
	r.fail(at, f.Problem, f.Advice)
}
