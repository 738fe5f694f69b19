-- Remote processes that end TLS beside a service. One that was removed stays for a while, so that it is told so. Agents
-- and invitations go with their endpoint: what is not known is refused.
CREATE TABLE agents (
	id          TEXT    PRIMARY KEY,
	endpoint_id TEXT    NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
	name        TEXT    NOT NULL,
	key         BLOB    NOT NULL, -- SHA-256 of the public key that it joined with
	created     INTEGER NOT NULL,
	seen        INTEGER NOT NULL, -- 0: never since it joined
	version     TEXT    NOT NULL,
	address     TEXT    NOT NULL,
	removed     INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX agents_by_endpoint ON agents (endpoint_id);

-- Of an invitation's secret only the SHA-256 is kept. A used one stays for a while, so that whoever uses it again is told.
CREATE TABLE invitations (
	id          TEXT    PRIMARY KEY,
	secret_hash BLOB    NOT NULL UNIQUE,
	endpoint_id TEXT    NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
	created     INTEGER NOT NULL,
	created_by  TEXT    NOT NULL,
	expires     INTEGER NOT NULL,
	used        INTEGER,
	agent_id    TEXT    -- that came by it
) STRICT, WITHOUT ROWID;
CREATE INDEX invitations_by_endpoint ON invitations (endpoint_id);

-- One row once there was a first invitation: the CA that signs the certificates of agents, and of their listener.
CREATE TABLE agent_ca (
	one         INTEGER PRIMARY KEY CHECK (one = 1),
	certificate BLOB    NOT NULL, -- DER
	sealed_key  BLOB    NOT NULL,
	created     INTEGER NOT NULL
) STRICT;
