package server

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"countersign/server/api"
	"countersign/store"
)

// controlHost is the host in requests to the control socket. It means nothing: whoever opens the socket has arrived.
const controlHost = "countersign"

// handleHandshakes adds what shows handshakes and explains, under the paths that the dashboard's API has for it, so that a client of one
// is a client of the other.
func (c *Control) handleHandshakes(mux, all *http.ServeMux) {
	mux.HandleFunc("GET "+api.Prefix+"/handshakes", c.readHandshakes)
	mux.HandleFunc("GET "+api.Prefix+"/handshakes/{ref}", c.readHandshakes)
	all.HandleFunc("POST "+api.Prefix+"/explain", c.readHandshakes)
	mux.HandleFunc("GET "+api.Prefix+"/handshakes/live", func(w http.ResponseWriter, r *http.Request) {
		c.server.sockets.serve(w, r, liveVisitor{
			hosts: []string{controlHost}, bearer: true, // no browser comes here, so there is no Origin to ask for
			still: func(context.Context) bool { return true },
		})
	})
}

func (c *Control) readHandshakes(w http.ResponseWriter, r *http.Request) {
	actor := store.Actor{Name: "control socket", Via: viaCommand}
	c.server.operations.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), actorKey{}, actor)))
}

// DialControl opens a connection to the control socket of the gateway that runs on dir. When there is none, the error is
// that of a file that does not exist, or of a connection that was refused.
func DialControl(ctx context.Context, dir string) (net.Conn, error) {
	client, err := NewControlClient(dir)
	if err != nil {
		return nil, err
	}
	conn, err := client.dial(ctx, "", "")
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	return conn, nil
}
