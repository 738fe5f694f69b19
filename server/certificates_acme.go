package server

import (
	"crypto/x509"
	"net/url"
	"slices"

	"github.com/labstack/echo/v4"

	"countersign/termination"
	"countersign/termination/acme"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

// acmeStatus is how the certificates are doing that are obtained through ACME.
func (s *Server) acmeStatus() acme.Status {
	if s.opts.ACME == nil {
		return acme.Status{}
	}
	return s.opts.ACME.Status()
}

// obtained reports whether a certificate was obtained through ACME.
func (s *Server) obtained(leaf *x509.Certificate) bool {
	return slices.ContainsFunc(s.acmeStatus().Names, func(n acme.NameStatus) bool { return n.Leaf != nil && n.Leaf.Equal(leaf) })
}

// acmeShown is the part of the Certificates page about ACME; nil where no endpoint asks for it.
func (s *Server) acmeShown(clock format.Clock) *views.ACME {
	status := s.acmeStatus()
	if len(status.Names) == 0 && status.Listener == "" {
		return nil
	}
	v := &views.ACME{From: directoryHost(status.Directory)}
	if status.Listener != "" {
		v.Problem = "Challenges over HTTP cannot be answered: " + status.Listener + ". It is tried again every few seconds; free the address, or choose another one."
	}
	for _, n := range status.Names {
		v.Names = append(v.Names, acmeName(clock, n))
	}
	return v
}

// directoryHost names a CA by the host of its directory.
func directoryHost(directory string) string {
	u, err := url.Parse(directory)
	if err != nil {
		return directory
	}
	return u.Host
}

// acmeName says how the certificate of one name is doing.
func acmeName(clock format.Clock, n acme.NameStatus) views.ACMEName {
	v := views.ACMEName{Name: n.Name, Error: n.Error}
	switch n.State {
	case acme.StateOK:
		v.Tone, v.State = parts.OK, "obtained"
		v.Next = "renews itself on " + clock.Date(n.NextTry)
	case acme.StateObtaining:
		v.State = "being obtained"
		if n.Error != "" {
			v.Next = "tried before, at " + clock.Moment(n.LastTry)
		}
	case acme.StateFailed:
		v.Tone, v.State = parts.Bad, "not obtained"
		if n.Leaf != nil {
			v.Tone, v.State = parts.Warn, "not renewed"
		}
		if !n.NextTry.IsZero() {
			v.Next, v.Retry = "tried again at "+clock.Moment(n.NextTry), true
		}
	}
	if n.Leaf == nil {
		v.Meanwhile = "Until it is there the local CA answers."
		return v
	}
	v.Href = "/certificates/" + termination.FingerprintOf(n.Leaf).String()
	v.Ends = "ends on " + clock.Date(n.Leaf.NotAfter) + " · " + clock.Left(n.Leaf.NotBefore, n.Leaf.NotAfter)
	return v
}

// endpointACME are the names of an endpoint whose certificates are obtained.
func (s *Server) endpointACME(clock format.Clock, e *termination.Endpoint) []views.ACMEName {
	if !slices.Contains(e.Certificates, termination.CertificateACME) {
		return nil
	}
	var out []views.ACMEName
	own := e.ServerNames()
	for _, n := range s.acmeStatus().Names {
		if slices.Contains(own, n.Name) {
			out = append(out, acmeName(clock, n))
		}
	}
	return out
}

// retryACME tries a name now that waits for its next try.
func (s *Server) retryACME(c echo.Context) error {
	name := c.FormValue("name")
	if s.opts.ACME == nil || !s.opts.ACME.Retry(name) {
		return notFound("name", name)
	}
	s.say(c, "ok", name+" is tried again now. Load this page again in a moment to see how it went.")
	return s.redirect(c, "/certificates#acme")
}
