package server

import (
	"fmt"
	"io"
	"net/http"

	"github.com/labstack/echo/v4"

	"countersign/termination"
	"countersign/termination/verify"
	"countersign/views"
)

// uploadedOrPasted reads the file of a form, or what was pasted where there is no file.
func uploadedOrPasted(c echo.Context) ([]byte, error) {
	header, err := c.FormFile("file")
	if err != nil || header.Size == 0 {
		return []byte(c.FormValue("pem")), nil // no file was chosen
	}
	file, err := header.Open()
	if err != nil {
		return nil, fmt.Errorf("open uploaded file: %w", err)
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, termination.MaxUpload+1))
	if err != nil {
		return nil, fmt.Errorf("read uploaded file: %w", err)
	}
	return data, nil
}

// judgement says whether the holder of a certificate would come in, and returns what of the input may be shown again.
func (s *Server) judgement(e *termination.Endpoint, data []byte) (*views.Judged, string, int) {
	refuse := func(text string) (*views.Judged, string, int) {
		return &views.Judged{Error: text}, "", http.StatusUnprocessableEntity
	}
	if e.TerminateAt == termination.AtUpstream {
		return refuse("Decided by the service behind. We cannot check what we do not open.")
	}
	upload, err := termination.ReadUpload(data)
	if err != nil {
		return refuse(err.Error())
	}
	if upload.Has(termination.UploadPrivateKey) || upload.Has(termination.UploadPKCS12) {
		return refuse("There is a private key in it. Only the certificate is needed here; the key was wiped and not kept.")
	}
	chain := upload.Certificates()
	if len(chain) == 0 {
		return refuse(upload.Items[0].Message)
	}
	policy, err := verify.Compile(s.current(), e.PolicyFor(nil), verify.Scope{Endpoint: e.Name})
	if err != nil {
		return refuse(err.Error())
	}
	j := policy.Judge(verify.Showing(chain...), s.now())
	name := verify.BestName(chain[0])
	out := &views.Judged{Who: name.Name, In: j.In}
	if j.Reason != "" {
		if info, ok := j.Reason.Info(); ok {
			out.Reason = info.Title
		}
	}
	switch {
	case j.Verified && j.Authority != "":
		out.By = "signed for by " + j.Authority
	case j.Verified && j.Pin != "":
		out.By = "its pin is listed"
	case j.In:
		out.By = "although nothing about it was verified: this endpoint lets in " + lowerFirst(modeWords(s.current().Effective(e.ClientAuth)))
	}
	for _, check := range j.Checks {
		out.Checks = append(out.Checks, check.Detail)
	}
	for _, r := range e.Routes {
		if r.ClientAuth == nil {
			continue
		}
		own, err := verify.Compile(s.current(), *r.ClientAuth, verify.Scope{Endpoint: e.Name})
		out.Routes = append(out.Routes, views.JudgedRoute{Path: r.Path, In: err == nil && own.Judge(verify.Showing(chain...), s.now()).In})
	}
	return out, string(upload.PEM()), http.StatusOK
}
