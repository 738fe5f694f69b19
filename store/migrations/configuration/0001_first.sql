-- The configuration of one gateway. Times are milliseconds since 1970. Names are unique within their kind; rows refer
-- to each other by ID, so that a rename carries through.

CREATE TABLE migrations (
	version INTEGER PRIMARY KEY,
	name    TEXT    NOT NULL,
	applied INTEGER NOT NULL
) STRICT;

-- One row. The recipient is the public half of the identity that opens sealed keys: a key file of another store is
-- noticed before anything is sealed to it.
CREATE TABLE state (
	one       INTEGER PRIMARY KEY CHECK (one = 1),
	node      TEXT    NOT NULL,
	revision  INTEGER NOT NULL,
	recipient TEXT    NOT NULL
) STRICT;

CREATE TABLE authorities (
	id      TEXT    PRIMARY KEY,
	name    TEXT    NOT NULL UNIQUE,
	origin  TEXT    NOT NULL,
	created INTEGER NOT NULL,
	changed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE authority_certificates (
	authority_id TEXT    NOT NULL REFERENCES authorities (id) ON DELETE CASCADE,
	position     INTEGER NOT NULL,
	role         TEXT    NOT NULL,
	fingerprint  BLOB    NOT NULL,
	der          BLOB    NOT NULL,
	PRIMARY KEY (authority_id, position),
	UNIQUE (authority_id, fingerprint)
) STRICT;

-- The key of a CA that issues here. Deferred: the certificates of an authority are replaced as a whole.
CREATE TABLE local_cas (
	authority_id TEXT    PRIMARY KEY REFERENCES authorities (id),
	fingerprint  BLOB    NOT NULL,
	sealed_key   BLOB    NOT NULL,
	constrained  INTEGER NOT NULL CHECK (constrained IN (0, 1)),
	created      INTEGER NOT NULL,
	FOREIGN KEY (authority_id, fingerprint) REFERENCES authority_certificates (authority_id, fingerprint)
		DEFERRABLE INITIALLY DEFERRED
) STRICT, WITHOUT ROWID;

CREATE TABLE certificates (
	id         TEXT    PRIMARY KEY,
	name       TEXT    NOT NULL UNIQUE,
	origin     TEXT    NOT NULL,
	source     TEXT    NOT NULL, -- where it came from: upload, local, file
	chain      BLOB    NOT NULL, -- DER, leaf first, one after the other
	sealed_key BLOB    NOT NULL,
	created    INTEGER NOT NULL,
	changed    INTEGER NOT NULL
) STRICT;

-- What decides where an endpoint answers, and what refers to other rows, has columns and tables: constraints hold them,
-- and the names of an endpoint stay known even when its settings cannot be read. The rest (policy, upstream, routes) is
-- one JSON document: it is always read and written whole, nothing queries inside it, and it grows with every version.
CREATE TABLE endpoints (
	id               TEXT    PRIMARY KEY,
	name             TEXT    NOT NULL UNIQUE,
	origin           TEXT    NOT NULL,
	enabled          INTEGER NOT NULL CHECK (enabled IN (0, 1)),
	scheme           TEXT    NOT NULL,
	host             TEXT    NOT NULL,
	listen           TEXT    NOT NULL,
	port             INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
	terminate_at     TEXT    NOT NULL,
	settings_version INTEGER NOT NULL,
	settings         TEXT    NOT NULL,
	created          INTEGER NOT NULL,
	changed          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE endpoint_aliases (
	endpoint_id TEXT    NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
	position    INTEGER NOT NULL,
	name        TEXT    NOT NULL,
	PRIMARY KEY (endpoint_id, position)
) STRICT, WITHOUT ROWID;

-- The authorities of an endpoint's own policy (route is empty) and of its routes (route is the path).
CREATE TABLE endpoint_authorities (
	endpoint_id  TEXT    NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
	route        TEXT    NOT NULL,
	position     INTEGER NOT NULL,
	authority_id TEXT    NOT NULL REFERENCES authorities (id),
	PRIMARY KEY (endpoint_id, route, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX endpoint_authorities_by_authority ON endpoint_authorities (authority_id);

-- Without a certificate_id: issued by the local CA.
CREATE TABLE endpoint_certificates (
	endpoint_id    TEXT    NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
	position       INTEGER NOT NULL,
	certificate_id TEXT    REFERENCES certificates (id),
	PRIMARY KEY (endpoint_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX endpoint_certificates_by_certificate ON endpoint_certificates (certificate_id);

-- What every verifying endpoint trusts. What the file says is kept beside what the dashboard says, and wins.
CREATE TABLE default_authorities (
	origin       TEXT    NOT NULL,
	position     INTEGER NOT NULL,
	authority_id TEXT    NOT NULL REFERENCES authorities (id),
	PRIMARY KEY (origin, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX default_authorities_by_authority ON default_authorities (authority_id);

-- The pins of the defaults stand under the key "default pins"; its presence means that this origin has defaults.
CREATE TABLE settings (
	key     TEXT    NOT NULL,
	origin  TEXT    NOT NULL,
	value   TEXT    NOT NULL,
	changed INTEGER NOT NULL,
	PRIMARY KEY (key, origin)
) STRICT, WITHOUT ROWID;

-- Certificates that the local CA issued; their keys are not kept.
CREATE TABLE issued_certificates (
	fingerprint  BLOB    PRIMARY KEY,
	authority_id TEXT    REFERENCES authorities (id) ON DELETE SET NULL,
	kind         TEXT    NOT NULL,
	name         TEXT    NOT NULL,
	der          BLOB    NOT NULL,
	not_after    INTEGER NOT NULL,
	created      INTEGER NOT NULL,
	created_by   TEXT    NOT NULL
) STRICT;
CREATE INDEX issued_certificates_by_authority ON issued_certificates (authority_id);

-- Of sessions, sign-in links and API tokens only SHA-256 hashes are kept. The secrets have 256 random bits, so a slow
-- hash would add nothing.
CREATE TABLE sessions (
	id         TEXT    PRIMARY KEY,
	token_hash BLOB    NOT NULL UNIQUE,
	name       TEXT    NOT NULL,
	csrf       TEXT    NOT NULL,
	created    INTEGER NOT NULL,
	last_seen  INTEGER NOT NULL,
	idle       INTEGER NOT NULL, -- milliseconds without a request after which it ends
	ends       INTEGER NOT NULL  -- when it ends in any case
) STRICT, WITHOUT ROWID;

CREATE TABLE sign_in_links (
	token_hash BLOB    PRIMARY KEY,
	created    INTEGER NOT NULL,
	expires    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE api_tokens (
	id         TEXT    PRIMARY KEY,
	name       TEXT    NOT NULL,
	scope      TEXT    NOT NULL,
	token_hash BLOB    NOT NULL UNIQUE,
	created    INTEGER NOT NULL,
	created_by TEXT    NOT NULL,
	last_used  INTEGER,
	revoked    INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX api_tokens_name ON api_tokens (name) WHERE revoked IS NULL;

-- Who did what. IDs of one millisecond do not sort, hence seq. Before and after are JSON without secrets.
CREATE TABLE audit (
	seq       INTEGER PRIMARY KEY AUTOINCREMENT,
	id        TEXT    NOT NULL UNIQUE,
	time      INTEGER NOT NULL,
	revision  INTEGER NOT NULL,
	actor     TEXT    NOT NULL,
	via       TEXT    NOT NULL,
	action    TEXT    NOT NULL,
	kind      TEXT    NOT NULL,
	object_id TEXT    NOT NULL,
	name      TEXT    NOT NULL,
	before    TEXT,
	after     TEXT
) STRICT;
CREATE INDEX audit_by_object ON audit (object_id, seq);
