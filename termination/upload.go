package termination

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// The limits of an upload. Each has its own error.
const (
	MaxUpload             = 256 << 10 // bytes
	MaxUploadCertificates = 64
	maxUploadItems        = 256
)

// What [ReadUpload] refuses as a whole.
var (
	ErrUploadTooLarge            = errors.New("the upload is too large")
	ErrUploadTooManyCertificates = errors.New("the upload holds too many certificates")
	ErrUploadTooManyBlocks       = errors.New("the upload holds too many blocks")
)

// UploadKind says what a thing in an upload is.
type UploadKind string

// The kinds of things found in an upload.
const (
	UploadRoot         UploadKind = "root"         // CA certificate that signs itself
	UploadIntermediate UploadKind = "intermediate" // CA certificate signed by another
	UploadLeaf         UploadKind = "leaf"         // certificate of a server, a client or a person
	UploadUnproven     UploadKind = "unproven"     // certificate that may be meant as a CA's but does not say so: version 1, or no basicConstraints
	UploadPrivateKey   UploadKind = "private_key"  // of any format; not read
	UploadRequest      UploadKind = "request"      // certificate signing request
	UploadCRL          UploadKind = "crl"          // revocation list
	UploadPKCS12       UploadKind = "pkcs12"       // .p12 or .pfx
	UploadPublicKey    UploadKind = "public_key"   // a public key alone
	UploadSSHKey       UploadKind = "ssh_key"      // a public key for SSH
	UploadOther        UploadKind = "other"        // known, of no use for TLS: parameters, PGP, an archive, a web page
	UploadUnreadable   UploadKind = "unreadable"   // meant as something of the above, but broken
	UploadText         UploadKind = "text"         // text without any block
	UploadEmpty        UploadKind = "empty"        // nothing, or only white space
)

// IsCertificate reports whether an item of this kind has a certificate.
func (k UploadKind) IsCertificate() bool {
	switch k {
	case UploadRoot, UploadIntermediate, UploadLeaf, UploadUnproven:
		return true
	default:
		return false
	}
}

// IsCA reports whether it is a certificate that says it may sign others.
func (k UploadKind) IsCA() bool { return k == UploadRoot || k == UploadIntermediate }

// WarningCode names a warning about an uploaded certificate.
type WarningCode string

// The warnings about certificates.
const (
	WarnTolerated       WarningCode = "tolerated"        // the encoding was odd, and was understood
	WarnWeakKey         WarningCode = "weak_key"         // shorter than verification accepts
	WarnWeakSignature   WarningCode = "weak_signature"   // SHA-1, MD5
	WarnConstrained     WarningCode = "constrained"      // may sign some names only
	WarnPublicCA        WarningCode = "public_ca"        // anybody can get a certificate from it
	WarnMayBeClient     WarningCode = "may_be_client"    // says CA:TRUE, but looks like a client's own certificate
	WarnNoClients       WarningCode = "no_clients"       // its extended key usage leaves no room for clients
	WarnSameName        WarningCode = "same_name"        // the name of a known CA, another key
	WarnSameKey         WarningCode = "same_key"         // the key of a known CA
	WarnRenewal         WarningCode = "renewal"          // same name and key, later dates
	WarnEarly           WarningCode = "early"            // not yet valid
	WarnExpired         WarningCode = "expired"          // not valid any more
	WarnEndsSoon        WarningCode = "ends_soon"        // within 30 days
	WarnIssuerMissing   WarningCode = "issuer_missing"   // signed by a certificate that is neither here nor known
	WarnCompleted       WarningCode = "completed"        // the chain lacked a certificate that is known here
	WarnReordered       WarningCode = "reordered"        // the chain was put into order
	WarnLeftOut         WarningCode = "left_out"         // a certificate of the file is not part of the chain
	WarnNoServerNames   WarningCode = "no_server_names"  // no subject alternative names
	WarnNotForServers   WarningCode = "not_for_servers"  // its usages leave no room for servers
	WarnUncommonKey     WarningCode = "uncommon_key"     // of a kind that browsers do not accept
	WarnSeveralSuitable WarningCode = "several_suitable" // more than one certificate has the key
)

// UploadWarning is one thing worth knowing about a certificate, in one plain sentence or two.
type UploadWarning struct {
	Code   WarningCode `json:"code"`
	Strong bool        `json:"strong,omitempty"` // think before going on
	Text   string      `json:"text"`
}

// UploadItem is one thing found in an upload.
type UploadItem struct {
	Kind        UploadKind        `json:"kind"`
	Line        int               `json:"line,omitempty"` // where its PEM block begins, from 1; 0: not PEM
	Title       string            `json:"title"`          // the certificate's name, or "A private key"; safe to show
	Message     string            `json:"message"`        // what it is and what to do, in plain sentences
	Certificate *x509.Certificate `json:"-"`              // nil unless Kind.IsCertificate
	DER         []byte            `json:"-"`              // of a request or a revocation list; nil for everything else
	Fingerprint Fingerprint       `json:"fingerprint,omitzero"`
	Warnings    []UploadWarning   `json:"warnings,omitempty"`
}

func (i *UploadItem) warn(code WarningCode, strong bool, format string, args ...any) {
	i.Warnings = append(i.Warnings, UploadWarning{Code: code, Strong: strong, Text: fmt.Sprintf(format, args...)})
}

// Upload is what was found in a file or a paste, in its order. There is at least one item.
type Upload struct {
	Items []UploadItem `json:"items"`
}

// Certificates returns the certificates of the upload, in order, each once.
func (u Upload) Certificates() []*x509.Certificate {
	var out []*x509.Certificate
	seen := map[Fingerprint]bool{}
	for _, i := range u.Items {
		if i.Certificate != nil && !seen[i.Fingerprint] {
			seen[i.Fingerprint] = true
			out = append(out, i.Certificate)
		}
	}
	return out
}

// PEM returns the certificates of the upload, and nothing else that was in it: what may travel through a form
// between preview and saving.
func (u Upload) PEM() []byte {
	var out []byte
	for _, c := range u.Certificates() {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// Has reports whether something of this kind was found.
func (u Upload) Has(k UploadKind) bool {
	for _, i := range u.Items {
		if i.Kind == k {
			return true
		}
	}
	return false
}

// ReadUpload says what is in a file or a paste: certificates as PEM, DER or PKCS#7, and whatever else people upload by
// mistake. It is tolerant: text around the blocks, CRLF, missing line breaks, byte-order marks and trusted-certificate
// headers do no harm, and one broken block does not spoil the others. File names and media types mean nothing to it.
//
// The error wraps one of [ErrUploadTooLarge], [ErrUploadTooManyCertificates] and [ErrUploadTooManyBlocks]; nothing of
// the upload is then of use.
//
// A private key is recognised by its label or its shape and not parsed. If there is one, or if there might be one since
// a limit ended the reading, data is overwritten with zeros before ReadUpload returns, and so is every copy that was
// made here. Copies that the runtime, the HTTP server
// or a browser made earlier are out of reach.
func ReadUpload(data []byte) (Upload, error) {
	if len(data) > MaxUpload {
		return Upload{}, fmt.Errorf("%w: %s, where %s are allowed; a CA certificate has one or two kB, so this is probably another file", ErrUploadTooLarge, bytesInWords(len(data)), bytesInWords(MaxUpload))
	}
	r := &uploadReader{}
	r.read(data)
	r.wipe(data)
	if r.err != nil {
		return Upload{}, r.err
	}
	return Upload{Items: r.items}, nil
}

func bytesInWords(n int) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%d MB", n>>20)
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%d kB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
