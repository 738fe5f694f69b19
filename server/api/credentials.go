package api

import (
	"context"
	"net/http"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/credential"
)

// Credential is a bearer token or a user with a password, without its secret.
type Credential struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Origin    string     `json:"origin" enum:"dashboard,file,demo,command"`
	Kind      string     `json:"kind" enum:"bearer,basic"`
	User      string     `json:"user,omitempty"`
	Endpoints []string   `json:"endpoints" doc:"Names of endpoints where it counts; empty: everywhere."`
	Pin       string     `json:"pin,omitempty" doc:"Counts only on a connection that proved this certificate or key."`
	Identity  string     `json:"identity,omitempty" doc:"Counts only on a connection that is verified as this identity's."`
	Expires   *time.Time `json:"expires,omitempty" doc:"Absent: never."`
	Blocked   bool       `json:"blocked"`
	Created   *time.Time `json:"created,omitempty"`
	By        string     `json:"by,omitempty"`
	LastUsed  *time.Time `json:"last_used,omitempty" doc:"At this gateway; agents do not report it. Absent: never."`
}

// NewCredential is a credential with its secret, which is told once.
type NewCredential struct {
	Credential

	Secret string `json:"secret,omitempty" doc:"The token, or the password if it was made here. It is kept nowhere."`
}

type credentialBody struct {
	Name      string     `json:"name" maxLength:"64"`
	Kind      string     `json:"kind,omitempty" enum:"bearer,basic" doc:"Absent: bearer."`
	User      string     `json:"user,omitempty" maxLength:"128"`
	Password  string     `json:"password,omitempty" maxLength:"72" doc:"Of basic. Absent: one is made, and told once."`
	Endpoints []string   `json:"endpoints,omitempty" maxItems:"1000" doc:"Absent: everywhere."`
	Pin       string     `json:"pin,omitempty" maxLength:"120"`
	Identity  string     `json:"identity,omitempty" maxLength:"64"`
	Expires   *time.Time `json:"expires,omitempty"`
}

