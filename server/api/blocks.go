package api

import (
	"context"
	"crypto/x509"
	"net/http"
	"slices"
	"strings"
	"time"

	"countersign/store"
	"countersign/termination"
)

// Block is a client that is kept out by hand.
type Block struct {
	ID        string    `json:"id"`
	Origin    string    `json:"origin" enum:"dashboard,file" doc:"What the file blocks is unblocked there."`
	Pin       string    `json:"pin,omitempty" doc:"SHA-256 of the certificate, or spki: and that of the key."`
	Serial    string    `json:"serial,omitempty" doc:"Hex, with authority."`
	Authority string    `json:"authority,omitempty"`
	Why       string    `json:"why,omitempty"`
	Since     time.Time `json:"since"`
	By        string    `json:"by"`
}

func blockOf(b *termination.Block) Block {
	out := Block{ID: b.ID, Origin: string(b.Origin), Serial: b.Serial, Authority: b.Authority, Why: b.Why, Since: b.Since.UTC(), By: b.By}
	if b.Pin != nil {
		out.Pin = b.Pin.String()
	}
	return out
}

// blockBody says whom to block: by a pin, or by a serial number.
type blockBody struct {
	Pin       string `json:"pin,omitempty" maxLength:"200" doc:"SHA-256 of a certificate in hex, also with colons or as an unambiguous prefix of one that is known here; spki: before it means the key."`
	Serial    string `json:"serial,omitempty" maxLength:"200" doc:"Hex, also with colons."`
	Authority string `json:"authority,omitempty" maxLength:"64" doc:"Whose CA has issued it; with serial."`
	Why       string `json:"why,omitempty" maxLength:"256"`
}

// RevokedCertificate is one that a local CA has taken back.
type RevokedCertificate struct {
	Serial string    `json:"serial" doc:"Hex."`
	Reason string    `json:"reason,omitempty"`
	Time   time.Time `json:"time"`
}

type revokeBody struct {
	Serial      string `json:"serial,omitempty" maxLength:"200" doc:"Hex, also with colons."`
	Fingerprint string `json:"fingerprint,omitempty" maxLength:"200" doc:"Of a certificate that was issued here, or an unambiguous prefix; instead of serial."`
	Reason      string `json:"reason,omitempty" maxLength:"256"`
}

func (a *API) blocks() {
	const tag = "Blocked"
	register(a, operation{method: http.MethodGet, path: "/blocked", summary: "List what is blocked by hand", scope: store.ScopeRead, tag: tag},
		func(context.Context, *struct{}) (*list[Block], error) {
			config := a.options.Current()
			var items []Block
			for i := range config.Blocked {
				items = append(items, blockOf(&config.Blocked[i]))
			}
			return listOf(config.Revision, items), nil
		})
	register(a, operation{method: http.MethodPost, path: "/blocked", summary: "Block a certificate, a key or a serial number, at once and everywhere", scope: store.ScopeOperate, body: smallBody, status: http.StatusCreated, tag: tag},
		func(ctx context.Context, in *struct{ Body blockBody }) (*one[Block], error) {
			wanted, err := a.readBlock(ctx, in.Body)
			if err != nil {
				return nil, err
			}
			_, err = a.options.Change(ctx, func(tx *store.Tx) (err error) {
				wanted, err = tx.Block(wanted)
				return err
			})
			if err != nil {
				return nil, err
			}
			return &one[Block]{blockOf(&wanted)}, nil
		})
	register(a, operation{method: http.MethodDelete, path: "/blocked/{id}", summary: "Unblock", scope: store.ScopeAdmin, status: http.StatusNoContent, tag: tag},
		func(ctx context.Context, in *byID) (*struct{}, error) {
			_, err := a.options.Change(ctx, func(tx *store.Tx) error { return tx.Unblock(in.ID) })
			return nil, err
		})
	register(a, operation{method: http.MethodGet, path: "/authorities/{ref}/revoked", summary: "List what the local CA of an authority has taken back", scope: store.ScopeRead, tag: "Trust"},
		func(_ context.Context, in *Named) (*list[RevokedCertificate], error) {
			config := a.options.Current()
			for i := range config.Authorities {
				if found := &config.Authorities[i]; found.ID == in.Ref || found.Name == in.Ref {
					var items []RevokedCertificate
					for _, r := range found.Revocation.Revoked {
						items = append(items, RevokedCertificate{Serial: r.Serial, Reason: r.Reason, Time: r.Time.UTC()})
					}
					return listOf(config.Revision, items), nil
				}
			}
			return nil, store.NotFoundError{Kind: store.KindAuthority, Name: in.Ref}
		})
	register(a, operation{method: http.MethodPost, path: "/authorities/{ref}/revoked", summary: "Take back a certificate that the local CA has issued, for good", scope: store.ScopeAdmin, body: smallBody, status: http.StatusNoContent, tag: "Trust"},
		func(ctx context.Context, in *struct {
			Named
			Body revokeBody
		},
		) (*struct{}, error) {
			serial := in.Body.Serial
			if serial == "" {
				c, err := FindCertificate(ctx, a.options.Store, a.options.Current(), in.Body.Fingerprint)
				if err != nil {
					return nil, err
				}
				serial = termination.SerialOf(c)
			}
			_, err := a.options.Change(ctx, func(tx *store.Tx) error { return tx.Revoke(in.Ref, serial, in.Body.Reason) })
			return nil, err
		})
}

