package revocation

import (
	"slices"
	"strings"
	"time"

	"countersign/termination"
)

// Status is how the revocation data of one authority is doing.
type Status struct {
	Authority string // its name
	Mode      termination.RevocationMode
	Sources   []SourceStatus
	// Issuers are the CAs of the authority.
	Issuers   []IssuerStatus
	Responder string // that is asked; empty: none
	// Silent: the responder did not answer the last time, and is left alone for a moment.
	Silent bool
	// Answers counts what is kept of all responders.
	Answers int
	// TakenBack counts what the local CA has taken back.
	TakenBack int
}

// SourceStatus is a file, an upload or an address.
type SourceStatus struct {
	Source  string
	Fetched bool // from an address, else given
	Lists   []ListStatus
	Size    int       // bytes
	Checked time.Time // of addresses: when the newest was there last; zero: never
	Next    time.Time // of addresses: the next look; zero: now
	Problem string    // why there is none, or no newer one; empty: all is well
}

// ListStatus is one list.
type ListStatus struct {
	Issuer     string // its whole name; hostile text
	Number     string // empty: it has none
	Entries    int
	Size       int // bytes
	ThisUpdate time.Time
	NextUpdate time.Time // zero: the list does not say
	FreshUntil time.Time
	Scope      string // of which certificates it speaks, in words; empty: of all
	InForce    bool
	Fresh      bool
	Problem    string // why it is not in force
}

// IssuerStatus is a CA of an authority.
type IssuerStatus struct {
	Name  string
	Lists int  // in force
	Fresh bool // one of them is not past its time
}

// Status tells how the revocation data of all authorities is doing that have any, in their order.
func (r *Registry) Status() []Status {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	snapshot := r.current.Load()
	now := r.now()
	var out []Status
	for i := range r.config.Authorities {
		a := &r.config.Authorities[i]
		if !a.Revocation.Sources() {
			continue
		}
		s := Status{Authority: a.Name, Mode: a.Revocation.Effective(), Responder: a.Revocation.OCSPURL, TakenBack: len(a.Revocation.Revoked)}
		known := snapshot.authorities[a.Name]
		r.sourceStatus(&s, a, known, now)
		if known != nil {
			s.Issuers = known.status(now)
		}
		s.Answers, s.Silent = r.answers.status(s.Responder, now)
		out = append(out, s)
	}
	return out
}

func (r *Registry) sourceStatus(s *Status, a *termination.Authority, known *authority, now time.Time) {
	for _, given := range a.Revocation.CRLs {
		one := SourceStatus{Source: given.Source, Size: len(given.DER)}
		if l := r.parsed[digestOf(given.DER)]; l != nil {
			one.Lists = []ListStatus{l.status(known, now)}
		} else if known != nil {
			one.Problem = "it cannot be read; give it again"
		}
		s.Sources = append(s.Sources, one)
	}
	for _, u := range a.Revocation.CRLURLs {
		one := SourceStatus{Source: u, Fetched: true}
		if src := r.sources[sourceKey{keyOf(a), u}]; src != nil {
			one.Size, one.Checked, one.Next, one.Problem = len(src.body), src.checked, src.next, src.problem
			for _, l := range src.lists {
				one.Lists = append(one.Lists, l.status(known, now))
			}
		}
		s.Sources = append(s.Sources, one)
	}
}

func (l *list) status(known *authority, now time.Time) ListStatus {
	s := ListStatus{
		Issuer: visible(termination.NameText(l.Issuer), 4*maxDisplay), Number: l.NumberText(), Entries: l.entries.len(), Size: l.size,
		ThisUpdate: l.ThisUpdate, NextUpdate: l.NextUpdate, FreshUntil: l.FreshUntil(), Fresh: l.fresh(now),
	}
	var scope []string
	if l.Users {
		scope = append(scope, "users' certificates alone")
	}
	if l.CAs {
		scope = append(scope, "CAs' certificates alone")
	}
	if len(l.Points) > 0 {
		scope = append(scope, "certificates that name "+visible(strings.Join(l.Points, ", "), 4*maxDisplay)+" alone")
	}
	s.Scope = strings.Join(scope, ", ")
	if known != nil {
		s.Problem = known.problems[l.digest]
		s.InForce = s.Problem == ""
	}
	return s
}

func (k *authority) status(now time.Time) []IssuerStatus {
	var out []IssuerStatus
	for _, issuers := range k.issuers {
		for _, i := range issuers {
			one := IssuerStatus{Name: i.name, Lists: len(i.lists)}
			for _, l := range i.lists {
				one.Fresh = one.Fresh || l.list.fresh(now)
			}
			out = append(out, one)
		}
	}
	slices.SortFunc(out, func(a, b IssuerStatus) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (a *answers) status(responder string, now time.Time) (known int, silent bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.known), responder != "" && now.Before(a.silent[responder])
}
