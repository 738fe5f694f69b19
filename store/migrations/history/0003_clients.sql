-- Whether it was the first time that its certificate was let in as verified; NULL: no, or not known.
ALTER TABLE handshakes ADD COLUMN first_in INTEGER;

-- From when on the register of clients is kept; NULL: it was not begun.
ALTER TABLE state ADD COLUMN clients_since INTEGER;

-- Every certificate that clients presented. It outlives the handshakes that it counts. What was never verified comes from
-- strangers and is bounded; the certificate itself is in certificates. Dates of certificates are in seconds.
CREATE TABLE clients (
	fingerprint BLOB    PRIMARY KEY,
	first       INTEGER NOT NULL,
	last        INTEGER NOT NULL,
	first_in    INTEGER,          -- verified; NULL: never
	last_in     INTEGER,
	verified    INTEGER NOT NULL, -- handshakes, by what became of them
	open        INTEGER NOT NULL,
	passed      INTEGER NOT NULL,
	failed      INTEGER NOT NULL,
	outcome     TEXT    NOT NULL, -- of the last one
	reason      TEXT    NOT NULL,
	handshake   TEXT    NOT NULL,
	proven      TEXT    NOT NULL, -- the last one in which its key was proven; empty: none
	endpoint    TEXT    NOT NULL,
	address     TEXT    NOT NULL,
	name        TEXT    NOT NULL,
	full        TEXT    NOT NULL,
	issuer      TEXT    NOT NULL,
	authority   TEXT    NOT NULL,
	identity    TEXT    NOT NULL,
	not_before  INTEGER NOT NULL,
	not_after   INTEGER NOT NULL,
	warn_at     INTEGER NOT NULL, -- when its end begins to be near
	notes       INTEGER NOT NULL, -- bits
	pq          INTEGER           -- its last hello offered a post-quantum key exchange; NULL: no hello
) STRICT;
CREATE INDEX clients_never_verified ON clients (last) WHERE first_in IS NULL;

-- With what, from where and to where a client came, and why it failed: kind is software (JA4), address, endpoint (ID) or
-- reason. A few of each kind.
CREATE TABLE client_traits (
	fingerprint BLOB    NOT NULL,
	kind        TEXT    NOT NULL,
	value       TEXT    NOT NULL,
	label       TEXT    NOT NULL,
	first       INTEGER NOT NULL,
	last        INTEGER NOT NULL,
	let_in      INTEGER NOT NULL,
	failed      INTEGER NOT NULL,
	PRIMARY KEY (fingerprint, kind, value)
) STRICT, WITHOUT ROWID;

-- How often a client came, by hour, and by day (at its first hour) once that is two days ago. Hours since 1970, UTC.
CREATE TABLE client_hours (
	hour        INTEGER NOT NULL,
	fingerprint BLOB    NOT NULL,
	let_in      INTEGER NOT NULL,
	failed      INTEGER NOT NULL,
	PRIMARY KEY (hour, fingerprint)
) STRICT, WITHOUT ROWID;

-- A client that came with other software than it used for long.
CREATE TABLE client_changes (
	time        INTEGER NOT NULL,
	fingerprint BLOB    NOT NULL,
	handshake   TEXT    NOT NULL,
	before      TEXT    NOT NULL, -- JA4
	after       TEXT    NOT NULL,
	times       INTEGER NOT NULL, -- how often it had come with the software before
	address     TEXT    NOT NULL,
	endpoint    TEXT    NOT NULL,
	PRIMARY KEY (time, fingerprint, after)
) STRICT, WITHOUT ROWID;
