-- Handshakes that were recorded. Times are nanoseconds since 1970 unless a comment says otherwise.

CREATE TABLE migrations (
	version INTEGER PRIMARY KEY,
	name    TEXT    NOT NULL,
	applied INTEGER NOT NULL -- milliseconds
) STRICT;

-- One row. last_seq outlives the handshakes that are deleted; clean says that the store was closed in order.
CREATE TABLE state (
	one      INTEGER PRIMARY KEY CHECK (one = 1),
	last_seq INTEGER NOT NULL,
	seen     INTEGER NOT NULL CHECK (seen IN (0, 1)), -- a client's handshake was ever recorded
	clean    INTEGER NOT NULL CHECK (clean IN (0, 1))
) STRICT;
INSERT INTO state (one, last_seq, seen, clean) VALUES (1, 0, 0, 1);

-- What filters look at, in a table of narrow rows that can be scanned; the whole record is beside it. One index besides
-- the key is all that the write path can afford: handshakes are found by ID, and in order of seq.
CREATE TABLE handshakes (
	seq         INTEGER PRIMARY KEY,
	id          TEXT    NOT NULL,
	time        INTEGER NOT NULL,
	duration    INTEGER NOT NULL, -- nanoseconds
	outcome     TEXT    NOT NULL,
	reason      TEXT    NOT NULL,
	beat        INTEGER NOT NULL,
	proof       INTEGER NOT NULL,
	endpoint_id TEXT    NOT NULL,
	endpoint    TEXT    NOT NULL,
	ip          BLOB    NOT NULL, -- 4 or 16 bytes, or none
	address     TEXT    NOT NULL, -- the same as text
	sni         TEXT    NOT NULL,
	client      TEXT    NOT NULL,
	client_full TEXT,             -- NULL: the same as client
	authority   TEXT    NOT NULL,
	issuer      TEXT    NOT NULL,
	fingerprint BLOB,             -- NULL: no certificate
	version     INTEGER,          -- NULL here and in the next three: nothing was negotiated
	key_group   INTEGER,
	pq          INTEGER,
	alpn        TEXT,
	ja4         TEXT              -- NULL: no ClientHello
) STRICT;
CREATE UNIQUE INDEX handshakes_by_id ON handshakes (id);

CREATE TABLE records (
	seq    INTEGER PRIMARY KEY,
	record BLOB NOT NULL -- JSON
) STRICT;

CREATE TABLE ends (
	seq    INTEGER PRIMARY KEY,
	record BLOB NOT NULL -- JSON
) STRICT;

-- Certificates that clients presented, and those above them that were found, each once.
CREATE TABLE certificates (
	fingerprint BLOB    PRIMARY KEY,
	last_seen   INTEGER NOT NULL, -- of a handshake's time, exact to an hour
	der         BLOB    NOT NULL
) STRICT;

-- From a time to the sequence numbers around it, however the clock jumped. Minutes since 1970.
CREATE TABLE minutes (
	minute    INTEGER PRIMARY KEY,
	first_seq INTEGER NOT NULL,
	last_seq  INTEGER NOT NULL
) STRICT;

-- Counters that outlive the handshakes they count; proofs are not in them.
CREATE TABLE counters (
	minute      INTEGER NOT NULL,
	endpoint_id TEXT    NOT NULL,
	outcome     TEXT    NOT NULL,
	reason      TEXT    NOT NULL,
	count       INTEGER NOT NULL,
	PRIMARY KEY (minute, endpoint_id, outcome, reason)
) STRICT, WITHOUT ROWID;
