-- By which identity a client was known; NULL: by none. Names are for filters, so the column has the name of that time.
ALTER TABLE handshakes ADD COLUMN identity TEXT;

-- How often an identity came in, by day: handshakes that were verified, and the requests of connections that ended on that
-- day. Days since 1970, in UTC.
CREATE TABLE identity_days (
	day         INTEGER NOT NULL,
	identity_id TEXT    NOT NULL,
	handshakes  INTEGER NOT NULL,
	requests    INTEGER NOT NULL,
	PRIMARY KEY (day, identity_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX identity_days_by_identity ON identity_days (identity_id, day);

-- When each certificate of an identity came in first and last, and where the last time.
CREATE TABLE identity_seen (
	identity_id TEXT    NOT NULL,
	fingerprint BLOB    NOT NULL,
	first       INTEGER NOT NULL,
	last        INTEGER NOT NULL,
	endpoint    TEXT    NOT NULL,
	address     TEXT    NOT NULL,
	PRIMARY KEY (identity_id, fingerprint)
) STRICT, WITHOUT ROWID;
