package tunnel

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"countersign/termination"
	"countersign/termination/revocation"
)

// Revocation lists that the gateway has fetched reach agents beside their policies, so that a list that is new once an
// hour does not take the whole policy along, and a new policy not all lists. First comes what there is, then what of it
// this agent was not given yet, in parts between which beats and policies pass.

const (
	maxListPart = 256 << 10 // bytes
	maxLists    = 4096
	maxListSize = 512 << 20 // bytes of all together
)

// listsNow says which lists there are. The agent forgets all others once it has these.
type listsNow struct {
	Generation uint64     `json:"generation"` // of the gateway's revocation data, for the log
	Lists      []listHead `json:"lists"`
}

// listHead is one list, of one address, for one authority.
type listHead struct {
	Authority string    `json:"authority"` // its ID
	URL       string    `json:"url"`
	Digest    []byte    `json:"digest"` // SHA-256
	Size      int       `json:"size"`
	Checked   time.Time `json:"checked"`
}

// listPart is the next part of a list that the agent does not have.
type listPart struct {
	Digest []byte `json:"digest"`
	Data   []byte `json:"data"`
}

type listDigest [sha256.Size]byte

// outgoing are the lists on their way to one agent. Only the goroutine that writes touches it.
type outgoing struct {
	told  []listHead          // last
	given map[listDigest]bool // wholly
	parts []listPart          // not sent yet
}

// listsChanged makes the session look at the gateway's lists again. It never blocks.
func (n *session) listsChanged() {
	select {
	case n.lists <- struct{}{}:
	default:
	}
}

// ListsChanged tells that the gateway has fetched other revocation lists. It does not wait for the agents to have them.
func (s *Server) ListsChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.sessions {
		n.listsChanged()
	}
}

// pushLists tells the agent which lists there are, if these are others than before, and makes ready what it lacks.
func (n *session) pushLists(o *outgoing) error {
	config, e := n.server.current(n.agent.EndpointID)
	if e == nil || n.server.options.Lists == nil {
		return nil
	}
	fetched, generation := n.server.options.Lists()
	wanted := map[string]bool{}
	for _, name := range policyAuthorities(config, e) {
		if a := config.Authority(name); a != nil {
			wanted[a.ID] = true
		}
	}
	now := listsNow{Generation: generation}
	bodies := map[listDigest][]byte{}
	for _, f := range fetched {
		if wanted[f.Authority] && len(now.Lists) < maxLists {
			now.Lists = append(now.Lists, listHead{Authority: f.Authority, URL: f.URL, Digest: f.Digest[:], Size: len(f.Body), Checked: f.Checked})
			bodies[f.Digest] = f.Body
		}
	}
	if slices.EqualFunc(now.Lists, o.told, listHead.same) {
		return nil
	}
	if err := n.send(toAgent{Lists: &now}); err != nil {
		return err
	}
	o.told, o.parts = now.Lists, nil
	given := map[listDigest]bool{}
	for digest, body := range bodies {
		if o.given[digest] {
			given[digest] = true
			continue
		}
		for part := range slices.Chunk(body, maxListPart) {
			o.parts = append(o.parts, listPart{Digest: digest[:], Data: part})
		}
	}
	o.given = given
	return nil
}

func (h listHead) same(other listHead) bool {
	return h.Authority == other.Authority && h.URL == other.URL && bytes.Equal(h.Digest, other.Digest)
}

// ready is a channel from which can be read as long as there are parts to send.
func (o *outgoing) ready() <-chan struct{} {
	if len(o.parts) == 0 {
		return nil
	}
	c := make(chan struct{})
	close(c)
	return c
}

// pushPart sends the next part. After the last of a list the agent has it.
func (n *session) pushPart(o *outgoing) error {
	part := o.parts[0]
	o.parts = o.parts[1:]
	if err := n.send(toAgent{List: &part}); err != nil {
		return err
	}
	if len(o.parts) == 0 || !bytes.Equal(o.parts[0].Digest, part.Digest) {
		o.given[listDigest(part.Digest)] = true
	}
	if len(o.parts) == 0 {
		select {
		case n.policies <- struct{}{}: // the first policy waits for the first lists
		default:
		}
	}
	return nil
}

// incoming are the lists as they come to an agent. Only the goroutine that reads touches it.
type incoming struct {
	heads  []listHead
	bodies map[listDigest][]byte // those of heads, and of the heads before, as far as they have come
}

// expect takes what there is now, and reports whether all of it is here already.
func (in *incoming) expect(now listsNow) (complete bool, err error) {
	if len(now.Lists) > maxLists {
		return false, errors.New("the gateway announced too many revocation lists")
	}
	total := 0
	kept := map[listDigest][]byte{}
	for _, h := range now.Lists {
		if len(h.Digest) != sha256.Size || h.Size <= 0 || h.Size > termination.MaxCRL {
			return false, errors.New("the gateway announced a revocation list that cannot be")
		}
		if total += h.Size; total > maxListSize {
			return false, fmt.Errorf("the gateway announced revocation lists of more than %d MiB", maxListSize>>20)
		}
		d := listDigest(h.Digest)
		if body, known := in.bodies[d]; known && len(body) == h.Size {
			kept[d] = body
		}
	}
	in.heads, in.bodies = now.Lists, kept
	return in.complete(), nil
}

// take takes a part, and reports whether all lists are here now.
func (in *incoming) take(part listPart) (complete bool, err error) {
	if len(part.Digest) != sha256.Size {
		return false, errors.New("the gateway sent a part of no revocation list")
	}
	d := listDigest(part.Digest)
	at := slices.IndexFunc(in.heads, func(h listHead) bool { return bytes.Equal(h.Digest, part.Digest) })
	if at < 0 || len(in.bodies[d])+len(part.Data) > in.heads[at].Size {
		return false, errors.New("the gateway sent more of a revocation list than it announced")
	}
	in.bodies[d] = append(in.bodies[d], part.Data...)
	if len(in.bodies[d]) == in.heads[at].Size && sha256.Sum256(in.bodies[d]) != d {
		return false, errors.New("a revocation list of the gateway came damaged")
	}
	return in.complete(), nil
}

func (in *incoming) complete() bool {
	for _, h := range in.heads {
		if len(in.bodies[listDigest(h.Digest)]) != h.Size {
			return false
		}
	}
	return true
}

// all returns the lists that have come.
func (in *incoming) all() []revocation.Fetched {
	out := make([]revocation.Fetched, 0, len(in.heads))
	for _, h := range in.heads {
		d := listDigest(h.Digest)
		out = append(out, revocation.Fetched{Authority: h.Authority, URL: h.URL, Body: in.bodies[d], Digest: d, Checked: h.Checked})
	}
	return out
}

// heard takes a message about lists. Once they are complete they are put into force, by who puts policies into force.
func (s *clientSession) heard(m toAgent) error {
	var complete bool
	var err error
	if m.Lists != nil {
		complete, err = s.incoming.expect(*m.Lists)
	} else {
		complete, err = s.incoming.take(*m.List)
	}
	if err != nil || !complete {
		return err
	}
	select {
	case <-s.lists: // those before were not put into force yet
	default:
	}
	s.lists <- s.incoming.all() // nobody else sends
	return nil
}

// takeLists puts lists into force that have come.
func (s *clientSession) takeLists(lists []revocation.Fetched) {
	s.client.applying.Lock()
	defer s.client.applying.Unlock()
	select {
	case <-s.left: // another session has taken over, whose lists are newer
	default:
		if s.client.options.Lists != nil {
			s.client.options.Lists(lists)
		}
	}
}
