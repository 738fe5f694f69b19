-- Named clients. Where the rate is empty there is none. One without endpoints is only a name, so an endpoint that an
-- identity names cannot be deleted: what is left would be another identity.
CREATE TABLE identities (
	id      TEXT    PRIMARY KEY,
	name    TEXT    NOT NULL UNIQUE,
	origin  TEXT    NOT NULL,
	rate    TEXT    NOT NULL,
	burst   INTEGER NOT NULL CHECK (burst >= 0),
	blocked INTEGER NOT NULL CHECK (blocked IN (0, 1)),
	created INTEGER NOT NULL,
	changed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What identities are known by. A pin belongs to one of them, which is not a constraint here, so that a change may hand it
-- on. der is the certificate, where it was registered and not only named by its fingerprint.
CREATE TABLE identity_pins (
	identity_id TEXT    NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
	position    INTEGER NOT NULL,
	pin         TEXT    NOT NULL,
	der         BLOB,
	added       INTEGER NOT NULL,
	PRIMARY KEY (identity_id, position)
) STRICT;

-- CA certificates that came with one, for people to look at.
CREATE TABLE identity_issuers (
	identity_id TEXT    NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
	position    INTEGER NOT NULL,
	der         BLOB    NOT NULL,
	PRIMARY KEY (identity_id, position)
) STRICT;

CREATE TABLE identity_matches (
	identity_id  TEXT    NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
	position     INTEGER NOT NULL,
	authority_id TEXT    NOT NULL REFERENCES authorities (id),
	subject      TEXT    NOT NULL, -- JSON, without the authority
	PRIMARY KEY (identity_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX identity_matches_by_authority ON identity_matches (authority_id);

CREATE TABLE identity_endpoints (
	identity_id TEXT    NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
	position    INTEGER NOT NULL,
	endpoint_id TEXT    NOT NULL REFERENCES endpoints (id),
	PRIMARY KEY (identity_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX identity_endpoints_by_endpoint ON identity_endpoints (endpoint_id);

-- One-time invitations to register a certificate. Of the secret only the SHA-256 is kept; a used one stays for a while,
-- so that whoever uses it again is told. Without an identity_id a new one of that name is made.
CREATE TABLE registrations (
	id           TEXT    PRIMARY KEY,
	secret_hash  BLOB    NOT NULL UNIQUE,
	portal_id    TEXT    NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
	identity_id  TEXT    REFERENCES identities (id) ON DELETE CASCADE,
	name         TEXT    NOT NULL,
	endpoints    TEXT    NOT NULL, -- JSON: IDs of endpoints of the new identity
	authority_id TEXT    REFERENCES authorities (id) ON DELETE SET NULL, -- of the local CA that signs a request; NULL: none does
	created      INTEGER NOT NULL,
	created_by   TEXT    NOT NULL,
	expires      INTEGER NOT NULL,
	used         INTEGER,
	fingerprint  BLOB    -- that was registered
) STRICT, WITHOUT ROWID;
