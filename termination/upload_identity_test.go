package termination_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func requestFor(t testing.TB, c *tlstest.Cert) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestReadRegistration(t *testing.T) {
	now := time.Now()
	ca := tlstest.NewCA(tlstest.CN("Devices"))
	issuing := ca.Intermediate(tlstest.CN("Issuing"))
	plain, self := issuing.Client("billing"), tlstest.SelfSigned(tlstest.CN("meter"))
	tyk := tlstest.SelfSigned(tlstest.CN("tyk"), tlstest.CATrue())
	taken, takenKey := ca.Client("taken"), ca.Client("taken key")
	owner := func(p termination.Pin) string {
		switch p {
		case termination.Pin{Fingerprint: termination.FingerprintOf(taken.X509)}:
			return "somebody"
		case termination.Pin{Fingerprint: termination.KeyFingerprintOf(takenKey.X509), Key: true}:
			return "else"
		}
		return ""
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	request := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: requestFor(t, self)})
	for name, tt := range map[string]struct {
		data           []byte
		problem        string // for everybody; empty: none
		selfProblem    string // for a client alone
		warns          termination.WarningCode
		issuers        int
		wantRequest    bool
		wantFor        *tlstest.Cert
		withoutRequest bool
	}{
		"PEM":               {data: plain.PEM(), wantFor: plain},
		"DER":               {data: plain.X509.Raw, wantFor: plain},
		"signed itself":     {data: self.PEM(), wantFor: self},
		"Tyk's recipe":      {data: tyk.PEM(), wantFor: tyk, warns: termination.WarnMayBeClient},
		"with its chain":    {data: join(ca.PEM(), plain.PEM(), issuing.PEM()), wantFor: plain, issuers: 2, selfProblem: "3 certificates"},
		"two clients":       {data: join(plain.PEM(), self.PEM()), problem: "2 certificates"},
		"CAs alone":         {data: join(ca.PEM(), issuing.PEM()), problem: "certificates"},
		"a CA":              {data: issuing.PEM(), problem: "certificate of a CA, issued by Devices"},
		"a key beside it":   {data: join(plain.PEM(), plain.KeyPEM()), problem: "private key in it; it was not read and is not kept"},
		"a key alone":       {data: plain.KeyPEM(), problem: "private key"},
		"a broken key":      {data: join(plain.PEM(), []byte("-----BEGIN PRIVATE KEY-----\nMIIEv")), problem: "private key"},
		"ended":             {data: ca.Client("old", tlstest.Expired()).PEM(), problem: "ended on"},
		"not yet valid":     {data: ca.Client("new", tlstest.Valid(now.Add(48*time.Hour), now.Add(96*time.Hour))).PEM(), warns: termination.WarnEarly, selfProblem: "not valid before"},
		"ends soon":         {data: ca.Client("soon", tlstest.Valid(now.Add(-time.Hour), now.Add(time.Hour))).PEM(), warns: termination.WarnEndsSoon},
		"taken":             {data: taken.PEM(), problem: "registered already, for the identity somebody"},
		"its key is taken":  {data: takenKey.PEM(), problem: "the key of this certificate is registered already, for the identity else"},
		"short key":         {data: ca.Client("weak", tlstest.RSA(1024)).PEM(), warns: termination.WarnWeakKey, selfProblem: "1024 bits"},
		"a server's":        {data: ca.Server("server.example").PEM(), warns: termination.WarnNoClients, selfProblem: "no room for clients"},
		"a request":         {data: request, wantRequest: true},
		"a bare request":    {data: requestFor(t, self), wantRequest: true},
		"no request wanted": {data: request, withoutRequest: true, problem: "no CA here that signs it"},
		"nothing":           {data: []byte(" \n"), problem: "nothing in it"},
		"text":              {data: []byte("hello"), problem: "no certificate in it"},
		"damaged":           {data: join(plain.PEM(), []byte("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")), problem: "Certificate"},
		"too much":          {data: make([]byte, termination.MaxUpload+1), problem: "too large"},
	} {
		for _, self := range []bool{false, true} {
			r, err := termination.ReadRegistration(bytes.Clone(tt.data), termination.RegistrationOptions{Now: now, Owner: owner, Self: self, Requests: !tt.withoutRequest})
			want := tt.problem
			if self && want == "" {
				want = tt.selfProblem
			}
			if want != "" {
				if err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(want)) {
					t.Errorf("%s (self %v): %v, want %q", name, self, err, want)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s (self %v): %v", name, self, err)
				continue
			}
			if tt.wantRequest != (r.Request != nil) || tt.wantFor != nil && !r.Certificate.Equal(tt.wantFor.X509) || len(r.Issuers) != tt.issuers {
				t.Errorf("%s (self %v): %+v", name, self, r)
			}
			if tt.warns != "" && !slices.ContainsFunc(r.Warnings, func(w termination.UploadWarning) bool { return w.Code == tt.warns }) {
				t.Errorf("%s: warnings %+v", name, r.Warnings)
			}
		}
	}
}

func FuzzReadRegistration(f *testing.F) {
	c := tlstest.NewCA().Client("x")
	f.Add(c.PEM(), true)
	f.Add(c.X509.Raw, false)
	f.Add(c.KeyPEM(), true)
	f.Add(requestFor(f, c), true)
	now := time.Now()
	f.Fuzz(func(t *testing.T, data []byte, self bool) {
		r, err := termination.ReadRegistration(data, termination.RegistrationOptions{Now: now, Self: self, Requests: true})
		if (err == nil) != (r != nil && (r.Certificate != nil) != (r.Request != nil)) && err == nil {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
