package revocation_test

import (
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"runtime"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/revocation"
	"countersign/termination/tlstest"
)

// million is a list with a million entries, as a large CA has.
func million(b *testing.B, ca *tlstest.Cert) []byte {
	b.Helper()
	now := time.Now()
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour)}
	for i := range int64(1_000_000) {
		serial := new(big.Int).Lsh(big.NewInt(i+1), 96) // 16 bytes, as UUIDs have
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial.Add(serial, big.NewInt(i*i)), RevocationTime: now})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, ca.X509, ca.Key)
	if err != nil {
		b.Fatal(err)
	}
	return der
}

// What a list with a million entries costs to take in, and how much memory it keeps.
func BenchmarkMillionTakenIn(b *testing.B) {
	ca := tlstest.NewCA()
	config := devices(termination.Revocation{CRLs: given(million(b, ca))}, ca)
	b.ReportMetric(float64(len(config.Authorities[0].Revocation.CRLs[0].DER))/(1<<20), "MiB/list")
	for b.Loop() {
		b.StopTimer()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		b.StartTimer()
		r := revocation.New(revocation.Options{})
		r.Apply(config)
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB/kept")
		if r.Status()[0].Sources[0].Lists[0].Entries != 1_000_000 {
			b.Fatal("entries are missing")
		}
		r.Close()
		b.StartTimer()
	}
}

// What it costs a handshake.
func BenchmarkMillionLookedUp(b *testing.B) {
	ca := tlstest.NewCA()
	r := revocation.New(revocation.Options{})
	defer r.Close()
	r.Apply(devices(termination.Revocation{CRLs: given(million(b, ca))}, ca))
	chain, now := path(ca.Client("alice")), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if f := r.Snapshot().Check([]string{"devices"}, chain, nil, now); f.Revoked != nil {
			b.Fatal(f.Detail)
		}
	}
}
