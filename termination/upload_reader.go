package termination

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// uploadReader collects what is found in one upload.
type uploadReader struct {
	items        []UploadItem
	certificates int
	private      bool     // a private key was found
	scratch      [][]byte // decoded copies, wiped when there is a private key among them
	err          error    // a limit was reached

	// wantKeys is set where private keys are asked for: they are then kept in keys instead of being reported.
	wantKeys bool
	keys     []uploadedKey
}

// uploadedKey is a private key that was asked for, not parsed yet.
type uploadedKey struct {
	label     string
	line      int
	der       []byte
	encrypted bool  // by the headers of its PEM block
	err       error // why it cannot be decoded
}

// maxUploadNesting bounds text in base64 in UTF-16 and the like.
const maxUploadNesting = 3

func (r *uploadReader) read(data []byte) { r.readNested(data, 0) }

func (r *uploadReader) readNested(data []byte, depth int) {
	if text, ok := fromUTF16(data); ok && depth < maxUploadNesting {
		r.scratch = append(r.scratch, text)
		r.readNested(text, depth+1)
		return
	}
	trimmed := bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\ufeff")))
	switch {
	case len(trimmed) == 0:
		r.add(UploadItem{Kind: UploadEmpty, Title: "Nothing", Message: "There is nothing in it. Choose a file with a CA certificate, or paste one."})
	case data[0] == tagSequence && !isText(data):
		r.readDER(data)
	case r.readPEM(data):
	case depth < maxUploadNesting && r.readBareBase64(trimmed, depth):
	default:
		r.readOther(trimmed)
	}
}

// wipe overwrites data and every copy that was made of it, if there is a private key among it, or may be: where a limit
// ended the reading, the rest is not known.
func (r *uploadReader) wipe(data []byte) {
	if !r.private && r.err == nil {
		return
	}
	clear(data)
	r.wipeCopies()
}

func (r *uploadReader) wipeCopies() {
	for _, s := range r.scratch {
		clear(s)
	}
}

func (r *uploadReader) add(i UploadItem) {
	if r.err != nil {
		return
	}
	if len(r.items) == maxUploadItems {
		r.err = fmt.Errorf("%w: at most %d are read; split the file", ErrUploadTooManyBlocks, maxUploadItems)
		return
	}
	r.items = append(r.items, i)
}

func (r *uploadReader) unreadable(line int, format string, args ...any) {
	i := UploadItem{Kind: UploadUnreadable, Line: line, Title: "Something unreadable", Message: fmt.Sprintf(format, args...)}
	if line > 0 {
		i.Title = fmt.Sprintf("An unreadable block at line %d", line)
	}
	r.add(i)
}

// readPEM reads all blocks of PEM, and reports whether there was any.
func (r *uploadReader) readPEM(data []byte) bool {
	blocks, whole := scanPEM(data, maxUploadItems)
	if len(blocks) == 0 {
		return false
	}
	last := 0
	for _, b := range blocks {
		r.lookForKey(data, last, b.start)
		last = b.end
		r.readBlock(b)
	}
	r.lookForKey(data, last, len(data))
	if !whole && r.err == nil {
		r.err = fmt.Errorf("%w: at most %d are read; split the file", ErrUploadTooManyBlocks, maxUploadItems)
	}
	return true
}

// lookForKey searches the text between blocks for a key whose BEGIN line is too damaged for the scanner.
func (r *uploadReader) lookForKey(data []byte, from, to int) {
	if at := brokenKeyMarker(data[from:to]); at >= 0 {
		r.privateKey("", 1+bytes.Count(data[:from+at], []byte{'\n'}), "")
	}
}

// brokenKeyMarker returns where something like "BEGIN … PRIVATE KEY" stands in text, in any case, or -1. It makes no
// copy of the text, which may be a key.
func brokenKeyMarker(text []byte) int {
	for i := range text {
		if !hasFoldedPrefix(text[i:], "PRIVATE KEY") {
			continue
		}
		for at := max(0, i-24); at < i; at++ {
			if hasFoldedPrefix(text[at:], "BEGIN") {
				return at
			}
		}
	}
	return -1
}

func hasFoldedPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && bytes.EqualFold(b[:len(prefix)], []byte(prefix))
}

