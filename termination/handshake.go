package termination

import (
	"crypto/x509"
	"net/netip"
	"time"
)

// Handshake is the record of one attempt to get in, successful or not; there is one for each connection. It is built
// by the connection's own goroutine and immutable once it was published.
type Handshake struct {
	ID       string         `json:"id"`
	Seq      uint64         `json:"seq"` // assigned when it enters the live feed
	Node     string         `json:"node"`
	Time     time.Time      `json:"time"` // when the connection was accepted
	Duration time.Duration  `json:"duration_ns"`
	Stages   Stages         `json:"stages"`
	Peer     netip.AddrPort `json:"peer"`
	Local    netip.AddrPort `json:"local"`

	EndpointID  string      `json:"endpoint_id,omitempty"`
	Endpoint    string      `json:"endpoint,omitempty"` // name at that time
	Scheme      Scheme      `json:"scheme,omitempty"`
	TerminateAt TerminateAt `json:"terminate_at,omitempty"`
	Mode        Mode        `json:"mode,omitempty"`
	Revision    uint64      `json:"revision"`
	PolicyHash  string      `json:"policy_hash,omitempty"`
	Revocation  uint64      `json:"revocation_generation"`

	StartTLS StartTLS `json:"starttls,omitempty"` // the protocol in which the client asked for TLS first, and was answered

	Hello  *ClientHello `json:"hello,omitempty"` // nil when none could be read
	Chosen *Negotiated  `json:"chosen,omitempty"`
	Client ClientName   `json:"client,omitzero"`

	// Presented is as the client sent it. Only the first is proven, and only from beat 5; of what passed through sealed,
	// none is.
	Presented []*x509.Certificate `json:"-"`
	Path      []*x509.Certificate `json:"-"` // leaf to anchor, where a chain was found; empty for pins

	Passed *Passed `json:"passed,omitempty"` // what was seen of a handshake that passed through sealed; nil where TLS ended with us

	Noise    Noise           `json:"noise,omitempty"` // empty: somebody may care
	Verdict  Verdict         `json:"verdict"`
	Alert    *Alert          `json:"alert,omitempty"`
	Error    string          `json:"error,omitempty"` // the TLS library's own words, for experts
	Upstream *UpstreamResult `json:"upstream,omitempty"`
	Proof    bool            `json:"proof,omitempty"` // made by the gateway to prove a policy; left out of counts

	// New says that this client certificate was let in as verified for the first time, as far as is remembered. It is
	// found out when the handshake enters the live feed, as Seq is.
	New bool `json:"new,omitempty"`
}

// Stages are the measured spans of a handshake; a negative span was not run.
type Stages struct {
	Hello time.Duration `json:"hello_ns"` // from accept until the whole ClientHello was read
	Reply time.Duration `json:"reply_ns"` // until our first flight was written
	Wait  time.Duration `json:"wait_ns"`  // until the client's answer came: network and client
	Check time.Duration `json:"check_ns"` // chain, policy, key proof
}

// ClientHello is what the client offered (RFC 8446, section 4.1.2), in its own order, hostile text included.
type ClientHello struct {
	ServerName       string   `json:"server_name,omitempty"`
	ALPN             []string `json:"alpn,omitempty"`
	Versions         []uint16 `json:"versions"`
	CipherSuites     []uint16 `json:"cipher_suites"`
	Groups           []uint16 `json:"groups,omitempty"`
	KeyShares        []uint16 `json:"key_shares,omitempty"`
	SignatureSchemes []uint16 `json:"signature_schemes,omitempty"`
	Extensions       []uint16 `json:"extensions,omitempty"`
	PostQuantum      bool     `json:"post_quantum"`
	ECH              bool     `json:"ech"`
	EarlyData        bool     `json:"early_data"`
	OffersResumption bool     `json:"offers_resumption"`
	JA3              string   `json:"ja3,omitempty"`
	JA4              string   `json:"ja4,omitempty"`
	Size             int      `json:"size"`    // bytes of the handshake message
	Records          int      `json:"records"` // TLS records it came in
}

// Negotiated is what was agreed upon.
type Negotiated struct {
	Version     uint16 `json:"version"`
	CipherSuite uint16 `json:"cipher_suite"`
	Group       uint16 `json:"group,omitempty"`
	ALPN        string `json:"alpn,omitempty"`
	PostQuantum bool   `json:"post_quantum"`
	HelloRetry  bool   `json:"hello_retry,omitempty"`
	Resumed     bool   `json:"resumed,omitempty"`
}

// ClientName is the best name of a client, from its certificate.
type ClientName struct {
	Name        string      `json:"name,omitempty"` // URI SAN's last parts, DNS SAN, e-mail SAN, CN; hostile text
	Full        string      `json:"full,omitempty"` // the whole value that Name was taken from
	Fingerprint Fingerprint `json:"fingerprint,omitzero"`
	Issuer      string      `json:"issuer,omitempty"`    // common name, or whole name, of the leaf's issuer
	Authority   string      `json:"authority,omitempty"` // name of the authority whose anchor ended the chain
	Pin         string      `json:"pin,omitempty"`       // the pin that let it in
	Identity    string      `json:"identity,omitempty"`  // name of the identity that it is known by
	IdentityID  string      `json:"identity_id,omitempty"`
}

// Alert is a TLS alert that went out or came in.
type Alert struct {
	Number    uint8  `json:"number"`
	Name      string `json:"name"`
	Sent      bool   `json:"sent"`                // by us
	Service   bool   `json:"service,omitempty"`   // by the service behind, seen in passing
	Plaintext bool   `json:"plaintext,omitempty"` // received unencrypted where encryption was due, as OpenSSL does
}

// UpstreamResult is what became of the connection to the service behind.
type UpstreamResult struct {
	Address string        `json:"address"`
	Connect time.Duration `json:"connect_ns"`
	Error   string        `json:"error,omitempty"`
}

// ConnectionEnd completes a handshake's record when its connection ends.
type ConnectionEnd struct {
	ID       string    `json:"-"`
	Endpoint string    `json:"-"` // name at that time; empty for what the gateway made itself
	Time     time.Time `json:"time"`
	BytesIn  int64     `json:"bytes_in"`  // from the client
	BytesOut int64     `json:"bytes_out"` // to the client
	Requests int64     `json:"requests"`
	ClosedBy ClosedBy  `json:"closed_by"`
	Reason   Reason    `json:"reason,omitempty"` // what happened after TLS: upstream_down, host_mismatch, …
	Detail   string    `json:"detail,omitempty"` // one sentence about it
	// IdentityID is the identity as which the client came in, so that its requests are counted.
	IdentityID string          `json:"identity_id,omitempty"`
	Upstream   *UpstreamResult `json:"upstream,omitempty"` // of an https endpoint, known only at the first request
}

// ClosedBy says who ended a connection.
type ClosedBy string

// The parties that can end a connection.
const (
	ClosedByClient   ClosedBy = "client"
	ClosedByUpstream ClosedBy = "upstream"
	ClosedByGateway  ClosedBy = "gateway"
	ClosedByPolicy   ClosedBy = "policy" // a change would no longer admit it
)

// HistoryBatch is what the live feed hands to the history: new records in the order of Seq, and ends of earlier ones.
type HistoryBatch struct {
	Handshakes []*Handshake
	Ends       []ConnectionEnd
}
