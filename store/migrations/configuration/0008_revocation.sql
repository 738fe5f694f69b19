-- What authorities say about revocation. The lists that were given are a part of the configuration; those that were fetched
-- are kept so that a restart without network forgets nothing.
CREATE TABLE authority_revocation (
	authority_id TEXT PRIMARY KEY REFERENCES authorities (id) ON DELETE CASCADE,
	mode         TEXT NOT NULL,
	ocsp_url     TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE authority_crls (
	authority_id TEXT    NOT NULL REFERENCES authorities (id) ON DELETE CASCADE,
	position     INTEGER NOT NULL,
	source       TEXT    NOT NULL,
	der          BLOB    NOT NULL,
	PRIMARY KEY (authority_id, position)
) STRICT;

CREATE TABLE authority_crl_urls (
	authority_id TEXT    NOT NULL REFERENCES authorities (id) ON DELETE CASCADE,
	position     INTEGER NOT NULL,
	url          TEXT    NOT NULL,
	PRIMARY KEY (authority_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE fetched_crls (
	authority_id TEXT    NOT NULL REFERENCES authorities (id) ON DELETE CASCADE,
	url          TEXT    NOT NULL,
	body         BLOB    NOT NULL,
	etag         TEXT    NOT NULL,
	modified     TEXT    NOT NULL,
	checked      INTEGER NOT NULL,
	PRIMARY KEY (authority_id, url)
) STRICT;