type credentialsInput struct {
	After string `query:"after" maxLength:"64" doc:"A cursor."`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"200"`
}

// Credentials is a page of credentials.
type Credentials struct {
	Revision uint64       `json:"revision" doc:"Number of the configuration in force."`
	Total    int          `json:"total" doc:"How many there are, on all pages."`
	Items    []Credential `json:"items"`
	Cursor   string       `json:"cursor,omitempty" doc:"Give it as after to go on; absent: there are no more."`
}

func (a *API) credentials() {
	const tag = "Credentials"
	register(a, operation{method: http.MethodGet, path: "/credentials", summary: "List bearer tokens and passwords, by name; secrets are never among them", scope: store.ScopeRead, tag: tag}, a.listCredentials)
	register(a, operation{method: http.MethodPost, path: "/credentials", summary: "Make a bearer token or a password; the secret is told once", scope: store.ScopeAdmin, body: smallBody, status: http.StatusCreated, tag: tag},
		func(ctx context.Context, in *struct{ Body credentialBody }) (*one[NewCredential], error) {
			c, err := credentialFrom(in.Body)
			if err != nil {
				return nil, err
			}
			secret, err := MakeSecret(&c, in.Body.Password)
			if err != nil {
				return nil, err
			}
			_, err = a.options.Change(ctx, func(tx *store.Tx) (err error) {
				c, err = tx.CreateCredential(c)
				return err
			})
			if err != nil {
				return nil, err
			}
			return &one[NewCredential]{NewCredential{Credential: CredentialOf(&c, store.CredentialUse{}), Secret: secret}}, nil
		})
	block := func(path, summary string, blocked bool) {
		register(a, operation{method: http.MethodPost, path: "/credentials/{id}/" + path, summary: summary, scope: store.ScopeOperate, status: http.StatusNoContent, tag: tag},
			func(ctx context.Context, in *byID) (*struct{}, error) {
				_, err := a.options.Change(ctx, func(tx *store.Tx) error { return tx.BlockCredential(in.ID, blocked) })
				return nil, err
			})
	}
	block("block", "Block a credential: what it let in ends within a second", true)
	block("unblock", "Let a credential count again", false)
	register(a, operation{method: http.MethodDelete, path: "/credentials/{id}", summary: "Delete a credential", scope: store.ScopeAdmin, status: http.StatusNoContent, tag: tag},
		func(ctx context.Context, in *byID) (*struct{}, error) {
			_, err := a.options.Change(ctx, func(tx *store.Tx) error { return tx.DeleteCredential(in.ID) })
			return nil, err
		})
}

func (a *API) listCredentials(ctx context.Context, in *credentialsInput) (*one[Credentials], error) {
	config := a.options.Current()
	uses, err := a.options.CredentialUses(ctx)
	if err != nil {
		return nil, err
	}
	out := Credentials{Revision: config.Revision, Total: len(config.Credentials), Items: []Credential{}}
	for i := range config.Credentials { // by name
		c := &config.Credentials[i]
		if c.Name <= in.After {
			continue
		}
		if len(out.Items) == in.Limit {
			out.Cursor = out.Items[len(out.Items)-1].Name
			break
		}
		out.Items = append(out.Items, CredentialOf(c, uses[c.ID]))
	}
	return &one[Credentials]{out}, nil
}

// CredentialOf describes a credential.
func CredentialOf(c *termination.Credential, use store.CredentialUse) Credential {
	out := Credential{
		ID: c.ID, Name: c.Name, Origin: string(c.Origin), Kind: string(c.Kind), User: c.User, Endpoints: append([]string{}, c.Endpoints...),
		Identity: c.Identity, Blocked: c.Blocked, By: use.By,
	}
	if c.Pin != nil {
		out.Pin = c.Pin.String()
	}
	for _, t := range []struct {
		at   time.Time
		into **time.Time
	}{{c.Expires, &out.Expires}, {use.Created, &out.Created}, {use.Used, &out.LastUsed}} {
		if !t.at.IsZero() {
			*t.into = &t.at
		}
	}
	return out
}

func credentialFrom(b credentialBody) (termination.Credential, error) {
	c := termination.Credential{Name: b.Name, Kind: termination.ProofBearer, User: b.User, Endpoints: b.Endpoints, Identity: b.Identity}
	if b.Kind != "" {
		c.Kind = termination.ProofKind(b.Kind)
	}
	if b.Expires != nil {
		c.Expires = b.Expires.UTC().Truncate(time.Millisecond)
	}
	if b.Pin != "" {
		pin, err := termination.ParsePin(b.Pin)
		if err != nil {
			return c, termination.ValidationError{{Kind: store.KindCredential, Name: b.Name, Field: "pin", Problem: err.Error(), Advice: `write the SHA-256 of the certificate, or "spki:" and that of the key, in hex`}}
		}
		c.Pin = &pin
	}
	if c.Kind == termination.ProofBearer && b.Password != "" {
		return c, termination.ValidationError{{Kind: store.KindCredential, Name: b.Name, Field: "password", Problem: "a token has no password", Advice: "remove it: the token is made here"}}
	}
	return c, nil
}

// MakeSecret gives a credential the hash of a token that it makes, or of the password; without one, it makes that too. What
// it made is returned, to be told once.
func MakeSecret(c *termination.Credential, password string) (secret string, err error) {
	if c.Kind == termination.ProofBearer {
		secret, c.Hash = credential.NewToken()
		return secret, nil
	}
	if err := termination.CheckUser(c.User); err != nil { // before the work of a hash
		return "", termination.ValidationError{{Kind: store.KindCredential, Name: c.Name, Field: "user", Problem: err.Error(), Advice: "choose another user name"}}
	}
	if password == "" {
		password = credential.NewPassword()
		secret = password
	}
	if c.Hash, err = credential.HashPassword(password); err != nil {
		return "", termination.ValidationError{{Kind: store.KindCredential, Name: c.Name, Field: "password", Problem: err.Error(), Advice: "choose another, or leave it out: then one is made"}}
	}
	return secret, nil
}
