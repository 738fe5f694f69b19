package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"countersign/server/api"
)

// maxExplainAnswer bounds what a gateway answers about a paste, in bytes.
const maxExplainAnswer = 4 << 20

// Verdicts has the gateway judge certificates, in PEM, at one endpoint or, without a name, at all. When no gateway answers, the
// error wraps [ErrNoGateway].
func (c *ControlClient) Verdicts(ctx context.Context, chain []byte, endpoint string) ([]api.EndpointVerdict, error) {
	res, err := askControl(ctx, c.http, api.Prefix+"/explain", api.ExplainRequest{Text: string(chain), Endpoint: endpoint})
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var answer struct {
		Title, Detail, Advice string
		Endpoints             []api.EndpointVerdict `json:"endpoints"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxExplainAnswer)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("read the gateway's answer: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		text := strings.TrimSpace(answer.Title + " " + answer.Detail)
		if answer.Advice != "" {
			text += "; " + lowerFirst(answer.Advice)
		}
		return nil, fmt.Errorf("the gateway answered: %s", text)
	}
	return answer.Endpoints, nil
}
