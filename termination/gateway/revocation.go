package gateway

import (
	"context"

	"countersign/termination"
	"countersign/termination/revocation"
)

// RestoreRevocation takes up the revocation lists that the process before has fetched. It is called before the first Apply:
// else the first clients would be judged without them.
func (g *Gateway) RestoreRevocation(ctx context.Context) error { return g.revocation.Restore(ctx) }

// RevocationStatus tells how the revocation data of each authority is doing that has any.
func (g *Gateway) RevocationStatus() []revocation.Status { return g.revocation.Status() }

// FetchRevocation has all revocation lists of an authority fetched anew, soon.
func (g *Gateway) FetchRevocation(authority string) { g.revocation.Fetch(authority) }

// ReadRevocation reads revocation lists that somebody gives to an authority, and says why one could not come into force.
func (g *Gateway) ReadRevocation(authority string, data []byte) ([]*termination.RevocationList, error) {
	return g.revocation.Read(authority, data)
}

// GiveRevocation takes the revocation lists that the gateway of this agent has fetched.
func (g *Gateway) GiveRevocation(lists []revocation.Fetched) { g.revocation.Give(lists) }

func (g *Gateway) fetchedLists() ([]revocation.Fetched, uint64) {
	return g.revocation.Fetched(), g.revocation.Snapshot().Generation()
}

// revocationChanged is told of each new state of revocation. It does not wait.
func (g *Gateway) revocationChanged() {
	if g.agents != nil {
		g.agents.ListsChanged()
	}
	g.judgeSoon()
}