func (r *uploadReader) readBlock(b pemBlock) {
	if strings.Contains(b.label, "PRIVATE KEY") {
		r.privateKeyBlock(b)
		return
	}
	if at := brokenKeyMarker(b.body); at >= 0 {
		r.privateKey("", b.bodyLine+bytes.Count(b.body[:at], []byte{'\n'}), "")
		return
	}
	if b.endLabel != "" && b.endLabel != b.label {
		r.unreadable(b.line, "Line %d begins %q, but its end says %q. Two blocks ran into each other: copy them again.", b.line, b.label, b.endLabel)
		return
	}
	switch {
	case strings.Contains(b.label, "SSH2"):
		r.sshKey(b.line)
		return
	case strings.HasPrefix(b.label, "PGP"):
		r.add(UploadItem{Kind: UploadOther, Line: b.line, Title: "Something of PGP", Message: fmt.Sprintf("The block at line %d belongs to PGP. TLS needs an X.509 certificate: a block that begins -----BEGIN CERTIFICATE-----.", b.line)})
		return
	case strings.HasSuffix(b.label, "PARAMETERS"):
		r.add(UploadItem{Kind: UploadOther, Line: b.line, Title: "Key parameters", Message: fmt.Sprintf("The block at line %d holds parameters of a key. Nothing to do.", b.line)})
		return
	}
	der, err := b.decode()
	if err != nil && b.endLabel == "" {
		r.unreadable(b.line, "The block %q at line %d has no END line, so where it ends is unknown (%s). Copy it again, down to the line -----END %s-----.", b.label, b.line, err, b.label)
		return
	}
	if err != nil {
		r.unreadable(b.line, "The block %q at line %d cannot be read: %s. Copy it again, whole.", b.label, b.line, err)
		return
	}
	r.scratch = append(r.scratch, der)
	r.binary(der, b)
}

// readDER reads binary data: one element after the other, as some tools put certificates into one file.
func (r *uploadReader) readDER(data []byte) {
	for len(data) > 0 && r.err == nil {
		e, rest, err := readBER(data)
		if err != nil {
			r.binary(data, pemBlock{})
			return
		}
		if shapeOf(e) == shapeUnknown {
			// What follows something unknown has no meaning of its own.
			r.binary(data, pemBlock{})
			return
		}
		r.binary(e.raw, pemBlock{})
		if len(bytes.Trim(rest, "\r\n\x00")) == 0 { // never of what follows: a signature may well end with such a byte
			return
		}
		data = rest
	}
}

// binary reads one DER thing, out of a block of PEM or bare (line 0).
func (r *uploadReader) binary(der []byte, b pemBlock) {
	e, rest, err := readBER(der)
	switch {
	case errors.Is(err, errBERCut) && e.tag == tagSequence && e.size > 0:
		r.unreadable(b.line, "%s is cut off: it has %d bytes of %d. Copy it again, down to its END line.", where(b), len(der), e.size)
		return
	case err != nil || e.tag != tagSequence:
		r.unreadable(b.line, "%s holds no certificate: expected DER, which begins with byte 30 (hex). Export the certificate again, as PEM or DER.", where(b))
		return
	}
	shape := shapeOf(e)
	if shape.privateKey() {
		r.privateKeyDER(shape, der, b)
		return
	}
	// OpenSSL appends its own trust settings to the certificate in a TRUSTED CERTIFICATE; they mean nothing here.
	trusted := strings.HasPrefix(b.label, "TRUSTED")
	if len(rest) > 0 && !trusted {
		r.unreadable(b.line, "%s has %d bytes too many after its end. Two blocks may have run into each other: copy it again.", where(b), len(rest))
		return
	}
	switch shape {
	case shapeCertificate:
		r.certificate(e.raw, b)
	case shapePKCS7:
		r.bundle(e, b)
	case shapeRequest:
		r.add(UploadItem{Kind: UploadRequest, Line: b.line, DER: bytes.Clone(e.raw), Title: "A certificate request", Message: where(b) + " is a certificate request (CSR): it asks a CA for a certificate and is none yet. Upload the certificate of the CA that will sign it."})
	case shapeCRL:
		r.add(UploadItem{Kind: UploadCRL, Line: b.line, DER: bytes.Clone(e.raw), Title: "A revocation list", Message: where(b) + " is a revocation list (CRL). It does not make anybody trusted: upload the CA's certificate alone, and give the list on the page of the authority, under Revocation."})
	case shapePKCS12:
		r.add(UploadItem{Kind: UploadPKCS12, Line: b.line, Title: "A PKCS#12 file", Message: where(b) + " is a PKCS#12 file (.p12, .pfx): it is encrypted and usually holds a private key, which trusting a CA never needs. Take the CA certificates out of it: openssl pkcs12 -in FILE -nokeys -cacerts -out ca.pem"})
	case shapePublicKey:
		r.add(UploadItem{Kind: UploadPublicKey, Line: b.line, Title: "A public key", Message: where(b) + " is a public key alone, without name, dates or issuer. Upload the certificate that holds it."})
	default:
		r.unreadable(b.line, "%s is no certificate, and nothing else that is known here. Export the certificate again, as PEM or DER.", where(b))
	}
}

