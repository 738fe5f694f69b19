package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"sync"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"countersign/termination"
)

// issuer orders certificates from one CA with one account. It is certmagic's Issuer.
type issuer struct {
	settings termination.ACME
	key      string
	client   acmez.Client
	base     *http.Transport
	storage  Storage

	mu      sync.Mutex // held while the account is looked up or made
	account *acme.Account
}

var _ certmagic.Issuer = (*issuer)(nil)

// keptAccount is what is kept of an account.
type keptAccount struct {
	Location string `json:"location"`
	Key      []byte `json:"key"` // PKCS #8
}

// newIssuer prepares an issuer. solvers answer its challenges.
func newIssuer(a termination.ACME, o Options, solvers map[string]acmez.Solver) *issuer {
	client, base := newClient(a, o.Now)
	return &issuer{
		settings: a, key: issuerKey(a.Directory), base: base, storage: o.Storage,
		client: acmez.Client{
			Client:           &acme.Client{Directory: a.Directory, HTTPClient: client, UserAgent: "countersign", PollTimeout: o.Attempt},
			ChallengeSolvers: solvers,
		},
	}
}

// issuerKey names a CA in what is kept.
func issuerKey(directory string) string {
	sum := sha256.Sum256([]byte(directory))
	return hex.EncodeToString(sum[:8])
}

// IssuerKey implements certmagic.Issuer.
func (i *issuer) IssuerKey() string { return i.key }

// Issue implements certmagic.Issuer: it proves the names of csr and returns the chain.
func (i *issuer) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	chains, err := i.order(ctx, csr)
	var problem acme.Problem
	if errors.As(err, &problem) && problem.Type == acme.ProblemTypeAccountDoesNotExist {
		// The CA was made anew and has forgotten us.
		if err := i.forgetAccount(ctx); err != nil {
			return nil, err
		}
		chains, err = i.order(ctx, csr)
	}
	if err != nil {
		return nil, err
	}
	if len(chains) == 0 {
		return nil, errors.New("the CA returned no certificate")
	}
	return &certmagic.IssuedCertificate{Certificate: chains[0].ChainPEM}, nil
}

func (i *issuer) order(ctx context.Context, csr *x509.CertificateRequest) ([]acme.Certificate, error) {
	account, err := i.useAccount(ctx)
	if err != nil {
		return nil, err
	}
	params, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return nil, fmt.Errorf("write the order: %w", err)
	}
	return i.client.ObtainCertificate(ctx, params)
}

func (i *issuer) accountKey() string {
	sum := sha256.Sum256([]byte(i.settings.Email))
	return "accounts/" + i.key + "/" + hex.EncodeToString(sum[:8])
}

// useAccount returns the account at the CA, made at the first order.
func (i *issuer) useAccount(ctx context.Context) (acme.Account, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.account != nil {
		return *i.account, nil
	}
	account, err := i.readAccount(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		account, err = i.makeAccount(ctx)
	}
	if err != nil {
		return acme.Account{}, err
	}
	i.account = &account
	return account, nil
}

func (i *issuer) contact() []string {
	if i.settings.Email == "" {
		return nil
	}
	return []string{"mailto:" + i.settings.Email}
}

func (i *issuer) readAccount(ctx context.Context) (acme.Account, error) {
	text, _, err := i.storage.Get(ctx, i.accountKey())
	if err != nil {
		return acme.Account{}, err
	}
	defer clear(text)
	var kept keptAccount
	if err := json.Unmarshal(text, &kept); err != nil {
		return acme.Account{}, fs.ErrNotExist // of no use; another one is made
	}
	defer clear(kept.Key)
	parsed, err := x509.ParsePKCS8PrivateKey(kept.Key)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return acme.Account{}, fs.ErrNotExist
	}
	return acme.Account{Status: acme.StatusValid, Contact: i.contact(), Location: kept.Location, PrivateKey: key}, nil
}

// makeAccount registers. That the terms of the CA are agreed to was said by configuring it.
func (i *issuer) makeAccount(ctx context.Context) (acme.Account, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return acme.Account{}, fmt.Errorf("make the account's key: %w", err)
	}
	account, err := i.client.NewAccount(ctx, acme.Account{Contact: i.contact(), TermsOfServiceAgreed: true, PrivateKey: key})
	if err != nil {
		return acme.Account{}, fmt.Errorf("make an account: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return acme.Account{}, fmt.Errorf("encode the account's key: %w", err)
	}
	defer clear(der)
	text, err := json.Marshal(keptAccount{Location: account.Location, Key: der})
	if err != nil {
		return acme.Account{}, fmt.Errorf("encode the account: %w", err)
	}
	defer clear(text)
	return account, i.storage.Put(ctx, i.accountKey(), text)
}

func (i *issuer) forgetAccount(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.account = nil
	if err := i.storage.Delete(ctx, i.accountKey()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
