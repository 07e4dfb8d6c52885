package blob

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/google/uuid"

	"parley/control"
)

const (
	sweepStep  = 1000 // names read at once
	beginBytes = 128  // of a sealed file: its header, and some of what it seals
)

// Blobs implements [control.BlobSweep], in the folder's own order.
func (f *Folder) Blobs(ctx context.Context, tenant uuid.UUID, do func(control.Blob) error) error {
	dir, err := f.root.Open(tenant.String())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return problem("list", err)
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(sweepStep)
		for _, e := range entries {
			b, ok := f.describe(tenant, e)
			if !ok {
				continue
			}
			if err := do(b); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return problem("list", err)
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// describe is false for what is no blob, or is gone by now.
func (f *Folder) describe(tenant uuid.UUID, e fs.DirEntry) (b control.Blob, ok bool) {
	b.Key = path.Join(tenant.String(), e.Name())
	whole, part := strings.CutSuffix(b.Key, ".part")
	if check(whole) != nil {
		return b, false
	}
	info, err := e.Info()
	if err != nil {
		return b, false
	}
	b.Part, b.BlobInfo = part, control.BlobInfo{Size: info.Size(), Written: info.ModTime()}
	object, _, _ := strings.Cut(e.Name(), ".")
	b.Object, err = uuid.Parse(object)
	return b, err == nil
}

// Begins implements [control.BlobSweep].
func (f *Folder) Begins(_ context.Context, b control.Blob) ([]byte, error) {
	if err := check(strings.TrimSuffix(b.Key, ".part")); err != nil {
		return nil, err
	}
	file, err := f.root.Open(b.Key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // its writer has just put it in place, or dropped it
	}
	if err != nil {
		return nil, problem("open", err)
	}
	defer file.Close()
	begin, err := io.ReadAll(io.LimitReader(file, beginBytes))
	if err != nil {
		return nil, problem("read", err)
	}
	return begin, nil
}

// Remove implements [control.BlobSweep].
func (f *Folder) Remove(_ context.Context, b control.Blob) error {
	if err := check(strings.TrimSuffix(b.Key, ".part")); err != nil {
		return err
	}
	if err := f.root.Remove(b.Key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return problem("delete", err)
	}
	return nil
}
