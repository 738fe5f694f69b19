package server

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"countersign/server/api"
	"countersign/store"
	"countersign/termination"
	"countersign/termination/wire"
	"countersign/views"
	"countersign/views/format"
)

// jsonlExport is one JSON document a line, as the API shows a handshake; the last one is {"end":{…}}.
func jsonlExport() exportFormat {
	line := func(v any) ([]byte, error) {
		text, err := json.Marshal(v)
		return append(format.JSON(text), '\n'), err
	}
	return exportFormat{
		mediaType: "application/jsonl; charset=utf-8", extension: ".jsonl",
		record: func(r store.Record) ([]byte, error) { return line(api.HandshakeOf(r)) },
		end: func(end exportEnd) ([]byte, error) {
			return line(struct {
				End exportEnd `json:"end"`
			}{end})
		},
	}
}

// csvExport is for spreadsheets: UTF-8, each cell in quotes, times in UTC with their zone, hostile text by the rule of
// [format.Cell]. The first cell of the last line is "(end)".
func csvExport() exportFormat {
	return exportFormat{
		mediaType: "text/csv; charset=utf-8; header=present", extension: ".csv",
		head: format.CSV([]string{
			"time", "id", "outcome", "reason", "why", "beat", "endpoint", "asked_for", "client", "client_full", "identity", "issuer", "authority",
			"certificate_sha256", "address", "tls", "cipher_suite", "key_exchange", "post_quantum", "resumed", "alpn", "ja4", "duration_ms", "alert",
			"upstream", "upstream_error", "bytes_in", "bytes_out", "requests", "closed_by", "then", "mark",
		}),
		record: func(r store.Record) ([]byte, error) { return []byte(format.CSV(csvCells(r))), nil },
		end: func(end exportEnd) ([]byte, error) {
			cells := []string{"(end)", fmt.Sprintf("%d handshakes", end.Handshakes), end.Says}
			if end.Searched != nil {
				cells = append(cells, "searched back to "+csvTime(*end.Searched))
			}
			if end.Next != "" {
				cells = append(cells, "go on with before="+end.Next)
			}
			return []byte(format.CSV(cells)), nil
		},
	}
}

func csvTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z07:00") }

// csvCells are those of one record, in the order of the head.
func csvCells(r store.Record) []string {
	h := r.Handshake
	cells := []string{
		csvTime(h.Time), h.ID, string(h.Verdict.Outcome), string(h.Verdict.Reason), format.Cell(h.Verdict.Explanation.Sentence),
		strconv.Itoa(int(h.Verdict.Beat)), format.Cell(h.Endpoint), "", format.Cell(h.Client.Name), format.Cell(h.Client.Full),
		format.Cell(h.Client.Identity), format.Cell(h.Client.Issuer), format.Cell(h.Client.Authority), "", "",
	}
	if cells[4] == "" {
		cells[4] = views.FailureTitle(h.Verdict.Reason)
	}
	if h.Hello != nil {
		cells[7] = format.Cell(h.Hello.ServerName)
	}
	if h.Client.Fingerprint != (termination.Fingerprint{}) {
		cells[13] = h.Client.Fingerprint.String()
	}
	if h.Peer.IsValid() {
		cells[14] = format.Cell(h.Peer.String()) // an address may have a zone, which is text
	}
	return append(append(append(cells, negotiatedCells(h)...), alertCell(h), upstreamOf(r).Address, format.Cell(upstreamOf(r).Error)), append(endCells(r.End), string(r.Mark))...)
}

// negotiatedCells are from tls to duration_ms.
func negotiatedCells(h *termination.Handshake) []string {
	cells := []string{"", "", "", "", "", "", "", milliseconds(h.Duration)}
	if n := h.Chosen; n != nil {
		cells[0], cells[1] = wire.VersionName(n.Version), wire.CipherSuiteName(n.CipherSuite)
		if n.Group != 0 {
			cells[2] = wire.GroupName(n.Group)
		}
		cells[3], cells[4], cells[5] = strconv.FormatBool(n.PostQuantum), strconv.FormatBool(n.Resumed), format.Cell(n.ALPN)
	}
	if h.Hello != nil {
		cells[6] = format.Cell(h.Hello.JA4)
	}
	return cells
}

func milliseconds(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 3, 64)
}

func alertCell(h *termination.Handshake) string {
	if h.Alert == nil {
		return ""
	}
	if h.Alert.Sent {
		return "sent " + h.Alert.Name
	}
	return "received " + h.Alert.Name
}

// upstreamOf is what became of the service behind; of an https endpoint that is known at the end only.
func upstreamOf(r store.Record) termination.UpstreamResult {
	switch {
	case r.End != nil && r.End.Upstream != nil:
		return *r.End.Upstream
	case r.Handshake.Upstream != nil:
		return *r.Handshake.Upstream
	}
	return termination.UpstreamResult{}
}

// endCells are from bytes_in on.
func endCells(end *termination.ConnectionEnd) []string {
	if end == nil {
		return []string{"", "", "", "", ""}
	}
	return []string{
		strconv.FormatInt(end.BytesIn, 10), strconv.FormatInt(end.BytesOut, 10), strconv.FormatInt(end.Requests, 10), string(end.ClosedBy), string(end.Reason),
	}
}
