package tunnel

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// joinRequest is what an agent that joins sends, once.
type joinRequest struct {
	Secret   []byte `json:"secret"`             // of the invitation
	CSR      []byte `json:"csr"`                // for its own key
	Endpoint string `json:"endpoint,omitempty"` // name that it wants to serve; empty: whichever the invitation names
	Name     string `json:"name"`
	Version  string `json:"version"`
}

// joinAnswer is the gateway's answer: a certificate, or why there is none.
type joinAnswer struct {
	Refused     *refusal `json:"refused,omitempty"`
	ID          string   `json:"id,omitempty"`
	EndpointID  string   `json:"endpoint_id,omitempty"`
	Endpoint    string   `json:"endpoint,omitempty"`
	Certificate []byte   `json:"certificate,omitempty"`
}

// refusal is why the gateway does not let an agent in.
type refusal struct {
	Code refusalCode `json:"code"`
	Text string      `json:"text"` // for whoever runs the agent
}

type refusalCode string

const (
	refusedUnknown   refusalCode = "invitation_unknown"
	refusedUsed      refusalCode = "invitation_used"
	refusedExpired   refusalCode = "invitation_expired"
	refusedElsewhere refusalCode = "endpoint_elsewhere"
	refusedEndpoint  refusalCode = "endpoint_gone" // the endpoint is not, or no more, one that ends in an agent; it may be again
	refusedAgent     refusalCode = "agent_unknown"
	refusedRemoved   refusalCode = "agent_removed"
	refusedBusy      refusalCode = "try_later" // nothing is wrong with the agent
	refusedRequest   refusalCode = "request"   // what it sent makes no sense
)

// toAgent is what the gateway says on the control stream. One field is set.
type toAgent struct {
	Welcome     *welcome          `json:"welcome,omitempty"`
	Refused     *refusal          `json:"refused,omitempty"`
	Beat        *beat             `json:"beat,omitempty"`
	Policy      json.RawMessage   `json:"policy,omitempty"`
	Certificate *certificateReply `json:"certificate,omitempty"`
	Leaving     *leaving          `json:"leaving,omitempty"`
	Lists       *listsNow         `json:"lists,omitempty"`
	List        *listPart         `json:"list,omitempty"`
}

// leaving says that another process of the gateway has taken over: the agent connects to that one, and leaves open what
// it has here.
type leaving struct{}

// welcome is the first thing that the gateway says.
type welcome struct {
	Endpoint string        `json:"endpoint"` // name of what the agent serves
	Every    time.Duration `json:"every_ns"` // between two beats
	Stale    time.Duration `json:"stale_ns"` // without one, until the agent must close
}

// toGateway is what an agent says on the control stream. One field is set.
type toGateway struct {
	Hello       *agentHello         `json:"hello,omitempty"`
	State       *agentState         `json:"state,omitempty"`
	Certificate *certificateRequest `json:"certificate,omitempty"`
}

// agentHello is the first thing that an agent says.
type agentHello struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// beat shows that the gateway is there. The agent answers with its state.
type beat struct {
	N uint64 `json:"n"`
}

// agentState is how an agent is doing. It comes as the answer to a beat, and when something changes.
type agentState struct {
	Beat     uint64 `json:"beat,omitempty"` // that it answers; 0: none
	Revision uint64 `json:"revision"`       // of the policy that is in force; 0: none
	Problem  string `json:"problem,omitempty"`
	Dropped  uint64 `json:"dropped,omitempty"` // records lost since the agent started
}

// certificateKind says what a certificate is asked for.
type certificateKind string

const (
	forAgent  certificateKind = "agent"  // the one that the agent shows to the gateway
	forServer certificateKind = "server" // the one that it shows to clients of its endpoint, from the local CA
)

type certificateRequest struct {
	Kind certificateKind `json:"kind"`
	CSR  []byte          `json:"csr"`
}

type certificateReply struct {
	Kind  certificateKind `json:"kind"`
	Chain [][]byte        `json:"chain,omitempty"` // DER, leaf first
	Error string          `json:"error,omitempty"`
}

// maxChain bounds the certificates in a reply.
const maxChain = 10

func parseChain(chain [][]byte) ([]*x509.Certificate, error) {
	if len(chain) == 0 || len(chain) > maxChain {
		return nil, errors.New("the gateway sent no certificate")
	}
	var out []*x509.Certificate
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read the gateway's certificate: %w", err)
		}
		out = append(out, c)
	}
	return out, nil
}

// RefusedError is a refusal that trying again does not help against.
type RefusedError struct {
	code refusalCode
	Text string // says what to do
}

// Error implements error.
func (e *RefusedError) Error() string { return e.Text }

// asError returns what a refusal is to an agent: a RefusedError, or an error that passes.
func (r *refusal) asError() error {
	if r.Code == refusedBusy || r.Code == refusedEndpoint {
		return errors.New(clip(r.Text, maxText))
	}
	return &RefusedError{code: r.Code, Text: clip(r.Text, maxText)}
}

// maxText bounds hostile text that is kept, in bytes.
const maxText = 500

// clip bounds text that came from the peer.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
