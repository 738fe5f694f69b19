package credential

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"

	"countersign/termination"
)

// tokenPrefix makes a token recognisable for programs that look for leaked secrets. The dashboard's tokens have another, so
// that neither is taken for the other.
const tokenPrefix = "csb_"

// NewToken returns a token of 256 random bits, and its hash.
func NewToken() (token, hash string) {
	token = tokenPrefix + random(32)
	return token, HashToken(token)
}

// NewPassword returns a password of 144 random bits.
func NewPassword() string { return random(18) }

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b)
}

// HashToken returns what is kept of a token.
func HashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// CheckToken refuses what could not be sent as a token (RFC 6750, section 2.1), or is found by trying.
func CheckToken(token string) error {
	const least = 16
	switch {
	case len(token) > maxHeader-len("Bearer "), !token68(token):
		return fmt.Errorf("a token holds letters, digits and -._~+/ alone (RFC 6750, section 2.1)")
	case len(token) < least:
		return fmt.Errorf("a token of fewer than %d characters is found by trying", least)
	}
	return nil
}

// HashPassword returns what is kept of a password. It takes a tenth of a second.
func HashPassword(password string) (string, error) {
	const least = 8
	switch {
	case len(password) < least:
		return "", fmt.Errorf("a password of fewer than %d characters is found by trying", least)
	case len(password) > maxPassword:
		return "", fmt.Errorf("a password has at most %d bytes: bcrypt reads no more", maxPassword)
	case !utf8.ValidString(password), strings.ContainsFunc(password, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return "", fmt.Errorf("a password holds no control characters (RFC 7617, section 2)")
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), termination.DefaultPasswordCost)
	if err != nil {
		return "", fmt.Errorf("hash the password: %w", err)
	}
	return string(hash), nil
}
