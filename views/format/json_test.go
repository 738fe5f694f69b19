package format

import (
	"encoding/json"
	"testing"
)

func TestJSONShowsWhatItHolds(t *testing.T) {
	for _, text := range []string{"plain", "Bäckerei 株式会社", "\u202egnp.exe", "\x1b[31m\x00\u009b2J", "\U000e0041 tag", "a\u00a0b", "line\nbreak"} {
		document, err := json.Marshal(map[string]string{"name": text})
		if err != nil {
			t.Fatal(err)
		}
		safe := JSON(append(document, '\n'))
		if Visible(string(safe[:len(safe)-1])) != string(safe[:len(safe)-1]) {
			t.Errorf("%q hides something still: %q", text, safe)
		}
		var back map[string]string
		if err := json.Unmarshal(safe, &back); err != nil || back["name"] != text {
			t.Errorf("%q came back as %q, %v", text, back["name"], err)
		}
	}
	if got := string(JSON([]byte("\"\xff\""))); got != `"\ufffd"` {
		t.Errorf("no UTF-8 becomes %q", got)
	}
}