// where begins a sentence about a block.
func where(b pemBlock) string {
	switch {
	case b.line == 0:
		return "This"
	case b.label == "":
		return fmt.Sprintf("The block at line %d", b.line)
	default:
		return fmt.Sprintf("The block %q at line %d", b.label, b.line)
	}
}

func (r *uploadReader) bundle(e berElement, b pemBlock) {
	bundle, err := readPKCS7(e, MaxUploadCertificates-r.certificates)
	if err != nil {
		r.unreadable(b.line, "%s is meant as a PKCS#7 bundle, but %s. Export the certificates again.", where(b), err)
		return
	}
	for n, der := range bundle.certificates {
		inner, _, _ := readBER(der)
		switch shape := shapeOf(inner); {
		case shape == shapeCertificate:
			r.certificate(der, b)
		case shape.privateKey():
			r.privateKeyDER(shape, der, b)
		default:
			r.unreadable(b.line, "What stands at place %d of the PKCS#7 bundle is no certificate. Export the certificates again.", n+1)
		}
	}
	if bundle.others > 0 {
		r.add(UploadItem{Kind: UploadOther, Line: b.line, Title: "Another kind of certificate", Message: fmt.Sprintf("The PKCS#7 bundle also holds %d certificates of a form other than X.509. They are left out.", bundle.others)})
	}
	if bundle.crls > 0 {
		r.add(UploadItem{Kind: UploadCRL, Line: b.line, Title: "A revocation list", Message: "The PKCS#7 bundle also holds a revocation list (CRL). The list is left out: give it on the page of the authority, under Revocation."})
	}
	if len(bundle.certificates)+bundle.others+bundle.crls == 0 {
		r.unreadable(b.line, "%s is a PKCS#7 bundle without any certificate. Export it again, with the certificates.", where(b))
	}
}

// MaxRSABits is the longest RSA key that is looked at: longer ones cost more than anybody needs.
const MaxRSABits = 16384

func (r *uploadReader) certificate(der []byte, b pemBlock) {
	if r.err != nil {
		return
	}
	if r.certificates == MaxUploadCertificates {
		r.err = fmt.Errorf("%w: at most %d are read at once; upload only the CAs that your clients' certificates come from", ErrUploadTooManyCertificates, MaxUploadCertificates)
		return
	}
	r.certificates++
	c, err := x509.ParseCertificate(bytes.Clone(der)) // a copy: the original may be wiped
	if err != nil {
		r.unreadable(b.line, "%s has the form of a certificate, but cannot be read: %s. Issue or export it again.", where(b), printable(err.Error(), 200))
		return
	}
	if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > MaxRSABits {
		r.unreadable(b.line, "%s holds an RSA key of %d bits; at most %d are read. Issue it again with a shorter key.", where(b), key.N.BitLen(), MaxRSABits)
		return
	}
	item := describeCertificate(c, b.line)
	if b.label != "" && b.endLabel == "" {
		item.warn(WarnTolerated, false, "Its END line is missing; the certificate itself is whole.")
	}
	r.add(item)
}

// privateKeyBlock handles a block of PEM whose label says that it is a private key. Unless keys were asked for, its
// content is not even decoded.
func (r *uploadReader) privateKeyBlock(b pemBlock) {
	if !r.wantKeys {
		r.privateKey(b.label, b.line, "")
		return
	}
	key := uploadedKey{label: b.label, line: b.line, encrypted: b.encrypted()}
	if !key.encrypted {
		key.der, key.err = b.decode()
	}
	r.keys = append(r.keys, key)
}

func (r *uploadReader) privateKeyDER(shape derShape, der []byte, b pemBlock) {
	if r.wantKeys {
		r.keys = append(r.keys, uploadedKey{line: b.line, der: bytes.Clone(der)})
		return
	}
	r.privateKey("", b.line, shape)
}

func (r *uploadReader) privateKey(label string, line int, shape derShape) {
	r.private = true
	what := "A private key"
	switch {
	case strings.HasPrefix(label, "ENCRYPTED") || shape == shapeEncryptedKey:
		what = "An encrypted private key"
	case strings.HasPrefix(label, "EC ") || shape == shapeSEC1:
		what = "An EC private key"
	case strings.HasPrefix(label, "RSA ") || shape == shapePKCS1:
		what = "An RSA private key"
	case strings.HasPrefix(label, "OPENSSH"):
		what = "An SSH private key"
	case strings.HasPrefix(label, "PGP"):
		what = "A PGP private key"
	}
	if line > 0 {
		what += fmt.Sprintf(" begins at line %d", line)
	} else {
		what += " is in it"
	}
	r.add(UploadItem{Kind: UploadPrivateKey, Line: line, Title: "A private key", Message: what + ". Trusting a CA never needs its key: it was not read and is not kept. If this file travelled by mail or chat, replace that key."})
}

