package proxy

import (
	"io"
	"net/http"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// BenchmarkForward measures requests on kept connections on both sides, one after the other.
func BenchmarkForward(b *testing.B) {
	for _, h2 := range []bool{false, true} {
		name := "h1"
		if h2 {
			name = "h2"
		}
		b.Run(name, func(b *testing.B) {
			f := newFront(b, frontOptions{})
			quick := tlstest.HTTPHandler(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
			f.apply(f.endpoint("public.test", quick.URL, mode(termination.ModeOff)))
			client := f.client(clientOptions{h2: h2, serverName: "public.test"})
			b.ReportAllocs()
			for b.Loop() {
				f.get(client, "public.test", "/")
			}
		})
	}
}
