package server

import "testing"

// exampleDemo is what a first start leaves behind, without the files.
func exampleDemo(t *testing.T) *Demo {
	t.Helper()
	return &Demo{
		Dir: t.TempDir(), CA: "local-ca.pem", Client: "rhea.pem", Stranger: "stranger.pem", P12: "rhea.p12", P12Apple: "rhea-apple.p12",
		P12Password: "gentle-otter-47", User: "rhea", Endpoint: "demo", Host: "demo.localhost:8443", Listen: "127.0.0.1:8443",
	}
}
