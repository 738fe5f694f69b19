package gateway

import (
	"countersign/termination/verify"
)

// Scope is where the policies of an endpoint hold, with what is known of blocked and revoked certificates, for those who judge
// beside the gateway: what would be, not what is. Identities are those of the configuration that they compile.
func (g *Gateway) Scope(endpoint string) verify.Scope {
	return verify.Scope{Endpoint: endpoint, Revocation: g.revocation}
}
