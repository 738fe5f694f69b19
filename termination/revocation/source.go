package revocation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"countersign/termination"
)

const (
	// atOnce is how many addresses are fetched at a time.
	atOnce = 4
	// maxFetched bounds what is kept of all addresses together, in bytes.
	maxFetched = 512 << 20
	// Bounds of the time between two looks at an address. Asking whether a list has changed costs little.
	minAgain = time.Minute
	maxAgain = time.Hour
	// longest is how long the loop sleeps at most, so that a clock that was set is noticed.
	longest = time.Minute
	// keepTime bounds one call of the Keeper.
	keepTime = 30 * time.Second
)

func digestOf(data []byte) digest { return sha256.Sum256(data) }

// keyOf names an authority in what is kept: by its ID, which a new name does not change.
func keyOf(a *termination.Authority) string {
	if a.ID != "" {
		return a.ID
	}
	return a.Name
}

type sourceKey struct{ authority, url string }

// source is one address from which lists are fetched for one authority. The registry's lock guards it.
type source struct {
	body     []byte // nil: nothing good has come yet
	digest   digest // of body
	lists    []*list
	etag     string
	modified string
	checked  time.Time // when the server said last that body is the newest; zero: never
	next     time.Time // of the next look
	failures int
	problem  string // of the last look; empty: all is well
	fetching bool
}

// configure makes what is kept follow the configuration. The lock is held.
func (r *Registry) configure() {
	given := map[digest]bool{}
	wanted := map[sourceKey]bool{}
	for i := range r.config.Authorities {
		a := &r.config.Authorities[i]
		if a.Revocation.Effective() == termination.RevocationOff {
			continue
		}
		for _, l := range a.Revocation.CRLs {
			d := digestOf(l.DER)
			given[d] = true
			if _, known := r.parsed[d]; !known {
				r.parsed[d] = r.readGiven(a, l)
			}
		}
		for _, u := range a.Revocation.CRLURLs {
			key := sourceKey{keyOf(a), u}
			wanted[key] = true
			if r.sources[key] == nil {
				r.sources[key] = &source{}
				if kept, ok := r.waiting[key]; ok {
					delete(r.waiting, key)
					r.restore(r.sources[key], a, kept)
				}
			}
		}
	}
	for d := range r.parsed {
		if !given[d] {
			delete(r.parsed, d)
		}
	}
	for key := range r.sources {
		if !wanted[key] {
			delete(r.sources, key)
		}
	}
	if !r.given {
		clear(r.waiting) // nobody wants them any more
	}
}

// readGiven reads a list of the configuration. It was read before it got there, so that an error means damage: then the
// issuer has no list, which hard takes for no answer.
func (r *Registry) readGiven(a *termination.Authority, given termination.CRL) *list {
	lists, err := readLists(given.DER)
	if err == nil && len(lists) != 1 {
		err = errors.New("it does not hold one list")
	}
	if err != nil {
		r.log.Error("a revocation list cannot be used", "authority", a.Name, "source", given.Source, "error", err)
		return nil
	}
	return lists[0]
}

// restore takes up what was fetched by the process before, or by the gateway of an agent. The lock is held.
func (r *Registry) restore(s *source, a *termination.Authority, kept Fetched) {
	lists, err := readLists(kept.Body)
	if err != nil {
		r.log.Error("a revocation list that was kept cannot be used; it is fetched anew", "authority", a.Name, "url", kept.URL, "error", err)
		return
	}
	s.body, s.digest, s.lists = kept.Body, digestOf(kept.Body), lists
	s.etag, s.modified, s.checked = kept.ETag, kept.LastModified, kept.Checked
}

