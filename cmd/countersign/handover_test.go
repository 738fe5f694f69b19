package main

import (
	"testing"

	"countersign/termination/acme"
)

// What is given back after an upgrade that failed may be asked for later: the listener for challenges opens by itself.
func TestSocketsThatAreGivenBackStayOpen(t *testing.T) {
	a := newApp(appOptions{})
	first, err := a.sockets.Listen(t.Context(), acme.SocketUse, "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &handover{app: a}
	if h.copies, err = a.sockets.Copies(); err != nil {
		t.Fatal(err)
	}
	_ = first.Close()
	h.inheritCopies()
	h.closeCopies()
	again, err := a.sockets.Listen(t.Context(), acme.SocketUse, "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.Addr().String() != first.Addr().String() {
		t.Errorf("listens at %s, not %s", again.Addr(), first.Addr())
	}
}
