package revocation

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign/termination"
)

// Snapshot is one state of what is known. It is immutable; only answers of responders come and go beside it.
type Snapshot struct {
	generation  uint64
	blocks      *blocks
	authorities map[string]*authority // by name; those where nobody looks are missing
	answers     *answers              // nil: none
	key         string                // the same for what decides alike
	until       time.Time             // when it has to be made anew, because a list comes into force or ends; zero: never
}

// Generation numbers the snapshots: a later one has a higher number. It is 0 as long as nothing was ever blocked or
// revoked.
func (s *Snapshot) Generation() uint64 { return s.generation }

// authority is what is known under one authority.
type authority struct {
	name      string
	mode      termination.RevocationMode
	responder string
	outside   bool                  // somebody else than the local CA would tell of a revoked certificate
	own       map[string][]ownEntry // serial number to what the local CA has taken back
	issuers   map[string][]*issuer  // by RawSubject
	problems  map[digest]string     // why a list is not in force
}

// ownEntry is a certificate that the local CA has taken back.
type ownEntry struct {
	issuers map[string]bool // RawSubject
	entry   *termination.RevokedCertificate
}

// issuer is one key of a CA with the newest list of each scope that it has signed.
type issuer struct {
	key   []byte // RawSubjectPublicKeyInfo
	name  string
	lists []*inForce
}

// inForce is a list that counts.
type inForce struct {
	*list
	source string // file, upload or address
	fresh  bool
}

// snapshot puts together what is known. The lock is held.
func (r *Registry) snapshot() *Snapshot {
	s := &Snapshot{blocks: newBlocks(r.config), authorities: map[string]*authority{}, answers: &r.answers}
	now := r.now()
	var keys []string
	for i := range r.config.Authorities {
		a := &r.config.Authorities[i]
		mode := a.Revocation.Effective()
		if mode == termination.RevocationOff {
			continue
		}
		known := r.authority(a, mode, now, s)
		s.authorities[a.Name] = known
		keys = append(keys, known.decides())
	}
	slices.Sort(keys)
	s.key = strings.Join(keys, "\x00")
	return s
}

func (r *Registry) authority(a *termination.Authority, mode termination.RevocationMode, now time.Time, s *Snapshot) *authority {
	out := &authority{
		name: a.Name, mode: mode, responder: a.Revocation.OCSPURL, own: map[string][]ownEntry{},
		issuers: map[string][]*issuer{}, problems: map[digest]string{},
		outside: len(a.Revocation.CRLs)+len(a.Revocation.CRLURLs) > 0 || a.Revocation.OCSPURL != "",
	}
	subjects := map[string]bool{}
	for _, c := range a.Certificates {
		subjects[string(c.Certificate.RawSubject)] = true
		out.issuer(c.Certificate)
	}
	for i := range a.Revocation.Revoked {
		e := &a.Revocation.Revoked[i]
		out.own[e.Serial] = append(out.own[e.Serial], ownEntry{issuers: subjects, entry: e})
	}
	for _, candidate := range r.candidates(a) {
		out.take(candidate, a, now, s)
	}
	return out
}

// candidate is a list that may come into force.
type candidate struct {
	list   *list
	source string
}

// candidates are the lists that an authority was given and that were fetched for it. The lock is held.
func (r *Registry) candidates(a *termination.Authority) []candidate {
	var out []candidate
	for _, given := range a.Revocation.CRLs {
		if l := r.parsed[digestOf(given.DER)]; l != nil {
			out = append(out, candidate{l, given.Source})
		}
	}
	for _, u := range a.Revocation.CRLURLs {
		if src := r.sources[sourceKey{keyOf(a), u}]; src != nil {
			for _, l := range src.lists {
				out = append(out, candidate{l, u})
			}
		}
	}
	return out
}

// issuer returns what is known of one CA certificate's key.
func (k *authority) issuer(c *x509.Certificate) *issuer {
	for _, i := range k.issuers[string(c.RawSubject)] {
		if bytes.Equal(i.key, c.RawSubjectPublicKeyInfo) {
			return i
		}
	}
	i := &issuer{key: c.RawSubjectPublicKeyInfo, name: display(c.Subject)}
	k.issuers[string(c.RawSubject)] = append(k.issuers[string(c.RawSubject)], i)
	return i
}

// take puts a list into force, unless it may not be used or a newer one is there.
func (k *authority) take(c candidate, a *termination.Authority, now time.Time, s *Snapshot) {
	cert, err := c.list.issuer(a)
	if err == nil {
		if err = c.list.early(now); err != nil {
			s.remake(c.list.ThisUpdate.Add(-skew))
		}
	}
	if err != nil {
		k.problems[c.list.digest] = err.Error()
		return
	}
	until := c.list.FreshUntil()
	s.remake(until)
	made := &inForce{list: c.list, source: c.source, fresh: c.list.fresh(now)}
	i := k.issuer(cert)
	for n, other := range i.lists {
		switch {
		case other.Scope() != made.Scope():
		case other.digest == made.digest:
			return
		case made.OlderThan(other.RevocationList):
			k.problems[made.digest] = "it is older than the " + other.named() + ", which is in force"
			return
		default:
			k.problems[other.digest] = "it is older than the " + made.named() + ", which is in force"
			i.lists[n] = made
			return
		}
	}
	i.lists = append(i.lists, made)
}

// remake notes a date on which the snapshot has to be made anew.
func (s *Snapshot) remake(at time.Time) {
	if s.until.IsZero() || at.Before(s.until) {
		s.until = at
	}
}

// decides is the same for what decides alike.
func (k *authority) decides() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %s %q", k.name, k.mode, k.responder)
	serials := make([]string, 0, len(k.own))
	for s := range k.own {
		serials = append(serials, s)
	}
	slices.Sort(serials)
	fmt.Fprint(&b, serials)
	var lists []string
	for subject, issuers := range k.issuers {
		for _, i := range issuers {
			lists = append(lists, fmt.Sprintf("%x", digestOf([]byte(subject+string(i.key)))))
			for _, l := range i.lists {
				lists = append(lists, fmt.Sprintf("%x %v", l.digest, l.fresh))
			}
		}
	}
	slices.Sort(lists)
	fmt.Fprint(&b, lists)
	return b.String()
}
