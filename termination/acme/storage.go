package acme

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
)

// Storage keeps accounts, certificates and keys between starts, under keys like file paths. Errors about what is not there are
// [fs.ErrNotExist].
type Storage interface {
	Put(ctx context.Context, key string, value []byte) error
	Get(ctx context.Context, key string) (value []byte, modified time.Time, err error)
	Delete(ctx context.Context, key string) error // and all below it
	Keys(ctx context.Context, prefix string) ([]string, error)
	Lock(ctx context.Context, name string) error // waits
	Unlock(ctx context.Context, name string) error
}

// magicStorage is a Storage as certmagic wants it.
type magicStorage struct{ Storage }

var _ certmagic.Storage = magicStorage{}

func (s magicStorage) Store(ctx context.Context, key string, value []byte) error {
	return s.Put(ctx, key, value)
}

func (s magicStorage) Load(ctx context.Context, key string) ([]byte, error) {
	value, _, err := s.Get(ctx, key)
	return value, err
}

func (s magicStorage) Exists(ctx context.Context, key string) bool {
	_, err := s.Load(ctx, key)
	return err == nil
}

// List returns what is below path: all of it, or only the next level.
func (s magicStorage) List(ctx context.Context, path string, recursive bool) ([]string, error) {
	keys, err := s.Keys(ctx, path)
	if err != nil || recursive {
		return keys, err
	}
	seen := map[string]bool{}
	var out []string
	for _, key := range keys {
		rest := strings.TrimPrefix(strings.TrimPrefix(key, path), "/")
		first, _, _ := strings.Cut(rest, "/")
		if level := strings.TrimSuffix(key, rest) + first; !seen[level] {
			seen[level] = true
			out = append(out, level)
		}
	}
	return out, nil
}

func (s magicStorage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	value, modified, err := s.Get(ctx, key)
	if err == nil {
		return certmagic.KeyInfo{Key: key, Modified: modified, Size: int64(len(value)), IsTerminal: true}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return certmagic.KeyInfo{}, err
	}
	if below, kerr := s.Keys(ctx, key); kerr == nil && len(below) > 0 {
		return certmagic.KeyInfo{Key: key}, nil
	}
	return certmagic.KeyInfo{}, err
}

// Unlock must happen even when the attempt it belonged to was broken off.
func (s magicStorage) Unlock(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockTime)
	defer cancel()
	return s.Storage.Unlock(ctx, name)
}

const unlockTime = 10 * time.Second
