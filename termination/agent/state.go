package agent

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"countersign/termination/tunnel"
)

const (
	stateFile = "agent.json"
	stateForm = 1
	maxState  = 1 << 20
)

// State is an agent's directory: who it is, so that it needs no new invitation after a restart, and the key that it
// made for its endpoint. One process has it at a time.
type State struct {
	dir  string
	lock *os.File

	mu   sync.Mutex
	file stateContent
}

// stateContent is the JSON of the file. Keys and certificates are PEM.
type stateContent struct {
	Form        int      `json:"form"`
	ID          string   `json:"id,omitempty"`
	EndpointID  string   `json:"endpoint_id,omitempty"`
	Endpoint    string   `json:"endpoint,omitempty"`
	Gateways    []string `json:"gateways,omitempty"`
	Key         string   `json:"key,omitempty"`
	Certificate string   `json:"certificate,omitempty"`
	CA          string   `json:"ca,omitempty"`
	ServerKey   string   `json:"server_key,omitempty"`
	ServerChain []string `json:"server_chain,omitempty"`
}

// OpenState opens an agent's directory, and makes it where there is none. The error says what to do when another agent
// uses it, or when others could read it.
func OpenState(dir string) (*State, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the agent's directory: %w; choose another with --data", err)
	}
	if err := private(dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "agent.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the agent's directory: %w; choose another with --data", err)
	}
	if taken, err := lock(f); err != nil {
		_ = f.Close()
		if taken {
			return nil, fmt.Errorf("another agent runs with the directory %s; stop that one, or give this one its own with --data", dir)
		}
		return nil, fmt.Errorf("lock the agent's directory: %w", err)
	}
	s := &State{dir: dir, lock: f}
	if err := s.read(); err != nil {
		_ = f.Close()
		return nil, err
	}
	return s, nil
}

// private refuses a directory or file that other users could read.
func private(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("look at the agent's directory: %w", err)
	}
	if permissionsApply && info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s can be read by others, and holds private keys: chmod go= %s", path, path)
	}
	return nil
}

// Close lets the directory go.
func (s *State) Close() error { return s.lock.Close() }

// Dir is the directory.
func (s *State) Dir() string { return s.dir }

func (s *State) read() error {
	path := filepath.Join(s.dir, stateFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		s.file = stateContent{Form: stateForm}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the agent's state: %w", err)
	}
	if err := private(path); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s.file); err != nil || len(b) > maxState || s.file.Form != stateForm {
		return fmt.Errorf("%s is damaged, or of another version; remove it and let the agent join with a new invitation", path)
	}
	return nil
}

// write replaces the file as a whole, so that a crash leaves the old one or the new one. It is called with the lock.
func (s *State) write() error {
	b, err := json.MarshalIndent(s.file, "", "  ")
	if err != nil {
		return fmt.Errorf("write the agent's state: %w", err)
	}
	f, err := os.CreateTemp(s.dir, ".agent-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write the agent's state: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone where all went well
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(s.dir, stateFile))
	}
	if err != nil {
		return fmt.Errorf("write the agent's state: %w", err)
	}
	return nil
}

// Identity is who the agent is; nil where it has not joined yet.
func (s *State) Identity() (*tunnel.Identity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.file
	if f.ID == "" {
		return nil, nil //nolint:nilnil // not to have joined is no error
	}
	id := &tunnel.Identity{ID: f.ID, EndpointID: f.EndpointID, Endpoint: f.Endpoint, Gateways: f.Gateways}
	var err error
	if id.Key, err = decodeKey(f.Key); err == nil {
		if id.Certificate, err = decodeCertificate(f.Certificate); err == nil {
			id.CA, err = decodeCertificate(f.CA)
		}
	}
	if err == nil {
		err = id.Check()
	}
	if err != nil {
		return nil, fmt.Errorf("the agent's state in %s is damaged: %w; remove %s and let the agent join with a new invitation", s.dir, err, stateFile)
	}
	return id, nil
}

// Keep stores who the agent is.
func (s *State) Keep(id *tunnel.Identity) error {
	key, err := encodeKey(id.Key)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file.ID, s.file.EndpointID, s.file.Endpoint, s.file.Gateways = id.ID, id.EndpointID, id.Endpoint, id.Gateways
	s.file.Key, s.file.Certificate, s.file.CA = key, encodeCertificate(id.Certificate), encodeCertificate(id.CA)
	return s.write()
}

// serverKey is the key that the agent made for its endpoint, with the chain that was issued for it; nil: none yet.
func (s *State) serverKey() (crypto.Signer, []*x509.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file.ServerKey == "" {
		return nil, nil, nil
	}
	key, err := decodeKey(s.file.ServerKey)
	if err != nil {
		return nil, nil, err
	}
	var chain []*x509.Certificate
	for _, c := range s.file.ServerChain {
		cert, err := decodeCertificate(c)
		if err != nil {
			return nil, nil, err
		}
		chain = append(chain, cert)
	}
	return key, chain, nil
}

func (s *State) keepServer(key crypto.Signer, chain []*x509.Certificate) error {
	text, err := encodeKey(key)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file.ServerKey, s.file.ServerChain = text, nil
	for _, c := range chain {
		s.file.ServerChain = append(s.file.ServerChain, encodeCertificate(c))
	}
	return s.write()
}

func encodeCertificate(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func decodeCertificate(s string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(s))
	if block == nil {
		return nil, errors.New("a certificate is missing")
	}
	return x509.ParseCertificate(block.Bytes)
}

func encodeKey(key crypto.Signer) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("encode a key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}

func decodeKey(s string) (crypto.Signer, error) {
	block, _ := pem.Decode([]byte(s))
	if block == nil {
		return nil, errors.New("a key is missing")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("a key cannot be read")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("a key cannot sign")
	}
	return signer, nil
}
