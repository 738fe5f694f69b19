package server

import (
	"archive/zip"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/live/livetest"
	"countersign/termination/tlstest"
	"countersign/views/format"
)

// keep stores handshakes without the hub, numbered from 1.
func (f *fixture) keep(list ...*termination.Handshake) {
	f.t.Helper()
	for i, h := range list {
		h.Seq = uint64(i + 1)
	}
	if err := f.store.WriteHistory(termination.HistoryBatch{Handshakes: list}); err != nil {
		f.t.Fatal(err)
	}
}

// exportedEnd reads the last line of JSON Lines.
func exportedEnd(t *testing.T, body string) exportEnd {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(body, "\n"), "\n")
	var last struct{ End exportEnd }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatal(err)
	}
	return last.End
}

// An export has every record that the filter selects, over several pages, newest first, and says that this is all.
func TestExport(t *testing.T) {
	f := signedIn(t, nil)
	var all []*termination.Handshake
	for n := range 1200 {
		all = append(all, livetest.Handshake(n, time.Date(2026, 11, 27, 12, 0, 0, n*1e6, time.UTC)))
	}
	f.keep(all...)

	got := f.get("/live/export.csv?" + url.Values{"f": {"outcome:verified"}}.Encode())
	if got.status != http.StatusOK || !strings.HasPrefix(got.header.Get("Content-Type"), "text/csv") || !strings.Contains(got.header.Get("Content-Disposition"), `.csv"`) {
		t.Fatalf("status %d, %v", got.status, got.header)
	}
	r := csv.NewReader(strings.NewReader(got.body))
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	if err != nil || len(rows) != 1+840+1 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	head, first, last := rows[0], rows[1], rows[841]
	if len(first) != len(head) || first[slices.Index(head, "time")] != "2026-11-27T12:00:01.196000Z" || first[slices.Index(head, "id")] != "hs_1196" ||
		first[slices.Index(head, "asked_for")] != "erp.localhost" || first[slices.Index(head, "key_exchange")] != "X25519MLKEM768" || first[slices.Index(head, "address")] != "10.20.0.16:40000" {
		t.Errorf("the first row is %q", first)
	}
	if last[0] != "(end)" || last[1] != "840 handshakes" || !strings.HasPrefix(last[2], "complete") {
		t.Errorf("the last row is %q", last)
	}

	reader := f.as(store.ScopeRead)
	request := f.request(http.MethodGet, "/api/v1/handshakes/export?f=reason:cert_expired", nil, "")
	request.Header.Set("Authorization", "Bearer "+reader.token)
	if end := exportedEnd(t, f.do(request).body); !end.Complete || end.Handshakes != 120 || end.Next != "" || end.Searched != nil {
		t.Errorf("the API's export ends with %+v", end)
	}
	if got := f.get("/live/export.jsonl?f=outcome:verifed"); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "is no outcome") {
		t.Errorf("a wrong filter: %d", got.status)
	}
	if s := reader.call(http.MethodGet, "/handshakes/export?format=xls", nil, &problem{}); s != http.StatusUnprocessableEntity {
		t.Errorf("an unknown format: %d", s)
	}
	for range mostExports {
		f.exports <- struct{}{}
	}
	if got := f.get("/live/export.jsonl"); got.status != http.StatusTooManyRequests {
		t.Errorf("one export too many: %d", got.status)
	}
	for range mostExports {
		<-f.exports
	}

	// A gateway that stops ends an export between two pages, and says where to go on.
	f.ready.Store(false)
	end := exportedEnd(t, f.get("/live/export.jsonl").body)
	if end.Complete || end.Handshakes != exportPage || end.Next != "701" || !strings.Contains(end.Says, "stopping") {
		t.Errorf("an export that was cut off ends with %+v", end)
	}
	f.ready.Store(true)
	if rest := exportedEnd(t, f.get("/live/export.jsonl?before="+end.Next).body); !rest.Complete || rest.Handshakes != 700 {
		t.Errorf("the rest ends with %+v", rest)
	}
}

// An export that nobody takes any more ends, and gives its place back.
func TestExportEndsWithItsReader(t *testing.T) {
	f := signedIn(t, nil)
	f.keep(livetest.Handshake(8, time.Now()))
	request := f.request(http.MethodGet, "/live/export.jsonl", nil, "")
	res, err := f.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	for range mostExports { // each waits until the place is free
		f.exports <- struct{}{}
	}
}

func TestBundle(t *testing.T) {
	f := signedIn(t, nil)
	const evil = "<img src=x>\x1b]0;pwned\x07\u202eb"
	ca := tlstest.NewCA(tlstest.CN(evil))
	h := hostileHandshake(evil, time.Now())
	h.Local, h.Endpoint, h.Client.Identity, h.PolicyHash, h.Node = netip.MustParseAddrPort("[2001:db8::5]:8443"), "secret-endpoint", "secret-identity", "secret-hash", "secret-node"
	h.Upstream = &termination.UpstreamResult{Address: "secret-service:8080"}
	h.Presented = ca.Client(evil, tlstest.OrgUnit(evil)).Chain()
	h.Verdict.Rule = "secret-rule"
	h.Verdict.Explanation.Sentence = evil + " came from 192.0.2.7:1234 to [2001:db8::5]:8443, as 198.51.100.3 did, with OID 1.3.6.1.5.5.7.3.2 at 12:30:45"
	h.Verdict.Explanation.ClientTo = "curl --cert a.pem https://[2001:db8::5]:8443/\nand then 192.0.2.7."
	f.keep(h)
	read := func(path string) map[string]string {
		t.Helper()
		got := f.get(path)
		z, err := zip.NewReader(strings.NewReader(got.body), int64(len(got.body)))
		if err != nil {
			t.Fatalf("status %d: %v", got.status, err)
		}
		files := map[string]string{}
		for _, file := range z.File {
			r, err := file.Open()
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			files[strings.TrimPrefix(file.Name, h.ID+"/")] = string(text)
		}
		return files
	}
	files := read("/handshakes/" + h.ID + "/bundle.zip")
	if !bytes.Contains([]byte(files["chain.pem"]), []byte("BEGIN CERTIFICATE")) || len(files) != 3 {
		t.Errorf("the archive holds %d files", len(files))
	}
	for name, text := range files {
		for _, private := range []string{"192.0.2.7", "2001:db8::5", "198.51.100.3", "secret-"} {
			if strings.Contains(text, private) {
				t.Errorf("%s holds %q:\n%s", name, private, text)
			}
		}
		if plain := strings.ReplaceAll(text, "\n", ""); format.Visible(plain) != plain {
			t.Errorf("%s holds characters that do not show: %q", name, text)
		}
	}
	for _, kept := range []string{"1.3.6.1.5.5.7.3.2", "12:30:45", "WHAT TO DO", "Addresses were left out", "as (address left out) did"} {
		if !strings.Contains(files["README.txt"], kept) {
			t.Errorf("the text lacks %q:\n%s", kept, files["README.txt"])
		}
	}
	if text := read("/handshakes/" + h.ID + "/bundle.zip?addresses=1")["record.json"]; !strings.Contains(text, "192.0.2.7:1234") {
		t.Error("the addresses that were asked for are missing")
	}
	if got := f.get("/handshakes/hs_00000000000000000000000000/bundle.zip"); got.status != http.StatusNotFound {
		t.Errorf("an unknown handshake: %d", got.status)
	}
	if page := f.get("/handshakes/" + h.ID); !strings.Contains(page.body, "/bundle.zip") {
		t.Error("the page does not offer the bundle")
	}
}