// Restore takes up what the Keeper holds, before the first Apply.
func (r *Registry) Restore(ctx context.Context) error {
	if r.keep == nil {
		return nil
	}
	kept, err := r.keep.KeptLists(ctx)
	if err != nil {
		return fmt.Errorf("read the revocation lists that were kept: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range kept {
		r.waiting[sourceKey{k.Authority, k.URL}] = k
	}
	return nil
}

// Fetch looks at all addresses of an authority anew, soon.
func (r *Registry) Fetch(authority string) {
	r.mu.Lock()
	for key, s := range r.sources {
		if a := r.config.Authority(authority); a != nil && key.authority == keyOf(a) {
			s.next, s.failures = time.Time{}, 0
		}
	}
	r.mu.Unlock()
	r.nudge()
}

// run fetches what is due and makes new snapshots on their dates, until Close.
func (r *Registry) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		r.mu.Lock()
		due, wait := r.due()
		changed := false
		if until := r.current.Load().until; !until.IsZero() && r.now().After(until) {
			changed = r.publish()
		}
		r.mu.Unlock()
		r.tell(changed)
		for _, key := range due {
			r.workers.Go(func() {
				r.look(key)
				r.nudge()
			})
		}
		r.renewAnswers()
		timer.Reset(wait)
		select {
		case <-r.stopped.Done():
			return
		case <-r.wake:
		case <-timer.C:
		}
	}
}

// due marks what has to be fetched now, and says how long there is nothing else to do. The lock is held.
func (r *Registry) due() (due []sourceKey, wait time.Duration) {
	now := r.now()
	wait = longest
	if until := r.current.Load().until; !until.IsZero() && until.After(now) {
		wait = min(wait, until.Sub(now)+time.Millisecond)
	}
	if r.given {
		return nil, wait
	}
	busy := 0
	for _, s := range r.sources {
		if s.fetching {
			busy++
		}
	}
	for key, s := range r.sources {
		switch {
		case s.fetching:
		case !s.next.After(now):
			if busy == atOnce { // whoever ends makes the loop look again
				continue
			}
			busy++
			s.fetching = true
			due = append(due, key)
		default:
			wait = min(wait, s.next.Sub(now))
		}
	}
	return due, max(wait, time.Millisecond)
}

// look fetches one address and takes what comes.
func (r *Registry) look(key sourceKey) {
	r.mu.Lock()
	s := r.sources[key]
	if s == nil {
		r.mu.Unlock()
		return
	}
	q := request{url: key.url}
	if s.body != nil {
		q.etag, q.modified = s.etag, s.modified
	}
	r.mu.Unlock()
	got, err := r.fetch(r.stopped, q)
	var lists []*list
	if err == nil && !got.same {
		lists, err = readLists(got.body)
	}
	if r.stopped.Err() != nil {
		return
	}
	r.mu.Lock()
	if r.sources[key] != s { // the configuration does not want it any more
		r.mu.Unlock()
		return
	}
	s.fetching = false
	a := r.authorityOf(key)
	switch {
	case err != nil:
	case got.same:
		s.checked = r.now()
	default:
		err = r.accept(s, a, lists, got)
	}
	r.schedule(s, a, key, err)
	changed := r.publish()
	kept := Fetched{Authority: key.authority, URL: key.url, ETag: s.etag, LastModified: s.modified, Checked: s.checked}
	if err == nil && !got.same {
		kept.Body = s.body
	}
	r.mu.Unlock()
	r.tell(changed)
	if err == nil && r.keep != nil {
		ctx, cancel := context.WithTimeout(r.stopped, keepTime)
		defer cancel()
		if err := r.keep.KeepList(ctx, kept); err != nil && r.stopped.Err() == nil {
			r.log.Error("a revocation list is in force, but would not be after a restart", "url", key.url, "error", err)
		}
	}
}

func (r *Registry) authorityOf(key sourceKey) *termination.Authority {
	for i := range r.config.Authorities {
		if a := &r.config.Authorities[i]; keyOf(a) == key.authority {
			return a
		}
	}
	return nil
}

// accept takes lists in the place of those before, all or none: they must be signed by the authority, in force already, and
// not older than what they replace (a server may be made to answer with an old one, as long as that was signed once). The
// lock is held.
func (r *Registry) accept(s *source, a *termination.Authority, lists []*list, got response) error {
	if err := r.usable(a, lists); err != nil {
		return err
	}
	size := len(got.body)
	for _, other := range r.sources {
		if other != s {
			size += len(other.body)
		}
	}
	if size > maxFetched {
		return fmt.Errorf("all revocation lists together would have more than %d MiB", maxFetched>>20)
	}
	s.body, s.digest, s.lists = got.body, digestOf(got.body), lists
	s.etag, s.modified, s.checked = got.etag, got.modified, r.now()
	return nil
}

