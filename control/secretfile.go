package control

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"parley/agent/effect"
)

// A SecretFile keeps secrets in one file, for one machine: AES-256-GCM under a
// key of the keyring, written whole or not at all, readable by its owner alone.
// Another process may change it: it is read again when it has changed. It
// implements [Secrets] and is safe for use by several goroutines.
type SecretFile struct {
	path string
	aead cipher.AEAD

	mu     sync.Mutex
	read   os.FileInfo // of the contents; nil before the first read
	values map[string]map[string]storedSecret
}

// storedSecret is a secret as the file has it, inside the encryption. The field
// is a string on purpose: effect.Secret would be written as [redacted].
type storedSecret struct {
	Value     string    `json:"value"`
	Hosts     []string  `json:"hosts"`
	UpdatedAt time.Time `json:"updated_at"`
}

// secretFileMagic begins the file, and is authenticated with it.
const secretFileMagic = "parley secrets 1\n"

// OpenSecretFile opens a file, which need not exist. It fails if the file is
// there and was not written under this keyring.
func OpenSecretFile(path string, ring *Keyring) (*SecretFile, error) {
	block, err := aes.NewCipher(ring.Key("secrets"))
	if err != nil {
		return nil, fmt.Errorf("open secrets: %w", err)
	}
	f := &SecretFile{path: path}
	if f.aead, err = cipher.NewGCM(block); err != nil {
		return nil, fmt.Errorf("open secrets: %w", err)
	}
	return f, f.load()
}

// Secret implements [effect.Secrets].
func (f *SecretFile) Secret(ctx context.Context, key string, to *url.URL) (effect.Secret, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(); err != nil {
		return "", err
	}
	for _, of := range []string{secretOwner(ctx), ""} {
		if s, ok := f.values[of][key]; ok {
			if !bound(s.Hosts, to) {
				break
			}
			return effect.Secret(s.Value), nil
		}
	}
	return "", effect.ErrNoSecret
}

// PutSecret implements [Secrets].
func (f *SecretFile) PutSecret(ctx context.Context, e SecretEntry, value effect.Secret) error {
	if err := checkSecret(e, value); err != nil {
		return err
	}
	return f.change(func() error {
		of := secretOwner(ctx)
		if f.values[of] == nil {
			f.values[of] = map[string]storedSecret{}
		}
		f.values[of][e.Key] = storedSecret{string(value), slices.Clone(e.Hosts), time.Now().UTC()}
		return nil
	})
}

// DeleteSecret implements [Secrets].
func (f *SecretFile) DeleteSecret(ctx context.Context, key string) error {
	return f.change(func() error {
		of := secretOwner(ctx)
		if _, ok := f.values[of][key]; !ok {
			return fmt.Errorf("secret %s: %w", key, ErrNotFound)
		}
		delete(f.values[of], key)
		return nil
	})
}

// SecretEntries implements [Secrets].
func (f *SecretFile) SecretEntries(ctx context.Context) ([]SecretEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(); err != nil {
		return nil, err
	}
	var out []SecretEntry
	for k, s := range f.values[secretOwner(ctx)] {
		out = append(out, SecretEntry{Key: k, Hosts: slices.Clone(s.Hosts), UpdatedAt: s.UpdatedAt})
	}
	slices.SortFunc(out, func(a, b SecretEntry) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// secretOwner is the tenant of ctx, or "" for all.
func secretOwner(ctx context.Context) string {
	if t, ok := TenantOf(ctx); ok {
		return t.String()
	}
	return ""
}

// load reads the file if it has changed.
func (f *SecretFile) load() error {
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		f.read, f.values = nil, map[string]map[string]storedSecret{}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read secrets: %w", err)
	}
	if f.read != nil && os.SameFile(f.read, info) && f.read.ModTime().Equal(info.ModTime()) && f.read.Size() == info.Size() {
		return nil
	}
	b, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("read secrets: %w", err)
	}
	sealed, ok := bytes.CutPrefix(b, []byte(secretFileMagic))
	n := f.aead.NonceSize()
	if !ok || len(sealed) < n {
		return fmt.Errorf("read secrets: %s is not a file of secrets", f.path)
	}
	plain, err := f.aead.Open(nil, sealed[:n], sealed[n:], []byte(secretFileMagic))
	if err != nil {
		return fmt.Errorf("read secrets: %s was damaged, or written under another key file", f.path)
	}
	values := map[string]map[string]storedSecret{}
	if err := json.Unmarshal(plain, &values); err != nil {
		return errors.New("read secrets: the contents are not ours") // the error might quote them
	}
	f.read, f.values = info, values
	return nil
}

// change applies do to what the file holds now, and writes it.
func (f *SecretFile) change(do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.load(); err != nil {
		return err
	}
	defer func() { f.read = nil }() // read again: what counts is the file
	if err := do(); err != nil {
		return err
	}
	plain, err := json.Marshal(f.values)
	if err != nil {
		return errors.New("write secrets: they cannot be encoded")
	}
	nonce := make([]byte, f.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails (crypto/rand)
	out := append([]byte(secretFileMagic), nonce...)
	return writeWhole(f.path, f.aead.Seal(out, nonce, plain, []byte(secretFileMagic)))
}

// writeWhole replaces a file, so that a reader and a crash see the old or the new.
func writeWhole(path string, b []byte) error {
	t, err := os.CreateTemp(filepath.Dir(path), ".secrets-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write secrets: %w", err)
	}
	_, err = t.Write(b)
	if err = errors.Join(err, t.Sync(), t.Close()); err == nil {
		err = os.Rename(t.Name(), path)
	}
	if err != nil {
		_ = os.Remove(t.Name())
		return fmt.Errorf("write secrets: %w", err)
	}
	return nil
}

var _ Secrets = (*SecretFile)(nil)
