package store

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// maxKeyFile bounds what is read of a key file; an identity under a passphrase has some 400 bytes.
const maxKeyFile = 16 << 10

// maxWorkFactor bounds the memory and time that a key file can demand: a gibibyte. age writes 18.
const maxWorkFactor = 20

// sealer seals private keys so that the database alone does not give them away, and opens them again. Its identity
// lies in the key file, in the clear (mode 0600) or under a passphrase. The passphrase is stretched once for each
// Open, not for each key.
type sealer struct {
	identity *age.X25519Identity
	notice   string // what the operator should know about the key file

	mu     sync.Mutex
	opened map[[sha256.Size]byte]crypto.Signer // keys of the last configuration that was loaded, by their sealed form
}

// seal encrypts the PKCS #8 form of key.
func (s *sealer) seal(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	defer clear(der)
	return s.sealBytes(der)
}

// sealBytes encrypts any secret.
func (s *sealer) sealBytes(secret []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, s.identity.Recipient())
	if err == nil {
		_, err = w.Write(secret)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("seal a secret: %w", err)
	}
	return out.Bytes(), nil
}

// openBytes decrypts what sealBytes made.
func (s *sealer) openBytes(sealed []byte) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), s.identity)
	if err != nil {
		return nil, fmt.Errorf("open a sealed secret: %w", err)
	}
	secret, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("open a sealed secret: %w", err)
	}
	return secret, nil
}

// open decrypts what seal made and checks that it is the key of public.
func (s *sealer) open(sealed []byte, public crypto.PublicKey) (crypto.Signer, error) {
	der, err := s.openBytes(sealed)
	if err != nil {
		return nil, fmt.Errorf("open sealed private key: %w", err)
	}
	defer clear(der)
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("the opened private key cannot be read") // the parser's words could quote the key
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("the opened private key is a %T and cannot sign", parsed)
	}
	if !samePublicKey(key.Public(), public) {
		return nil, errors.New("the opened private key does not belong to the certificate")
	}
	return key, nil
}

// openKept is open, but spares the work for a key that the last configuration had, too. It notes what it opened in
// kept.
func (s *sealer) openKept(sealed []byte, public crypto.PublicKey, kept map[[sha256.Size]byte]crypto.Signer) (crypto.Signer, error) {
	sum := sha256.Sum256(sealed)
	s.mu.Lock()
	key := s.opened[sum]
	s.mu.Unlock()
	if key == nil || !samePublicKey(key.Public(), public) {
		var err error
		if key, err = s.open(sealed, public); err != nil {
			return nil, err
		}
	}
	kept[sum] = key
	return key, nil
}

// keep replaces the keys that are remembered.
func (s *sealer) keep(kept map[[sha256.Size]byte]crypto.Signer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = kept
}

func samePublicKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(x crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// openSealer reads the key file in dir. recipient is the public key that the store names, or empty in a new store: then
// a missing key file is made. workFactor is scrypt's, 0 for age's default.
func openSealer(dir, passphrase, recipient string, workFactor int) (*sealer, error) {
	path := filepath.Join(dir, keyFile)
	text, err := readKeyFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if recipient != "" {
			return nil, KeyFileError{
				File: path, Problem: "it is missing, and the private keys in the store cannot be opened without it",
				Advice: "restore it from a backup, or move " + configurationFile + " away to begin anew",
			}
		}
		return makeKeyFile(path, passphrase, workFactor)
	}
	if err != nil {
		return nil, err
	}
	identity, protected, err := parseKeyFile(path, text, passphrase)
	if err != nil {
		return nil, err
	}
	if recipient != "" && identity.Recipient().String() != recipient {
		return nil, KeyFileError{
			File: path, Problem: "it belongs to another store",
			Advice: "put back the key file that was made together with " + configurationFile,
		}
	}
	if passphrase != "" && !protected {
		// Somebody set a passphrase and expects that it protects something.
		if err := writeKeyFile(path, identity, passphrase, workFactor); err != nil {
			return nil, err
		}
		return &sealer{identity: identity, notice: "the key file " + path + " is now protected by the passphrase; every start needs COUNTERSIGN_PASSPHRASE from now on. Copies of the file made before are not protected"}, nil
	}
	return &sealer{identity: identity}, nil
}

func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open key file: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at key file: %w", err)
	}
	if permissionsApply && info.Mode().Perm()&0o077 != 0 {
		return nil, KeyFileError{File: path, Problem: "other users can read it", Advice: "close it with: chmod 600 " + path}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	if len(text) > maxKeyFile {
		return nil, KeyFileError{File: path, Problem: "it is too large for a key file", Advice: "put back the file that was made together with " + configurationFile}
	}
	return text, nil
}

func parseKeyFile(path string, text []byte, passphrase string) (identity *age.X25519Identity, protected bool, err error) {
	unreadable := KeyFileError{File: path, Problem: "it cannot be read as a key file", Advice: "put back the file that was made together with " + configurationFile}
	if protected = bytes.HasPrefix(bytes.TrimSpace(text), []byte(armor.Header)); protected {
		if passphrase == "" {
			return nil, true, KeyFileError{File: path, Problem: "it is protected by a passphrase, and none was given", Advice: "set COUNTERSIGN_PASSPHRASE"}
		}
		scrypt, err := age.NewScryptIdentity(passphrase)
		if err != nil {
			return nil, true, fmt.Errorf("prepare passphrase: %w", err)
		}
		scrypt.SetMaxWorkFactor(maxWorkFactor)
		r, err := age.Decrypt(armor.NewReader(bytes.NewReader(text)), scrypt)
		if err != nil {
			if _, wrong := errors.AsType[*age.NoIdentityMatchError](err); wrong {
				return nil, true, KeyFileError{File: path, Problem: "the passphrase does not open it", Advice: "set COUNTERSIGN_PASSPHRASE to the passphrase it was made with"}
			}
			return nil, true, unreadable
		}
		if text, err = io.ReadAll(r); err != nil {
			return nil, true, unreadable
		}
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if identity, err = age.ParseX25519Identity(line); err != nil {
			return nil, protected, unreadable // without the parser's words: they quote the key
		}
		return identity, protected, nil
	}
	return nil, protected, unreadable
}

func makeKeyFile(path, passphrase string, workFactor int) (*sealer, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	if err := writeKeyFile(path, identity, passphrase, workFactor); err != nil {
		return nil, err
	}
	return &sealer{identity: identity}, nil
}

// writeKeyFile writes beside and renames, so that a crash leaves the old file or the new one.
func writeKeyFile(path string, identity *age.X25519Identity, passphrase string, workFactor int) error {
	text, err := keyFileText(identity, passphrase, workFactor)
	if err != nil {
		return err
	}
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make key file: %w", err)
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		_ = os.Remove(next)
		return fmt.Errorf("write key file: %w", err)
	}
	return syncDirectory(filepath.Dir(path))
}

func keyFileText(identity *age.X25519Identity, passphrase string, workFactor int) ([]byte, error) {
	text := "# Opens the private keys in " + configurationFile + ". Keep a copy apart from it, and show it to nobody.\n" + identity.String() + "\n"
	if passphrase == "" {
		return []byte(text), nil
	}
	scrypt, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, fmt.Errorf("prepare passphrase: %w", err)
	}
	if workFactor != 0 {
		scrypt.SetWorkFactor(workFactor)
	}
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	w, err := age.Encrypt(armored, scrypt)
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = armored.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("encrypt key file: %w", err)
	}
	return out.Bytes(), nil
}