// usable says why lists cannot come into force for an authority; nil: they can. The lock is held.
func (r *Registry) usable(a *termination.Authority, lists []*list) error {
	now := r.now()
	for _, l := range lists {
		if _, err := l.issuer(a); err != nil {
			return err
		}
		if err := l.early(now); err != nil {
			return err
		}
		for _, c := range r.candidates(a) {
			if !l.TakesPlaceOf(c.list.RevocationList) || !l.OlderThan(c.list.RevocationList) {
				continue
			}
			if _, err := c.list.issuer(a); err == nil {
				return fmt.Errorf("it is older than the %s, which stays in force", c.list.named())
			}
		}
	}
	return nil
}

// Read reads revocation lists that somebody gives to an authority. What could not come into force is an error, which tells
// people what to do. The lists come without their entries.
func (r *Registry) Read(authority string, data []byte) ([]*termination.RevocationList, error) {
	lists, err := readLists(data)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.config.Authority(authority)
	if a == nil {
		return nil, errors.New("the authority is gone")
	}
	if err := r.usable(a, lists); err != nil {
		return nil, err
	}
	out := make([]*termination.RevocationList, 0, len(lists))
	for _, l := range lists {
		out = append(out, l.RevocationList)
	}
	return out, nil
}

// schedule says when the address is looked at next. The lock is held.
func (r *Registry) schedule(s *source, a *termination.Authority, key sourceKey, err error) {
	now := r.now()
	left := maxAgain
	for _, l := range s.lists {
		left = min(left, l.FreshUntil().Sub(now)/2)
	}
	if err == nil && left <= 0 {
		err = errors.New("the newest list that the server has is past its time")
	}
	if err == nil {
		s.failures, s.problem = 0, ""
		s.next = now.Add(jitter(max(left, minAgain)))
		return
	}
	if s.problem != err.Error() { // not each time
		r.log.Warn("no newer revocation list", "authority", a.Name, "url", key.url, "error", err)
	}
	s.failures++
	s.problem = err.Error()
	steps := [...]time.Duration{10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute}
	s.next = now.Add(jitter(steps[min(s.failures, len(steps))-1]))
}

// jitter takes up to a tenth off, so that not everything is fetched at one moment.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/10+1) } //nolint:gosec // no secret

// Fetched returns what was fetched and is in use, for agents: they fetch nothing themselves.
func (r *Registry) Fetched() []Fetched {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Fetched
	for key, s := range r.sources {
		if s.body != nil {
			out = append(out, Fetched{Authority: key.authority, URL: key.url, Body: s.body, Digest: s.digest, Checked: s.checked})
		}
	}
	slices.SortFunc(out, func(a, b Fetched) int {
		return bytes.Compare([]byte(a.Authority+a.URL), []byte(b.Authority+b.URL))
	})
	return out
}

// Give takes what the gateway of an agent has fetched, in the place of what came before. What is not in all is forgotten:
// the gateway has it no more. A list that cannot be used leaves the one before in force.
func (r *Registry) Give(all []Fetched) {
	r.mu.Lock()
	clear(r.waiting)
	given := map[sourceKey]bool{}
	for _, f := range all {
		key := sourceKey{f.Authority, f.URL}
		given[key] = true
		s, a := r.sources[key], r.authorityOf(key)
		if s == nil || a == nil {
			r.waiting[key] = f // its policy is on its way
			continue
		}
		s.checked = f.Checked
		if bytes.Equal(s.body, f.Body) {
			continue
		}
		lists, err := readLists(f.Body)
		if err == nil {
			err = r.accept(s, a, lists, response{body: f.Body})
		}
		if err != nil {
			r.log.Error("a revocation list of the gateway cannot be used", "authority", a.Name, "url", f.URL, "error", err)
		}
	}
	for key, s := range r.sources {
		if !given[key] {
			s.body, s.lists = nil, nil
		}
	}
	changed := r.publish()
	r.mu.Unlock()
	r.tell(changed)
}
