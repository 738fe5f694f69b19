package api

import (
	"bytes"
	"context"
	"crypto/x509"
	"net/http"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/explain"
)

// EndpointVerdict is whether a client with a certificate would come in at an endpoint.
type EndpointVerdict struct {
	Endpoint  string             `json:"endpoint"`
	In        bool               `json:"in"`
	Undecided bool               `json:"undecided,omitempty" doc:"Through TLS; then HTTP decides, for each request."`
	Sealed    bool               `json:"sealed,omitempty" doc:"Decided by the service behind; nothing can be said here."`
	Reason    termination.Reason `json:"reason,omitempty"`
	Rule      string             `json:"rule,omitempty"`
	Sentence  string             `json:"sentence"`
	Checks    []string           `json:"checks,omitempty" doc:"Everything that was found wrong."`
}

// ExplainRequest is what to explain.
type ExplainRequest struct {
	Text     string `json:"text,omitempty" maxLength:"262144" doc:"As it was pasted: PEM, a header, an error line, a number."`
	Data     []byte `json:"data,omitempty" doc:"Or bytes, in base64: DER, PKCS#12, a recording."`
	Password string `json:"password,omitempty" maxLength:"1024" doc:"Opens a PKCS#12 file."`
	Endpoint string `json:"endpoint,omitempty" maxLength:"200" doc:"Judge at this endpoint alone."`
}

// ExplainAnswer is what was found. Nothing of it is kept.
type ExplainAnswer struct {
	*explain.Explained
	Endpoints []EndpointVerdict `json:"endpoints,omitempty" doc:"Would it pass? Judged by what is known now; that it holds its key, only a handshake can show."`
}

func (a *API) explains() {
	register(a, operation{method: http.MethodPost, path: "/explain", summary: "Explain a certificate, a header, an error line, or anything else; nothing is kept", scope: store.ScopeRead, body: largeBody, tag: "Explain"},
		func(ctx context.Context, in *struct{ Body ExplainRequest }) (*one[ExplainAnswer], error) {
			end, err := a.options.BeginExplanation(ctx)
			if err != nil {
				return nil, err
			}
			defer end()
			data := in.Body.Data
			if len(bytes.TrimSpace(data)) == 0 {
				data = []byte(in.Body.Text)
			}
			defer clear(data)
			explained, err := explain.Read(data, in.Body.Password, a.options.Now())
			if err != nil {
				return nil, termination.ValidationError{{Kind: "text", Field: "text", Problem: err.Error(), Advice: "give PEM, DER, PKCS#7 or PKCS#12, a header, an error line, a fingerprint, an alert number or a recording"}}
			}
			out := ExplainAnswer{Explained: explained}
			if chain := explained.ClientChain(); len(chain) > 0 && a.options.Judge != nil {
				if out.Endpoints = a.options.Judge(chain, in.Body.Endpoint); in.Body.Endpoint != "" && len(out.Endpoints) == 0 {
					return nil, store.NotFoundError{Kind: store.KindEndpoint, Name: in.Body.Endpoint}
				}
			}
			return &one[ExplainAnswer]{out}, nil
		})
}

// Judge tells for each endpoint, or the one that is named, whether a client with this chain would come in.
type Judge func(chain []*x509.Certificate, endpoint string) []EndpointVerdict
