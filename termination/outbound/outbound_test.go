package outbound

import (
	"errors"
	"net/url"
	"testing"
	"time"
)

func TestDialerRefuses(t *testing.T) {
	d := Dialer(time.Second)
	for _, address := range []string{
		"169.254.169.254:80", "[::ffff:169.254.169.254]:80", "[fe80::1%lo]:80", "[fd00:ec2::254]:80", "0.0.0.0:80", "[::]:80", "224.0.0.1:80", "[ff02::1]:80", "nothing",
	} {
		if d.Control("tcp", address, nil) == nil {
			t.Errorf("%s may be connected to", address)
		}
	}
	for _, address := range []string{"127.0.0.1:80", "[::1]:80", "10.0.0.1:443", "192.0.2.1:443", "[fd00:ec2::253]:80"} {
		if err := d.Control("tcp", address, nil); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestWithoutURL(t *testing.T) {
	inner := errors.New("refused")
	if got := WithoutURL(&url.Error{Op: "Get", URL: "https://secret.example", Err: inner}); !errors.Is(inner, got) {
		t.Errorf("got %v", got)
	}
	if got := WithoutURL(inner); !errors.Is(inner, got) {
		t.Errorf("got %v", got)
	}
}
