package store

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// BenchmarkWriteHistory writes batches as the live feed hands them over, each record with a leaf of its own.
func BenchmarkWriteHistory(b *testing.B) {
	for _, size := range []int{50, 1000} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			s, c := newStore(b)
			ca := tlstest.NewCA()
			leaf := ca.Client("rhea").Chain()
			seq := uint64(0)
			b.ResetTimer()
			begun := time.Now()
			for range b.N {
				batch := termination.HistoryBatch{}
				for range size {
					seq++
					h := handshakeAt(seq, c.Now().Add(time.Duration(seq)*time.Millisecond))
					h.Presented = leaf
					batch.Handshakes = append(batch.Handshakes, h)
					batch.Ends = append(batch.Ends, termination.ConnectionEnd{ID: h.ID, Time: h.Time, ClosedBy: termination.ClosedByClient})
				}
				if err := s.WriteHistory(batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(seq)/time.Since(begun).Seconds(), "records/s")
			v, err := s.Status(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(v.HistoryBytes)/float64(seq), "bytes/record")
		})
	}
}

// BenchmarkLoad loads a large configuration, keys and all.
func BenchmarkLoad(b *testing.B) {
	s, _ := newStore(b)
	fill(b, s, 200)
	b.ResetTimer()
	for range b.N {
		if _, _, err := s.Load(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkChange toggles one endpoint of a large configuration.
func BenchmarkChange(b *testing.B) {
	s, _ := newStore(b)
	fill(b, s, 200)
	b.ResetTimer()
	for range b.N {
		change(b, s, func(tx *Tx) error {
			e, err := tx.Endpoint("e7")
			if err != nil {
				return err
			}
			e.Enabled = !e.Enabled
			return tx.UpdateEndpoint(e)
		})
	}
}

// fill makes n endpoints with a certificate each, and a tenth as many authorities.
func fill(t testing.TB, s *Store, n int) {
	t.Helper()
	ca := tlstest.NewCA()
	change(t, s, func(tx *Tx) error {
		for i := range n/10 + 1 {
			if _, err := tx.CreateAuthority(authority(fmt.Sprintf("a%d", i), tlstest.NewCA())); err != nil {
				return err
			}
		}
		for i := range n {
			name := fmt.Sprintf("e%d", i)
			if _, err := tx.CreateCertificate(certificate(name, ca.Server(name+".example")), SourceUpload); err != nil {
				return err
			}
			if _, err := tx.CreateEndpoint(endpoint(name, name, fmt.Sprintf("a%d", i/10))); err != nil {
				return err
			}
		}
		return nil
	})
}

// BenchmarkWriteStrangers writes batches in which every record has a certificate that was never seen.
func BenchmarkWriteStrangers(b *testing.B) {
	s, c := newStore(b)
	template := *tlstest.NewCA().Client("rhea").X509
	seq := uint64(0)
	b.ResetTimer()
	begun := time.Now()
	for range b.N {
		batch := termination.HistoryBatch{}
		for range 1000 {
			seq++
			leaf := template
			leaf.Raw = binary.BigEndian.AppendUint64(nil, seq)
			h := refusedAt(seq, c.Now().Add(time.Duration(seq)*time.Millisecond))
			h.Presented = []*x509.Certificate{&leaf}
			batch.Handshakes = append(batch.Handshakes, h)
		}
		if err := s.WriteHistory(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(seq)/time.Since(begun).Seconds(), "records/s")
}
