package server

import (
	"errors"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/views"
	"countersign/views/parts"
)

// revocationOf says whether a certificate that was issued here is revoked, or how to revoke it; nil: its CA is gone.
func (s *Server) revocationOf(c echo.Context, p views.Page, issued *store.Issued) *views.Revocation {
	config := s.current()
	serial := termination.SerialOf(issued.Certificate)
	for i := range config.Authorities {
		a := &config.Authorities[i]
		if a.ID != issued.AuthorityID {
			continue
		}
		for _, r := range a.Revocation.Revoked {
			if r.Serial != serial {
				continue
			}
			done := "since " + p.Moment(r.Time)
			if r.Reason != "" {
				done += ": " + r.Reason
			}
			return &views.Revocation{Done: done}
		}
		return &views.Revocation{
			Action: "/certificates/" + termination.FingerprintOf(issued.Certificate).String() + "/revoke",
			Reason: parts.Input{Name: "reason", Label: "Why", Hint: "For whoever looks at it later. The client is not told.", Value: c.FormValue("reason"), Placeholder: "key lost", Words: true},
		}
	}
	return nil
}

// revokeCertificate takes a certificate back that the local CA has issued.
func (s *Server) revokeCertificate(c echo.Context) error {
	known, err := s.knownCertificates(c.Request().Context())
	if err != nil {
		return err
	}
	found, err := known.find(fingerprintParam(c))
	if err != nil {
		return err
	}
	if found.issued == nil || found.issued.AuthorityID == "" {
		return notFound("issued certificate", termination.FingerprintOf(found.cert).Short())
	}
	reason := strings.TrimSpace(c.FormValue("reason"))
	_, err = s.change(c, func(tx *store.Tx) error {
		return tx.Revoke(found.issued.AuthorityID, termination.SerialOf(found.cert), reason)
	})
	var bad store.TextError
	switch {
	case errors.As(err, &bad):
		return s.showKnown(c, http.StatusUnprocessableEntity, known, found, func(v *views.Certificate) {
			if v.Revoke != nil {
				v.Revoke.Reason.Error = "The reason " + bad.Problem + ". Say it in a few plain words."
			}
		})
	case err != nil:
		return err
	}
	s.say(c, "ok", "It is revoked: no endpoint lets it in any more.")
	return s.redirect(c, "/certificates/"+termination.FingerprintOf(found.cert).String())
}
