package unlock

import (
	"encoding/hex"
	"testing"
)

// The vectors of RFC 2268, section 5, for keys all of whose bits count.
func TestRC2(t *testing.T) {
	for _, v := range [][3]string{
		{"ffffffffffffffff", "ffffffffffffffff", "278b27e42e2f0d49"},
		{"3000000000000000", "1000000000000001", "30649edf9be7d2c2"},
		{"88bca90e90875a7f0f79c384627bafb2", "0000000000000000", "2269552ab0f85ca6"},
	} {
		key, _ := hex.DecodeString(v[0])
		data, _ := hex.DecodeString(v[2])
		c, err := newRC2(key)
		if err != nil {
			t.Fatal(err)
		}
		c.Decrypt(data, data)
		if got := hex.EncodeToString(data); got != v[1] {
			t.Errorf("under %s: %s, want %s", v[0], got, v[1])
		}
	}
}
