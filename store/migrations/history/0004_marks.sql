-- What somebody wants to find again: a shape for a handshake, which is then kept when its kind is deleted for its age, with
-- the certificates that belong to it. There are a thousand at most.
CREATE TABLE marks (
	seq       INTEGER PRIMARY KEY,
	mark      TEXT    NOT NULL CHECK (mark IN ('star', 'square', 'triangle', 'diamond')),
	marked    INTEGER NOT NULL,
	marked_by TEXT    NOT NULL
) STRICT;

CREATE TABLE marked_certificates (
	fingerprint BLOB    NOT NULL,
	seq         INTEGER NOT NULL,
	PRIMARY KEY (fingerprint, seq)
) STRICT, WITHOUT ROWID;
