// Package blob keeps recordings in a folder.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"

	"github.com/google/uuid"

	"parley/control"
)

// A Folder implements [control.Blobs] in one folder of the machine, which it
// cannot leave.
type Folder struct{ root *os.Root }

var (
	_ control.Blobs       = (*Folder)(nil)
	_ control.PartBlobs   = (*Folder)(nil)
	_ control.TenantBlobs = (*Folder)(nil)
	_ control.BlobSweep   = (*Folder)(nil)
)

// Open returns the blobs of dir, which is made if it does not exist.
func Open(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the blob folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the blob folder: %w", err)
	}
	return &Folder{root}, nil
}

// Close releases the folder.
func (f *Folder) Close() error { return f.root.Close() }

// keyForm: two UUIDs and a suffix, as [control.BlobKey] and [control.MessageKey]
// make them.
var keyForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[a-z0-9]{1,32}$`)

func check(key string) error {
	if !keyForm.MatchString(key) {
		return errors.New("blob: malformed key")
	}
	return nil
}

// Create implements [control.Blobs].
func (f *Folder) Create(_ context.Context, key string) (io.WriteCloser, error) {
	if err := check(key); err != nil {
		return nil, err
	}
	if err := f.root.Mkdir(path.Dir(key), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("create blob: %w", err)
	}
	file, err := f.root.OpenFile(key+".part", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create blob: %w", err)
	}
	return &writer{File: file, root: f.root, key: key}, nil
}

// A writer is a blob in the making. It can seek, for formats whose head holds
// the length.
type writer struct {
	*os.File
	root *os.Root
	key  string
}

// Close puts the blob in place once it is on the disk.
func (w *writer) Close() error {
	err := w.Sync()
	if cerr := w.File.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = w.root.Rename(w.key+".part", w.key)
	}
	if err != nil {
		return fmt.Errorf("write blob: %w", err)
	}
	return nil
}

// Open implements [control.Blobs].
func (f *Folder) Open(_ context.Context, key string) (io.ReadSeekCloser, error) {
	if err := check(key); err != nil {
		return nil, err
	}
	file, err := f.root.Open(key)
	if err != nil {
		return nil, problem("open", err)
	}
	return file, nil
}

// OpenPart implements [control.PartBlobs].
func (f *Folder) OpenPart(_ context.Context, key string) (io.ReadSeekCloser, error) {
	if err := check(key); err != nil {
		return nil, err
	}
	file, err := f.root.Open(key + ".part")
	if err != nil {
		return nil, problem("open the part of a", err)
	}
	return file, nil
}

// Keys calls do with each blob of a tenant until it fails.
func (f *Folder) Keys(tenant uuid.UUID, do func(key string) error) error {
	entries, err := fs.ReadDir(f.root.FS(), tenant.String())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return problem("list", err)
	}
	for _, e := range entries {
		if key := path.Join(tenant.String(), e.Name()); check(key) == nil {
			if err := do(key); err != nil {
				return err
			}
		}
	}
	return nil
}

// DeleteTenant implements [control.TenantBlobs].
func (f *Folder) DeleteTenant(_ context.Context, tenant uuid.UUID) error {
	if err := f.root.RemoveAll(tenant.String()); err != nil {
		return problem("delete a tenant's", err)
	}
	return nil
}

// Stat implements [control.Blobs].
func (f *Folder) Stat(_ context.Context, key string) (control.BlobInfo, error) {
	if err := check(key); err != nil {
		return control.BlobInfo{}, err
	}
	info, err := f.root.Stat(key)
	if err != nil {
		return control.BlobInfo{}, problem("stat", err)
	}
	return control.BlobInfo{Size: info.Size(), Written: info.ModTime()}, nil
}

// Delete implements [control.Blobs].
func (f *Folder) Delete(_ context.Context, key string) error {
	if err := check(key); err != nil {
		return err
	}
	if err := f.root.Remove(key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return problem("delete", err)
	}
	return nil
}

func problem(what string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		err = control.ErrNotFound
	}
	return fmt.Errorf("%s blob: %w", what, err)
}
