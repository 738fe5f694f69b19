package store

import (
	"fmt"

	"countersign/termination"
)

// Declared is everything that the configuration file says that the store keeps.
type Declared struct {
	Authorities  []termination.Authority
	Certificates []termination.Certificate
	Endpoints    []termination.Endpoint
	Identities   []termination.Identity
	Blocked      []termination.Block
	Credentials  []termination.Credential
	Defaults     *termination.Defaults // nil: the file says nothing, and the dashboard's hold
	Limits       *termination.Limits   // likewise
	Agents       *termination.Agents   // likewise
	ACME         *termination.ACME     // likewise
	History      *HistorySettings      // likewise

	Notifications *Notifications // likewise
}

// ReplaceDeclared makes what the configuration file declares equal to d: what is new is added, what differs is
// changed and keeps its ID, what left the file is removed. A name that the dashboard gave too is a
// [DeclaredTwiceError]; something that left the file but is needed elsewhere is an [InUseError].
func (tx *Tx) ReplaceDeclared(d Declared) error {
	tx.declared = true
	defer func() { tx.declared = false }()
	// What is referred to comes before what refers to it, and goes after it.
	goneAuthorities, err := replace(tx, KindAuthority, "SELECT id, name, origin FROM authorities ORDER BY id", d.Authorities, tx.putDeclaredAuthority, func(a termination.Authority) string { return a.Name })
	if err != nil {
		return err
	}
	goneCertificates, err := replace(tx, KindCertificate, "SELECT id, name, origin FROM certificates ORDER BY id", d.Certificates, tx.putDeclaredCertificate, func(c termination.Certificate) string { return c.Name })
	if err != nil {
		return err
	}
	if err := tx.replaceDeclaredSettings(d); err != nil {
		return err
	}
	goneEndpoints, err := replace(tx, KindEndpoint, "SELECT id, name, origin FROM endpoints ORDER BY id", d.Endpoints, tx.putDeclaredEndpoint, func(e termination.Endpoint) string { return e.Name })
	if err != nil {
		return err
	}
	goneIdentities, err := replace(tx, KindIdentity, "SELECT id, name, origin FROM identities ORDER BY id", d.Identities, tx.putDeclaredIdentity, func(i termination.Identity) string { return i.Name })
	if err != nil {
		return err
	}
	if err := tx.replaceDeclaredBlocks(d.Blocked); err != nil {
		return err
	}
	goneCredentials, err := replace(tx, KindCredential, "SELECT id, name, origin FROM credentials ORDER BY id", d.Credentials, tx.putDeclaredCredential, func(c termination.Credential) string { return c.Name })
	if err != nil {
		return err
	}
	for _, gone := range []struct {
		ids    []string
		remove func(string) error
	}{{goneCredentials, tx.DeleteCredential}, {goneIdentities, tx.DeleteIdentity}, {goneEndpoints, tx.DeleteEndpoint}, {goneCertificates, tx.DeleteCertificate}, {goneAuthorities, tx.DeleteAuthority}} {
		for _, id := range gone.ids {
			if err := gone.remove(id); err != nil {
				return err
			}
		}
	}
	return nil
}

// replace puts the objects of one kind and returns the IDs of those that left the file. query lists what is there.
func replace[T any](tx *Tx, kind, query string, objects []T, put func(object T, id string) error, name func(T) string) ([]string, error) {
	rows, err := tx.sql.QueryContext(tx.ctx, query)
	if err != nil {
		return nil, fmt.Errorf("read what is declared: %w", err)
	}
	defer func() { _ = rows.Close() }()
	declared := map[string]string{} // name to ID
	elsewhere := map[string]bool{}
	var order []string
	for rows.Next() {
		var id, name string
		var origin termination.Origin
		if err := rows.Scan(&id, &name, &origin); err != nil {
			return nil, fmt.Errorf("read what is declared: %w", err)
		}
		if origin == termination.OriginFile {
			declared[name] = id
			order = append(order, name)
		} else {
			elsewhere[name] = true
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read what is declared: %w", err)
	}
	kept := map[string]bool{}
	for _, o := range objects {
		n := name(o)
		switch {
		case elsewhere[n]:
			return nil, DeclaredTwiceError{Kind: kind, Name: n}
		case kept[n]:
			return nil, NameTakenError{Kind: kind, Name: n}
		}
		kept[n] = true
		if err := put(o, declared[n]); err != nil {
			return nil, err
		}
	}
	var gone []string
	for _, n := range order {
		if !kept[n] {
			gone = append(gone, declared[n])
		}
	}
	return gone, nil
}

func (tx *Tx) putDeclaredAuthority(a termination.Authority, id string) error {
	a.ID, a.Origin = id, termination.OriginFile
	if id != "" {
		return tx.UpdateAuthority(a)
	}
	_, err := tx.CreateAuthority(a)
	return err
}

func (tx *Tx) putDeclaredCertificate(c termination.Certificate, id string) error {
	c.ID, c.Origin = id, termination.OriginFile
	if id != "" {
		return tx.UpdateCertificate(c)
	}
	_, err := tx.CreateCertificate(c, SourceFile)
	return err
}

func (tx *Tx) putDeclaredEndpoint(e termination.Endpoint, id string) error {
	e.ID, e.Origin = id, termination.OriginFile
	if id != "" {
		return tx.UpdateEndpoint(e)
	}
	_, err := tx.CreateEndpoint(e)
	return err
}

func (tx *Tx) putDeclaredCredential(c termination.Credential, id string) error {
	c.ID, c.Origin = id, termination.OriginFile
	if id != "" {
		return tx.UpdateCredential(c)
	}
	_, err := tx.CreateCredential(c)
	return err
}

func (tx *Tx) putDeclaredIdentity(i termination.Identity, id string) error {
	i.ID, i.Origin = id, termination.OriginFile
	if id == "" {
		_, err := tx.CreateIdentity(i)
		return err
	}
	// A file names certificates by their fingerprints; what was registered before stays known.
	old, err := tx.Identity(id)
	if err != nil {
		return err
	}
	for _, pin := range i.Pins {
		if c := old.Certificate(pin); c != nil {
			i.Certificates = append(i.Certificates, c)
		}
	}
	return tx.UpdateIdentity(i)
}

func (tx *Tx) replaceDeclaredSettings(d Declared) error {
	var err error
	if d.Defaults != nil {
		err = tx.SetDefaults(*d.Defaults)
	} else {
		err = tx.removeDefaults()
	}
	if err != nil {
		return err
	}
	if d.Limits != nil {
		err = tx.SetLimits(*d.Limits)
	} else {
		err = tx.removeSetting(SettingLimits, termination.OriginFile)
	}
	if err != nil {
		return err
	}
	if d.Agents != nil {
		err = tx.SetAgents(*d.Agents)
	} else {
		err = tx.removeSetting(SettingAgents, termination.OriginFile)
	}
	if err != nil {
		return err
	}
	if d.ACME != nil {
		err = tx.SetACME(*d.ACME)
	} else {
		err = tx.removeACME(termination.OriginFile)
	}
	if err != nil {
		return err
	}
	if d.Notifications != nil {
		err = tx.SetNotifications(*d.Notifications)
	} else {
		err = tx.removeNotifications(termination.OriginFile)
	}
	if err != nil {
		return err
	}
	if d.History != nil {
		return tx.SetHistory(*d.History)
	}
	return tx.removeSetting(SettingHistory, termination.OriginFile)
}
