package wire

import (
	"bytes"
	"testing"
)

func TestPostgresError(t *testing.T) {
	const want = "E\x00\x00\x00\x25SFATAL\x00VFATAL\x00C28000\x00MTLS first\x00\x00"
	if got := PostgresError("28000", "TLS first"); string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What we send ourselves is what we recognise.
func TestPostgresSSLRequest(t *testing.T) {
	request := PostgresSSLRequest()
	_, raw, err := ReadClientHello(bytes.NewReader(request[:]), 0)
	if flaw, ok := err.(*HelloError); !ok || flaw.Protocol != ProtocolPostgres || len(raw) != PostgresRequestLen { //nolint:errorlint // it is always one
		t.Errorf("%v after %d bytes", err, len(raw))
	}
}
