package server

import (
	"crypto/x509"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"countersign/termination"
	"countersign/termination/acme"
	"countersign/termination/gateway"
	"countersign/termination/localca"
	"countersign/termination/staple"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

// presents are the server certificates of an endpoint.
func (s *Server) presents(clock format.Clock, e *termination.Endpoint, status gateway.EndpointStatus) []views.Presented {
	var out []views.Presented
	for i, leaf := range status.Leaves {
		v := views.Presented{
			Names: strings.Join(serverNames(leaf), ", "), Key: termination.KeyName(leaf.PublicKey), Begins: clock.Date(leaf.NotBefore), Ends: clock.Date(leaf.NotAfter),
			Left: clock.Left(leaf.NotBefore, leaf.NotAfter), Fingerprint: format.ShortFingerprint(termination.FingerprintOf(leaf)),
			Life: parts.Life{From: leaf.NotBefore, Until: leaf.NotAfter, Now: clock.Now},
		}
		if i < len(status.Staples) {
			v.Staple, v.StapleBad = stapleWords(clock, status.Staples[i])
		}
		if s.obtained(leaf) {
			v.From, v.Renewal = leaf.Issuer.CommonName, "renews itself through ACME on "+clock.Date(acme.DueAt(leaf))
		} else if ca := s.localIssuer(leaf); ca != nil && s.renews(leaf) {
			v.From, v.Renewal, v.CA = ca.Name, "renews itself on "+clock.Date(localca.DueAt(leaf)), endpointPath(e)+"/ca.pem"
		} else {
			v.From, v.Renewal = leaf.Issuer.CommonName, "upload the next one before it ends"
		}
		out = append(out, v)
	}
	return out
}

// stapleWords says what becomes of the answer of a certificate's responder, and whether clients will mind.
func stapleWords(clock format.Clock, st staple.Status) (words string, bad bool) {
	must := ""
	if st.Must {
		must = " The certificate demands it (must-staple): clients that look at that refuse it without."
	}
	switch {
	case st.Responder == "" && st.Must:
		return "No OCSP answer is sent, since it names no responder." + must, true
	case st.Responder == "":
		return "", false
	case st.Until.IsZero() && st.Problem == "":
		return "An OCSP answer is being fetched." + must, false
	case st.Until.IsZero():
		return "No OCSP answer is sent: " + st.Problem + "." + must, st.Must || st.Revoked
	case st.Problem != "":
		return "An OCSP answer is sent, good until " + clock.Moment(st.Until) + ", and no newer one can be had: " + st.Problem + "." + must, false
	}
	return "An OCSP answer is sent with it, good until " + clock.Moment(st.Until) + "." + must, false
}

// serverNames are the names that a server certificate covers.
func serverNames(leaf *x509.Certificate) []string {
	names := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		names = append(names, leaf.Subject.CommonName)
	}
	return names
}

// localIssuer is the local CA that issued a certificate, or nil.
func (s *Server) localIssuer(leaf *x509.Certificate) *termination.LocalCA {
	config := s.current()
	for i := range config.LocalCAs {
		if leaf.CheckSignatureFrom(config.LocalCAs[i].Certificate) == nil {
			return &config.LocalCAs[i]
		}
	}
	return nil
}

// clientsNeed is the local CA that clients must trust to accept an endpoint's certificate; nil: none of ours. What an agent
// presents it alone knows; unless it brought its own, the CA that may sign for the names made it.
func (s *Server) clientsNeed(e *termination.Endpoint, status gateway.EndpointStatus) *termination.LocalCA {
	for _, leaf := range status.Leaves {
		if ca := s.localIssuer(leaf); ca != nil {
			return ca
		}
	}
	if e.TerminateAt == termination.AtAgent {
		return s.signerFor(e)
	}
	return nil
}

// signerFor is the local CA that signs for the names of an endpoint, or nil.
func (s *Server) signerFor(e *termination.Endpoint) *termination.LocalCA {
	config := s.current()
	for i := range config.LocalCAs {
		if localca.MayIssue(&config.LocalCAs[i], e.ServerNames()) == nil {
			return &config.LocalCAs[i]
		}
	}
	return nil
}

// renews reports whether a certificate was made for an endpoint by the gateway, which renews it. Stored ones are not.
func (s *Server) renews(leaf *x509.Certificate) bool {
	for i := range s.current().Certificates {
		if s.current().Certificates[i].Leaf().Equal(leaf) {
			return false
		}
	}
	return true
}

// endpointCA downloads what a client needs to trust an endpoint's local certificate.
func (s *Server) endpointCA(c echo.Context) error {
	e, err := s.findEndpoint(c)
	if err != nil {
		return err
	}
	if ca := s.clientsNeed(e, s.endpointStatuses()[e.ID]); ca != nil {
		c.Response().Header().Set("Content-Disposition", `attachment; filename="`+endpointCAFile(e)+`"`)
		return c.Blob(http.StatusOK, "application/x-pem-file", localca.EncodePEM(ca.Certificate))
	}
	return &Problem{Status: http.StatusNotFound, Code: "not_found", Title: "No local CA made the certificate of " + e.Name, Advice: "Ask whoever made it for its CA.", Href: endpointPath(e), Link: "Back to " + e.Name}
}

// endpointCAFile is the name of the file that [Server.endpointCA] sends.
func endpointCAFile(e *termination.Endpoint) string { return localca.FileName(e.Name) + "-ca.pem" }
