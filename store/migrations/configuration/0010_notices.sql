-- What somebody was told of, so that nobody is told twice, and the dashboard can show the last of it.
CREATE TABLE notices (
	id        TEXT    PRIMARY KEY,
	time      INTEGER NOT NULL,
	kind      TEXT    NOT NULL,
	about     TEXT    NOT NULL, -- tells what it is about from all else
	title     TEXT    NOT NULL,
	text      TEXT    NOT NULL,
	href      TEXT    NOT NULL, -- a page of the dashboard
	handshake TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX notices_about ON notices (about, time);
