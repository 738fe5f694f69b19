package agent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"countersign/termination"
	"countersign/termination/localca"
)

// CertificateName is what the agent's own certificate is called in its configuration.
const CertificateName = "agent"

// Certificates is where the certificate of the agent's endpoint comes from: [Files], or [Issued].
type Certificates interface {
	// For returns the certificate for these server names. ctx bounds what it asks for.
	For(ctx context.Context, names []string) (termination.Certificate, error)
	// Changed reports whether For would return another one now.
	Changed(names []string) bool
}

// maxPEM bounds a certificate or key file, in bytes.
const maxPEM = 1 << 20

// Files is a certificate and key that somebody else keeps up to date.
type Files struct {
	Certificate, Key string // paths; Key may be empty where the first file holds both
	Now              func() time.Time
	Log              *slog.Logger

	mu           sync.Mutex
	cert, key    []byte // as they were read last
	current      termination.Certificate
	lastProblem  string
	haveComplete bool
}

// Read reads the files, and refuses a key that does not belong to its certificate.
func (f *Files) Read() error {
	cert, err := readFile(f.Certificate)
	if err != nil {
		return err
	}
	var key []byte
	if f.Key != "" {
		if key, err = readFile(f.Key); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.haveComplete && bytes.Equal(cert, f.cert) && bytes.Equal(key, f.key) {
		return nil
	}
	read, err := termination.ReadServerCertificate(cert, key, f.Now())
	if err != nil {
		return fmt.Errorf("--crt %s, --key %s: %w", f.Certificate, f.Key, err)
	}
	f.cert, f.key, f.haveComplete = cert, key, true
	f.current = read.Certificate("crt_agent", CertificateName, termination.OriginFile)
	return nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the endpoint's certificate: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err != nil {
		return nil, fmt.Errorf("read the endpoint's certificate: %w", err)
	}
	if len(b) > maxPEM {
		return nil, fmt.Errorf("%s is too large for a certificate or key", path)
	}
	return b, nil
}

// For implements [Certificates]. Files that became unreadable leave the certificate that was read last.
func (f *Files) For(context.Context, []string) (termination.Certificate, error) {
	err := f.Read()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil && !f.haveComplete {
		return termination.Certificate{}, err
	}
	return f.current, nil
}

// Changed implements [Certificates]. Programs that write two files are caught between them at times: what does not fit
// together is tried again.
func (f *Files) Changed([]string) bool {
	f.mu.Lock()
	before := f.cert
	f.mu.Unlock()
	err := f.Read()
	f.mu.Lock()
	defer f.mu.Unlock()
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	if problem != f.lastProblem && problem != "" {
		f.Log.Warn("the endpoint's certificate cannot be read again; the one before stays", "error", err)
	}
	f.lastProblem = problem
	return err == nil && !bytes.Equal(before, f.cert)
}

// againAfter is how long a renewal that failed is left alone while the certificate is still good: there are weeks left.
const againAfter = time.Minute

// Issued is a certificate from the gateway's local CA for a key that the agent makes itself, and keeps in its state.
type Issued struct {
	State *State
	Now   func() time.Time
	Log   *slog.Logger
	// Certify gets a certificate for the key.
	Certify func(ctx context.Context, key crypto.Signer) ([]*x509.Certificate, error)

	mu     sync.Mutex
	again  time.Time // not before
	warned string    // about the last renewal
}

// For implements [Certificates].
func (i *Issued) For(ctx context.Context, names []string) (termination.Certificate, error) {
	key, chain, err := i.State.serverKey()
	if err != nil {
		return termination.Certificate{}, err
	}
	if i.good(chain, names) {
		return issuedCertificate(key, chain), nil
	}
	if key == nil {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return termination.Certificate{}, fmt.Errorf("make the endpoint's key: %w", err)
		}
	}
	fresh, err := i.Certify(ctx, key)
	if err != nil {
		if covers(chain, names) && i.Now().Before(chain[0].NotAfter) {
			i.notRenewed(chain[0].NotAfter, err)
			return issuedCertificate(key, chain), nil
		}
		return termination.Certificate{}, fmt.Errorf("get a certificate for the endpoint: %w; give the agent one with --crt and --key", err)
	}
	i.mu.Lock()
	i.warned = ""
	i.mu.Unlock()
	if err := i.State.keepServer(key, fresh); err != nil {
		// A full disk is no reason to refuse clients: after a restart the agent makes another key.
		i.Log.Error("the endpoint's certificate is in use and cannot be kept", "error", err)
	}
	return issuedCertificate(key, fresh), nil
}

// notRenewed says so once for each reason, in time for somebody to do something about it.
func (i *Issued) notRenewed(until time.Time, why error) {
	i.mu.Lock()
	i.again = i.Now().Add(againAfter)
	known := i.warned == why.Error()
	i.warned = why.Error()
	i.mu.Unlock()
	if !known {
		i.Log.Warn("the endpoint's certificate is due and was not renewed; when it ends, nobody gets in. Trying again every minute", "good_until", until, "error", why)
	}
}

// Changed implements [Certificates].
func (i *Issued) Changed(names []string) bool {
	_, chain, err := i.State.serverKey()
	if err != nil || i.good(chain, names) {
		return false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.Now()
	return !covers(chain, names) || !now.Before(chain[0].NotAfter) || !now.Before(i.again)
}

func (i *Issued) good(chain []*x509.Certificate, names []string) bool {
	return covers(chain, names) && i.Now().Before(localca.DueAt(chain[0]))
}

// covers reports whether the chain's leaf is for all these names, wildcards as they are written.
func covers(chain []*x509.Certificate, names []string) bool {
	if len(chain) == 0 {
		return false
	}
	have := map[string]bool{}
	for _, n := range chain[0].DNSNames {
		have[n] = true
	}
	for _, ip := range chain[0].IPAddresses {
		have[ip.String()] = true
	}
	for _, n := range names {
		if !have[n] {
			return false
		}
	}
	return true
}

func issuedCertificate(key crypto.Signer, chain []*x509.Certificate) termination.Certificate {
	return termination.Certificate{ID: "crt_agent", Name: CertificateName, Chain: chain, Key: key}
}
