package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"countersign/termination"
)

// maxSecret bounds a file that holds a token or a password, in bytes.
const maxSecret = 4 << 10

// readBounded reads a file that may not be larger than limit bytes, whatever kind of file it is.
func readBounded(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w; name a file that is there and that you may read", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > limit {
		return nil, fmt.Errorf("%s is larger than the %d bytes that such a file has at most; this is probably another file", path, limit)
	}
	return data, nil
}

// readSmall reads a file that holds certificates or a key.
func readSmall(path string) ([]byte, error) {
	data, err := readBounded(path, termination.MaxUpload)
	if err == nil && len(data) == 0 {
		return nil, fmt.Errorf("%s is empty", path)
	}
	return data, err
}

// p12Password is the password of a PKCS#12 file: that in a file, else that in the environment, because arguments can be
// seen by others.
func (p *program) p12Password(file string) (string, error) {
	if file == "" {
		return p.getenv("COUNTERSIGN_P12_PASSWORD"), nil
	}
	text, err := readBounded(file, maxSecret)
	if err != nil {
		return "", fmt.Errorf("read --password-file: %w", err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}
