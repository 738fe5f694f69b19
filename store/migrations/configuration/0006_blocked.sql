-- What an operator has blocked by hand: a pin, or a serial number under an authority. What the file says is kept beside
-- what the dashboard says; either keeps its client out.
CREATE TABLE blocks (
	id           TEXT    PRIMARY KEY,
	origin       TEXT    NOT NULL,
	pin          TEXT,
	serial       TEXT,
	authority_id TEXT    REFERENCES authorities (id),
	why          TEXT    NOT NULL,
	created      INTEGER NOT NULL,
	created_by   TEXT    NOT NULL,
	CHECK ((pin IS NULL) <> (serial IS NULL)),
	CHECK ((serial IS NULL) = (authority_id IS NULL))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX blocks_once ON blocks (origin, coalesce(pin, ''), coalesce(serial, ''), coalesce(authority_id, ''));
CREATE INDEX blocks_by_authority ON blocks (authority_id);

-- What the local CA has taken back, for good: a serial number is never used again.
CREATE TABLE revoked_certificates (
	authority_id TEXT    NOT NULL REFERENCES authorities (id) ON DELETE CASCADE,
	serial       TEXT    NOT NULL,
	reason       TEXT    NOT NULL,
	revoked      INTEGER NOT NULL,
	revoked_by   TEXT    NOT NULL,
	PRIMARY KEY (authority_id, serial)
) STRICT, WITHOUT ROWID;