func (r *uploadReader) sshKey(line int) {
	r.add(UploadItem{Kind: UploadSSHKey, Line: line, Title: "An SSH key", Message: "This is a public key for SSH. TLS needs an X.509 certificate: a block that begins -----BEGIN CERTIFICATE-----."})
}

// readBareBase64 reads base64 without any BEGIN line, as in a Kubernetes secret, and reports whether it was that.
func (r *uploadReader) readBareBase64(text []byte, depth int) bool {
	if len(text) < 64 {
		return false
	}
	inner, err := decodeBase64(text, 1)
	if err != nil {
		return false
	}
	if inner[0] != tagSequence && !bytes.Contains(inner, []byte("-----BEGIN ")) {
		clear(inner)
		return false
	}
	r.scratch = append(r.scratch, inner)
	r.readNested(inner, depth+1)
	return true
}

// readOther names what has neither DER nor PEM in it.
func (r *uploadReader) readOther(data []byte) {
	other := func(title, message string) {
		r.add(UploadItem{Kind: UploadOther, Title: title, Message: message})
	}
	lower := bytes.ToLower(data[:min(len(data), 512)])
	starts := func(prefixes ...string) bool {
		for _, p := range prefixes {
			if bytes.HasPrefix(data, []byte(p)) {
				return true
			}
		}
		return false
	}
	switch {
	case starts("PuTTY-User-Key-File-"), brokenKeyMarker(data) >= 0, isPrivateJWK(data), starts("AGE-SECRET-KEY-"):
		r.private = true
		r.add(UploadItem{Kind: UploadPrivateKey, Line: 1, Title: "A private key", Message: "A private key is in it. Trusting a CA never needs its key: it was not read and is not kept. If this file travelled by mail or chat, replace that key."})
	case starts("ssh-rsa ", "ssh-ed25519 ", "ssh-dss ", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"):
		r.sshKey(1)
	case bytes.Contains(lower, []byte("<html")) || bytes.Contains(lower, []byte("<!doctype html")):
		other("A web page", "This is a web page, not a certificate: perhaps a sign-in page was saved in place of the file. Download the certificate again.")
	case starts("PK\x03\x04", "\x1f\x8b", "7z\xbc\xaf", "\xfd7zXZ", "BZh"):
		other("An archive", "This is an archive. Unpack it, and upload the certificate that is in it.")
	case starts("\xfe\xed\xfe\xed", "\xce\xce\xce\xce"):
		other("A Java key store", "This is a Java key store. Take the certificate out of it: keytool -exportcert -rfc -keystore FILE -alias NAME -file ca.pem")
	case starts("%PDF", "\x89PNG", "\xff\xd8\xff", "GIF8"):
		other("A document or picture", "This is a document or a picture, not a certificate. Upload the certificate's own file, as PEM or DER.")
	case isText(data):
		r.add(UploadItem{Kind: UploadText, Title: "Text", Message: "This is text without a certificate in it. Expected a block that begins -----BEGIN CERTIFICATE-----, or a DER or PKCS#7 file."})
	default:
		r.unreadable(0, "This is a binary file of an unknown kind. Expected a certificate as PEM, DER or PKCS#7.")
	}
}

// isPrivateJWK reports whether data looks like a JSON Web Key with its private part (RFC 7518, section 6.2.2): it is
// not parsed.
func isPrivateJWK(data []byte) bool {
	return data[0] == '{' && hasJSONMember(data, `"kty"`) && hasJSONMember(data, `"d"`)
}

func hasJSONMember(data []byte, quoted string) bool {
	for {
		_, rest, found := bytes.Cut(data, []byte(quoted))
		if !found {
			return false
		}
		if bytes.HasPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte(":")) {
			return true
		}
		data = rest
	}
}

// isText reports whether data is UTF-8 without control characters other than those of text files.
func isText(data []byte) bool {
	for _, c := range data {
		if c < 0x20 && strings.IndexByte("\t\n\v\f\r\x1a", c) < 0 {
			return false
		}
	}
	return utf8.Valid(data)
}

// fromUTF16 turns UTF-16 with a byte-order mark, which Windows tools write, into bytes; characters above 0xff, which no
// certificate has, become question marks.
func fromUTF16(data []byte) ([]byte, bool) {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}):
		order = binary.LittleEndian
	case bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		order = binary.BigEndian
	default:
		return nil, false
	}
	out := make([]byte, 0, len(data)/2)
	for rest := data[2:]; len(rest) >= 2; rest = rest[2:] {
		u := order.Uint16(rest)
		if u > 0x7f {
			u = '?'
		}
		out = append(out, byte(u))
	}
	return out, true
}
