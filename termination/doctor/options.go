package doctor

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"countersign/termination"
)

// Bounds.
const (
	mostAddresses = 8
	mostFile      = 1 << 20 // bytes of a file
	mostCerts     = 200     // in one
)

// Options say what to look at. The zero values of the later members are those of the real world.
type Options struct {
	URL        string // https://host:port/path, or tls://host:port for any other protocol inside TLS
	ServerName string // asked for in place of the URL's host
	Identity   *Identity
	Roots      []*x509.Certificate // that the server is verified against; nil: the system's
	ALPN       []string            // offered over tls://
	Head       bool                // ask with HEAD in place of GET

	Now     func() time.Time
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	Dial    func(ctx context.Context, address netip.AddrPort) (net.Conn, error)
	// Patience bounds each step; 0 means ten seconds.
	Patience time.Duration
	// Listen bounds how long a silent server is listened to after a TLS 1.3 handshake; 0 means two seconds.
	Listen time.Duration
}

// target is a URL, read.
type target struct {
	https bool
	host  string // without brackets
	port  uint16
	path  string
	name  string // server name that is asked for and verified
}

func (o *Options) target() (target, error) {
	text := o.URL
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Hostname() == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "tls" {
		return target{}, fmt.Errorf("%q is no URL of a TLS service; expected one as in https://api.example.com:8443/path or tls://db.example.com:5432", o.URL)
	}
	t := target{https: u.Scheme == "https", host: u.Hostname(), port: 443, path: u.RequestURI(), name: o.ServerName}
	if u.Port() != "" {
		n, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || n == 0 {
			return t, fmt.Errorf("%q has no port that there is; expected 1 to 65535", o.URL)
		}
		t.port = uint16(n)
	} else if !t.https {
		return t, fmt.Errorf("%q names no port; tls:// has no default", o.URL)
	}
	if t.name == "" {
		t.name = t.host
	}
	// International names as A-labels, as they stand in certificates; what is no name stays, and is looked up in vain.
	for _, name := range []*string{&t.host, &t.name} {
		if normal, err := termination.NormalizeName(*name); err == nil {
			*name = normal
		}
	}
	return t, nil
}

func (o *Options) defaults() {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Resolve == nil {
		o.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, address netip.AddrPort) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address.String()) // no proxy: what is asked is whether this works
		}
	}
	if o.Patience == 0 {
		o.Patience = 10 * time.Second
	}
	if o.Listen == 0 {
		o.Listen = 2 * time.Second
	}
}

// Identity is what a client presents: its certificate, then the others of its file, in their order, as clients send them.
type Identity struct {
	Chain []*x509.Certificate
	Key   crypto.Signer
}

// Fits reports whether the key belongs to the certificate.
func (i *Identity) Fits() bool {
	public, ok := i.Chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && i.Key != nil && public.Equal(i.Key.Public())
}

// ReadIdentity reads a certificate file and a key file, in PEM or DER; an empty key means that the certificate's file
// holds it.
func ReadIdentity(cert, key []byte) (*Identity, error) {
	chain, err := ReadCertificates(cert)
	if err != nil {
		return nil, fmt.Errorf("read the client's certificate: %w", err)
	}
	if len(key) == 0 {
		key = cert
	}
	signer, err := readKey(key)
	if err != nil {
		return nil, fmt.Errorf("read the client's key: %w", err)
	}
	return &Identity{Chain: chain, Key: signer}, nil
}

// ReadCertificates reads the certificates of a file, in their order.
func ReadCertificates(data []byte) ([]*x509.Certificate, error) {
	if len(data) > mostFile {
		return nil, fmt.Errorf("the file has %d bytes, and %d is the most that is read", len(data), mostFile)
	}
	var found []*x509.Certificate
	rest := data
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the file cannot be read: %w", len(found)+1, err)
		}
		if found = append(found, c); len(found) > mostCerts {
			return nil, fmt.Errorf("the file has more than %d certificates", mostCerts)
		}
	}
	if len(found) == 0 {
		c, err := x509.ParseCertificate(data)
		if err != nil {
			return nil, errors.New("there is no certificate in it; expected PEM (-----BEGIN CERTIFICATE-----) or DER")
		}
		found = append(found, c)
	}
	return found, nil
}

func readKey(data []byte) (crypto.Signer, error) {
	if len(data) > mostFile {
		return nil, fmt.Errorf("the file has %d bytes, and %d is the most that is read", len(data), mostFile)
	}
	der, rest := data, data
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if strings.HasPrefix(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != "" {
			return nil, errors.New("it is locked with a passphrase; open it first, as in: openssl pkey -in client.key -out open.key, or use a .p12 file with --p12")
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			der = block.Bytes
			break
		}
	}
	for _, parse := range []func([]byte) (any, error){
		x509.ParsePKCS8PrivateKey,
		func(der []byte) (any, error) { return x509.ParseECPrivateKey(der) },
		func(der []byte) (any, error) { return x509.ParsePKCS1PrivateKey(der) },
	} {
		key, err := parse(der)
		if signer, ok := key.(crypto.Signer); err == nil && ok {
			return signer, nil
		}
	}
	return nil, errors.New("there is no private key in it; give the key's file with --key")
}
