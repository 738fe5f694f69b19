-- Certificates with which we show ourselves to the upstream of an endpoint (route is empty) or of a route (its path).
CREATE TABLE endpoint_own_certificates (
	endpoint_id    TEXT NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
	route          TEXT NOT NULL,
	certificate_id TEXT NOT NULL REFERENCES certificates (id),
	PRIMARY KEY (endpoint_id, route)
) STRICT, WITHOUT ROWID;
CREATE INDEX endpoint_own_certificates_by_certificate ON endpoint_own_certificates (certificate_id);

-- Without a certificate_id, who issues it: '' is the local CA, 'acme' the one of the ACME directory.
ALTER TABLE endpoint_certificates ADD COLUMN issuer TEXT NOT NULL DEFAULT '';
