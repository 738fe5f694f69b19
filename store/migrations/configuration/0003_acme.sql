-- Parts of settings that nobody may read, such as the password of a DNS provider: JSON, sealed like the private keys.
CREATE TABLE setting_secrets (
	key    TEXT NOT NULL,
	origin TEXT NOT NULL,
	sealed BLOB NOT NULL,
	PRIMARY KEY (key, origin)
) STRICT, WITHOUT ROWID;

-- What is kept about ACME between starts: accounts, certificates and their keys, each sealed.
CREATE TABLE acme_state (
	key      TEXT    PRIMARY KEY,
	sealed   BLOB    NOT NULL,
	modified INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One order for a name at a time. A lock whose owner died ends by itself.
CREATE TABLE acme_locks (
	name    TEXT    PRIMARY KEY,
	owner   TEXT    NOT NULL,
	expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
