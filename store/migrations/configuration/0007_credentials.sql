-- Bearer tokens and passwords of requests. Of a secret only its hash is kept. One that counts everywhere has no rows in
-- credential_endpoints, so an endpoint that a credential names cannot be deleted: what is left would count at others.
CREATE TABLE credentials (
	id          TEXT    PRIMARY KEY,
	name        TEXT    NOT NULL UNIQUE,
	origin      TEXT    NOT NULL,
	kind        TEXT    NOT NULL CHECK (kind IN ('bearer', 'basic')),
	user        TEXT    NOT NULL,
	hash        TEXT    NOT NULL,
	pin         TEXT    NOT NULL, -- empty: not bound to one
	identity_id TEXT    REFERENCES identities (id),
	everywhere  INTEGER NOT NULL CHECK (everywhere IN (0, 1)),
	expires     INTEGER,
	blocked     INTEGER NOT NULL CHECK (blocked IN (0, 1)),
	last_used   INTEGER,
	created     INTEGER NOT NULL,
	created_by  TEXT    NOT NULL,
	changed     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX credentials_by_identity ON credentials (identity_id);

CREATE TABLE credential_endpoints (
	credential_id TEXT    NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
	position      INTEGER NOT NULL,
	endpoint_id   TEXT    NOT NULL REFERENCES endpoints (id),
	PRIMARY KEY (credential_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX credential_endpoints_by_endpoint ON credential_endpoints (endpoint_id);
