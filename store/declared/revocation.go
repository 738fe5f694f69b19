package declared

import (
	"strings"

	"github.com/goccy/go-yaml/ast"

	"countersign/termination"
)

// crlFiles reads the revocation lists of an authority.
func (r *reader) crlFiles(n ast.Node, into *termination.Revocation) {
	r.list(n, "crl_files", func(_ int, e ast.Node) {
		f := r.readNamedUpTo(e, termination.MaxGivenCRLs)
		if f == nil {
			return
		}
		lists, err := termination.ReadCRLs(f.data)
		if err != nil {
			// Most of these errors say themselves what to do.
			problem, fix, said := strings.Cut(err.Error(), "; ")
			if !said {
				fix = "give the revocation list of the CA, as PEM or DER"
			}
			r.fail(e, f.where(0)+problem, fix)
			return
		}
		for _, l := range lists {
			into.CRLs = append(into.CRLs, termination.CRL{DER: l.Raw, Source: f.path})
		}
	})
}

func (r *reader) revocationMode(n ast.Node, into *termination.Revocation) {
	var mode string
	if r.word(n, "revocation", &mode, string(termination.RevocationOff), string(termination.RevocationSoft), string(termination.RevocationHard)) {
		into.Mode = termination.RevocationMode(mode)
	}
}
