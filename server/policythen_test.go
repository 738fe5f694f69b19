package server

import (
	"net/http"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// A handshake leads to the policy by which it was judged, and to what was changed since.
func TestPolicyAsOfThen(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	f.withAuthority("clients", tlstest.NewCA(tlstest.CN("Clients")))
	port := freeTCPPort(t)
	wantAll(t, f.post("/endpoints", endpointFields(port, "rules", `allow cn="rhea"`)), http.StatusSeeOther)
	shop := f.current().Endpoint("shop")
	h := hostileHandshake("rhea", time.Now())
	h.EndpointID, h.Endpoint, h.Revision = shop.ID, "shop", f.current().Revision
	stray := hostileHandshake("eve", time.Now())
	stray.EndpointID, stray.Endpoint = "", ""
	early := hostileHandshake("early", time.Now())
	early.EndpointID, early.Endpoint, early.Revision = shop.ID, "shop", 0
	for _, one := range []*termination.Handshake{h, stray, early} {
		f.opts.Hub.Publish(one)
	}
	path := "/handshakes/" + h.ID + "/policy"
	page := f.get(path)
	for end := time.Now().Add(10 * time.Second); page.status == http.StatusNotFound && time.Now().Before(end); {
		page = f.get(path)
	}
	wantAll(t, page, http.StatusOK, "shop as of then", "cn: rhea", "saved by rhea.", "Nothing of it was changed since")
	wantAll(t, f.get("/handshakes/"+h.ID), http.StatusOK, path)
	wantAll(t, f.get("/handshakes/"+stray.ID+"/policy"), http.StatusNotFound, "The policy of that time is not known")
	wantAll(t, f.get("/handshakes/"+early.ID+"/policy"), http.StatusNotFound, "does not go back that far")
	wantAll(t, f.post("/endpoints/shop/policy", endpointFields(port, "rules", `allow cn="someone"`)), http.StatusSeeOther)
	wantAll(t, f.get(path), http.StatusOK, "cn: rhea", "Changed since", "clientAuth.rules")
}
