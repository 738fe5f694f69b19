-- Filters of the Live page under a name. They belong to this gateway, not to a person or a browser.
CREATE TABLE saved_views (
	id         TEXT    PRIMARY KEY,
	name       TEXT    NOT NULL COLLATE NOCASE UNIQUE,
	filter     TEXT    NOT NULL,
	created    INTEGER NOT NULL,
	created_by TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