// readBlock reads whom to block.
func (a *API) readBlock(ctx context.Context, body blockBody) (termination.Block, error) {
	b := termination.Block{Authority: body.Authority, Why: strings.TrimSpace(body.Why)}
	if body.Serial != "" {
		serial, err := termination.ParseSerial(body.Serial)
		if err != nil {
			return b, termination.ValidationError{{Kind: store.KindBlock, Field: "serial", Problem: err.Error()}}
		}
		b.Serial = serial
	}
	if body.Pin == "" {
		return b, nil
	}
	if pin, err := termination.ParsePin(body.Pin); err == nil {
		b.Pin = &pin
		return b, nil
	}
	prefix, key := strings.CutPrefix(strings.TrimSpace(body.Pin), "spki:")
	if key {
		return b, termination.ValidationError{{Kind: store.KindBlock, Field: "pin", Problem: "the SHA-256 of a key has 64 hex digits", Advice: "give all of them"}}
	}
	c, err := FindCertificate(ctx, a.options.Store, a.options.Current(), prefix)
	if err != nil {
		return b, err
	}
	b.Pin = &termination.Pin{Fingerprint: termination.FingerprintOf(c)}
	return b, nil
}

// minPrefix is the shortest prefix of a fingerprint, in hex digits, that is looked up.
const minPrefix = 4

// FindCertificate returns the client's or CA's certificate that is known here under a fingerprint, or an unambiguous prefix
// of one, in hex of either case, with or without colons.
func FindCertificate(ctx context.Context, s *store.Store, config *termination.Config, ref string) (*x509.Certificate, error) {
	prefix := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(ref), ":", ""))
	missing := store.NotFoundError{Kind: store.KindCertificate, Name: ref}
	if len(prefix) < minPrefix || len(prefix) > 64 || strings.Trim(prefix, "0123456789abcdef") != "" {
		return nil, missing
	}
	found, err := s.SeenCertificates(ctx, prefix)
	if err != nil {
		return nil, err
	}
	look := func(c *x509.Certificate) {
		if c != nil && strings.HasPrefix(termination.FingerprintOf(c).String(), prefix) && !slices.ContainsFunc(found, c.Equal) {
			found = append(found, c)
		}
	}
	for i := range config.Authorities {
		for _, c := range config.Authorities[i].Certificates {
			look(c.Certificate)
		}
	}
	for i := range config.Identities {
		for _, c := range config.Identities[i].Certificates {
			look(c)
		}
	}
	issued, err := s.Issued(ctx, "")
	if err != nil {
		return nil, err
	}
	for i := range issued {
		look(issued[i].Certificate)
	}
	switch len(found) {
	case 0:
		return nil, missing
	case 1:
		return found[0], nil
	}
	return nil, store.AmbiguousError{Kind: store.KindCertificate, Prefix: prefix}
}
