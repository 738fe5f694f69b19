package store

import (
	"errors"
	"slices"

	"countersign/termination"
	"countersign/termination/expression"
)

// closeEndpoint replaces the endpoint by one that lets nobody in, and notes why.
func (l *loader) closeEndpoint(i int, why string) {
	e := &l.config.Endpoints[i]
	l.closed[e.ID] = true
	l.problem(KindEndpoint, e.ID, e.Name, why+"; it lets nobody in until this is repaired")
	*e = l.lettingNobodyIn(*e)
}

// lettingNobodyIn returns an endpoint that answers for e's names, so that no wildcard and no fallback does, and refuses
// everybody: its policy demands a certificate whose SHA-256 is zero. One that was disabled stays so.
func (l *loader) lettingNobodyIn(e termination.Endpoint) termination.Endpoint {
	c := termination.Endpoint{
		ID: e.ID, Name: e.Name, Origin: e.Origin, Enabled: e.Enabled,
		Scheme: e.Scheme, Host: e.Host, Aliases: e.Aliases, Listen: e.Listen, Port: e.Port,
		TerminateAt: termination.AtEdge,
		Upstream:    termination.Upstream{Scheme: termination.UpstreamBuiltin, Address: termination.BuiltinWhoami},
		ClientAuth:  termination.ClientAuth{Mode: termination.ModeRequire, Pins: []termination.Pin{{}}, OnLoss: termination.OnLossClose},
	}
	if e.Scheme == termination.SchemeTLS {
		c.Upstream = termination.Upstream{Scheme: termination.UpstreamTCP, Address: "127.0.0.1:1"}
	}
	if len(l.config.LocalCAs) == 0 && len(l.config.Certificates) > 0 {
		c.Certificates = []string{l.config.Certificates[0].Name}
	}
	return c
}

// settle validates the configuration. In objects that may have a problem, what is invalid closes endpoints; in others it
// is returned.
func (l *loader) settle() error {
	// Each round closes or removes an object, or ends.
	for {
		l.shutOut()
		err := l.config.Validate()
		if err == nil {
			err = expression.Validate(l.config)
		}
		if err == nil {
			return nil
		}
		invalid, ok := errors.AsType[termination.ValidationError](err)
		if !ok {
			return err
		}
		var refused termination.ValidationError
		done := map[[2]string]bool{} // one object may have several errors
		for _, f := range invalid {
			object := [2]string{f.Kind, f.Name}
			if done[object] {
				continue
			}
			if !l.tolerate(f) {
				refused = append(refused, f)
				continue
			}
			done[object] = true
		}
		if len(refused) > 0 {
			return refused
		}
	}
}

// tolerate takes an invalid object out of service and reports whether it may.
func (l *loader) tolerate(f termination.FieldError) bool {
	switch f.Kind {
	case SettingACME:
		if l.known != nil {
			return false
		}
		l.problem(SettingACME, "", "", f.Error()+"; no certificate can be obtained")
		l.config.ACME = termination.ACME{}
		return true
	case KindEndpoint:
		return l.tolerateEndpoint(f)
	case KindCredential:
		return l.tolerateCredential(f)
	case KindIdentity:
		i := slices.IndexFunc(l.config.Identities, func(i termination.Identity) bool { return i.Name == f.Name })
		if i < 0 || !l.may(l.config.Identities[i].ID) {
			return false
		}
		id := l.config.Identities[i].ID
		l.config.Identities = slices.Delete(l.config.Identities, i, i+1)
		l.breaksIdentity(id, f.Name, f)
		return true
	case KindBlock:
		i := slices.IndexFunc(l.config.Blocked, func(b termination.Block) bool { return b.String() == f.Name })
		if i < 0 || !l.may(l.config.Blocked[i].ID) {
			return false
		}
		id := l.config.Blocked[i].ID
		l.config.Blocked = slices.Delete(l.config.Blocked, i, i+1)
		l.breaksBlock(id, f)
		return true
	case KindAuthority:
		i := slices.IndexFunc(l.config.Authorities, func(a termination.Authority) bool { return a.Name == f.Name })
		if i < 0 || !l.may(l.config.Authorities[i].ID) {
			return false
		}
		l.breaks(KindAuthority, l.config.Authorities[i].ID, f.Name, f)
		l.config.Authorities = slices.Delete(l.config.Authorities, i, i+1)
		l.closeUsersOfAuthority(f.Name)
		return true
	case KindCertificate:
		i := slices.IndexFunc(l.config.Certificates, func(c termination.Certificate) bool { return c.Name == f.Name })
		if i < 0 || !l.may(l.config.Certificates[i].ID) {
			return false
		}
		l.breaks(KindCertificate, l.config.Certificates[i].ID, f.Name, f)
		l.config.Certificates = slices.Delete(l.config.Certificates, i, i+1)
		l.closeUsersOfCertificate(f.Name)
		return true
	}
	return false
}

// may reports whether an object may have a problem without stopping the load.
func (l *loader) may(id string) bool { return l.known == nil || l.known[id] }

func (l *loader) tolerateEndpoint(f termination.FieldError) bool {
	i := slices.IndexFunc(l.config.Endpoints, func(e termination.Endpoint) bool { return e.Name == f.Name })
	if i < 0 {
		return false
	}
	e := l.config.Endpoints[i]
	switch {
	case l.closed[e.ID]:
		// Not even its names are valid, or another endpoint has them. It cannot be held closed, only left out.
		l.config.Endpoints = slices.Delete(l.config.Endpoints, i, i+1)
	case l.may(e.ID):
		l.closeEndpoint(i, f.Error())
	default:
		return false
	}
	return true
}

func (l *loader) closeUsersOfAuthority(name string) {
	defaults := slices.Contains(l.config.Defaults.Authorities, name)
	l.config.Defaults.Authorities = slices.DeleteFunc(l.config.Defaults.Authorities, func(n string) bool { return n == name })
	for i, e := range l.config.Endpoints {
		uses := slices.Contains(e.ClientAuth.Authorities, name) || defaults && inherits(e)
		for _, r := range e.Routes {
			uses = uses || r.ClientAuth != nil && slices.Contains(r.ClientAuth.Authorities, name)
		}
		if uses && !l.closed[e.ID] {
			l.closeEndpoint(i, "its authority \""+name+"\" cannot be used")
		}
	}
}

func (l *loader) closeUsersOfCertificate(name string) {
	for i, e := range l.config.Endpoints {
		switch {
		case !slices.Contains(e.Certificates, name):
		case l.closed[e.ID]:
			l.config.Endpoints[i] = l.lettingNobodyIn(e)
		default:
			l.closeEndpoint(i, "its certificate \""+name+"\" cannot be used")
		}
	}
}
