package termination

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"time"
)

// known compares a CA certificate with those that are trusted already.
func (p *planner) known(i *PlannedItem) {
	var same, sameKey, sameName *KnownCertificate
	for n := range p.options.Known {
		k := &p.options.Known[n]
		switch {
		case k.Certificate.Equal(i.Certificate):
			if same == nil || k.Authority == p.options.Into {
				same = k
			}
		case bytes.Equal(k.Certificate.RawSubjectPublicKeyInfo, i.Certificate.RawSubjectPublicKeyInfo):
			if sameKey == nil || k.Certificate.NotAfter.After(sameKey.Certificate.NotAfter) {
				sameKey = k // the newest one of several issues
			}
		case bytes.Equal(k.Certificate.RawSubject, i.Certificate.RawSubject):
			sameName = k
		}
	}
	switch {
	case same != nil:
		p.alreadyTrusted(i, same)
	case sameKey != nil:
		p.sameKey(i, sameKey)
	case sameName != nil:
		i.Known = sameName
		i.warn(WarnSameName, true, "A CA of this name is trusted already, in %q, but with another key. The CA was made anew, or this is an impostor. Compare with its owner: key here %s, key trusted %s.",
			sameName.Authority, KeyFingerprintOf(i.Certificate).Short(), KeyFingerprintOf(sameName.Certificate).Short())
	}
}

// alreadyTrusted handles a certificate that stands in an authority, byte for byte.
func (p *planner) alreadyTrusted(i *PlannedItem, k *KnownCertificate) {
	i.Known = k
	if i.Use == UseRefuse {
		return
	}
	text := fmt.Sprintf("Already trusted, in %q%s.", k.Authority, since(k))
	if p.options.Declared || (p.options.Into != "" && p.options.Into != k.Authority) {
		i.warn(WarnSameKey, false, "%s It may stand in both.", text)
		return
	}
	i.Choices = append([]UploadUse{UseSkip}, without(i.Choices, UseSkip)...)
	i.Use = UseSkip
	i.Label = "already trusted"
	i.Message = text + " Nothing to do."
}

// sameKey handles another certificate of a CA that is trusted already.
func (p *planner) sameKey(i *PlannedItem, k *KnownCertificate) {
	i.Known = k
	old := k.Certificate
	switch {
	case !bytes.Equal(old.RawSubject, i.Certificate.RawSubject):
		i.warn(WarnSameKey, true, "Its key belongs to %s too, which is trusted in %q: two names for one CA. Ask its owner why.", certificateTitle(old), k.Authority)
	case !bytes.Equal(old.RawIssuer, i.Certificate.RawIssuer):
		i.warn(WarnSameKey, false, "Another certificate of a CA that is trusted already, in %q%s: same name and key, signed by %s instead of %s.", k.Authority, since(k), issuerTitle(i.Certificate), issuerTitle(old))
	case i.Certificate.NotAfter.After(old.NotAfter):
		i.Replaces = true
		i.warn(WarnRenewal, false, "Renewal of %s in %q: same name and key, good until %s instead of %s. The older one may go.", certificateTitle(old), k.Authority, inDays(i.Certificate.NotAfter), inDays(old.NotAfter))
	case i.Use != UseRefuse && !p.options.Declared:
		i.Choices = append([]UploadUse{UseSkip}, without(i.Choices, UseSkip)...)
		i.Use = UseSkip
		i.Label = "already trusted"
		i.Message = fmt.Sprintf("An older issue of a CA that is trusted already, in %q%s: same name and key, good until %s. Nothing to do.", k.Authority, since(k), inDays(old.NotAfter))
	}
}

func since(k *KnownCertificate) string {
	if k.Since.IsZero() {
		return ""
	}
	return ", uploaded " + inDays(k.Since)
}

func without(uses []UploadUse, one UploadUse) []UploadUse {
	var out []UploadUse
	for _, u := range uses {
		if u != one {
			out = append(out, u)
		}
	}
	return out
}

// soon is when the end of a certificate is near enough to say so at the upload.
const soon = 30 * 24 * time.Hour

func (p *planner) warnDates(i *PlannedItem) {
	c, now := i.Certificate, p.options.Now
	life := c.NotAfter.Sub(c.NotBefore)
	switch {
	case now.Before(c.NotBefore):
		i.warn(WarnEarly, true, "It is not valid before %s UTC: nothing that depends on it passes until then. If that is wrong, correct the clock of this machine.", c.NotBefore.UTC().Format("2 Jan 2006 15:04"))
	case now.After(c.NotAfter):
		i.warn(WarnExpired, true, "It ended on %s.", inDays(c.NotAfter))
	case c.NotAfter.Sub(now) < soon && life > 2*soon:
		i.warn(WarnEndsSoon, false, "It ends on %s, in %d days: what depends on it stops then.", inDays(c.NotAfter), int(c.NotAfter.Sub(now)/(24*time.Hour)))
	}
}

// warnUse warns about what only matters when the certificate may decide who enters.
func (p *planner) warnUse(i *PlannedItem) {
	if i.Use != UseAnchor && i.Use != UseHelper && i.Use != UseAsk {
		return
	}
	c := i.Certificate
	if !allowsClients(c) {
		i.warn(WarnNoClients, true, "Its extended key usage leaves no room for clients (clientAuth): no client certificate below it can pass.")
	}
	name := publicCA(c)
	if name == "" {
		return
	}
	if i.Use == UseHelper {
		i.warn(WarnPublicCA, false, "It belongs to a public CA (%s). As a helper it decides nothing.", name)
		return
	}
	i.warn(WarnPublicCA, true, "This is a public CA of the web (%s): everyone on the internet can get a certificate from it. Trust it only where a pin or the service itself decides who the client is. Public CAs are giving up client certificates, too.", name)
}

// allowsClients reports whether extended key usage lets clients be certified below c, as crypto/x509 applies it.
func allowsClients(c *x509.Certificate) bool {
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 {
		return true
	}
	for _, u := range c.ExtKeyUsage {
		if u == x509.ExtKeyUsageClientAuth || u == x509.ExtKeyUsageAny {
			return true
		}
	}
	return false
}
