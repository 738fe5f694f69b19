package wire

import "slices"

// IsGREASE says whether a cipher suite, extension, group, version or signature
// scheme is one of the sixteen values that stand for nothing (RFC 8701).
func IsGREASE(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }

// Has says whether the hello carries an extension.
func (h *ClientHello) Has(extension uint16) bool { return slices.Contains(h.Extensions, extension) }

// HasGREASE says whether any list of the hello has a GREASE value, as browsers
// built on BoringSSL send.
func (h *ClientHello) HasGREASE() bool {
	for _, list := range [][]uint16{h.CipherSuites, h.Extensions, h.Groups, h.KeyShares, h.SupportedVersions, h.SignatureSchemes} {
		if slices.ContainsFunc(list, IsGREASE) {
			return true
		}
	}
	return false
}

// Versions returns the protocol versions that the client offers, highest first,
// without GREASE. Where supported_versions is missing they follow from the legacy
// version, and end at TLS 1.2 (RFC 8446 section 4.2.1).
func (h *ClientHello) Versions() []uint16 {
	var versions []uint16
	for _, v := range h.SupportedVersions {
		if !IsGREASE(v) {
			versions = append(versions, v)
		}
	}
	if len(h.SupportedVersions) == 0 {
		for v := min(h.Version, VersionTLS12); v >= VersionSSL30; v-- {
			versions = append(versions, v)
		}
	}
	slices.SortFunc(versions, func(a, b uint16) int { return int(b) - int(a) })
	return slices.Compact(versions)
}

// MaxVersion returns the highest version offered, or 0 if there is none.
func (h *ClientHello) MaxVersion() uint16 {
	if versions := h.Versions(); len(versions) > 0 {
		return versions[0]
	}
	return 0
}

// PostQuantum says whether the client offers a key agreement that withstands a
// quantum computer, such as X25519MLKEM768.
func (h *ClientHello) PostQuantum() bool { return slices.ContainsFunc(h.Groups, IsPostQuantum) }

// OffersResumption says whether the client offers an earlier session: a
// pre-shared key in TLS 1.3, a ticket in TLS 1.2. (A session id alone says
// nothing: TLS 1.3 clients send a random one.)
func (h *ClientHello) OffersResumption() bool { return h.PSKs > 0 || h.TicketSize > 0 }
