package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"

	"parley/control/seal"
)

// SealedBlobs keeps recordings sealed, in chunks of 64 KiB, under the data key
// of the tenant whose they are. A recording that is older than that is read as
// it is. It implements [Blobs].
//
// The store below must give writers that are [seal.File]s, and readers that are
// [io.ReaderAt]s, as a folder's are.
type SealedBlobs struct {
	Blobs Blobs
	Keys  *DataKeys
}

var _ Blobs = (*SealedBlobs)(nil)

// PartBlobs returns what there is of a blob whose writer was never closed, such
// as by a program that died. ErrNotFound.
type PartBlobs interface {
	OpenPart(ctx context.Context, key string) (io.ReadSeekCloser, error)
}

func blobPlace(key string) string { return "blob/" + key }

// withOwner returns ctx for the tenant whose blob it is, which the key says.
func withOwner(ctx context.Context, key string) (context.Context, error) {
	name, _, _ := strings.Cut(key, "/")
	tenant, err := uuid.Parse(name)
	if err != nil {
		return nil, errors.New("blob: malformed key")
	}
	return WithTenant(ctx, tenant), nil
}

// Create implements [Blobs]. The writer is an [io.WriteSeeker], as
// [seal.Writer] is.
func (s *SealedBlobs) Create(ctx context.Context, key string) (io.WriteCloser, error) {
	ctx, err := withOwner(ctx, key)
	if err != nil {
		return nil, err
	}
	k, err := s.Keys.Current(ctx)
	if err != nil {
		return nil, fmt.Errorf("create blob: %w", err)
	}
	below, err := s.Blobs.Create(ctx, key)
	if err != nil {
		return nil, err
	}
	f, ok := below.(seal.File)
	if !ok {
		return nil, errors.Join(errors.New("create blob: the store below cannot write a head again"), below.Close())
	}
	w, err := k.NewWriter(f, blobPlace(key))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create blob: %w", err), below.Close())
	}
	return &sealedWriter{w, below}, nil
}

type sealedWriter struct {
	*seal.Writer
	below io.Closer
}

// Close seals the end before the blob is put in place.
func (w *sealedWriter) Close() error { return errors.Join(w.Writer.Close(), w.below.Close()) }

// Open implements [Blobs]. Errors: ErrNotFound, ErrErased, ErrUnavailable,
// [seal.ErrDamaged]; reading may fail with the last, too.
func (s *SealedBlobs) Open(ctx context.Context, key string) (io.ReadSeekCloser, error) {
	below, err := s.Blobs.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	return s.open(ctx, key, below, seal.NewReader)
}

// OpenPart implements [PartBlobs]: all whole chunks.
func (s *SealedBlobs) OpenPart(ctx context.Context, key string) (io.ReadSeekCloser, error) {
	parts, ok := s.Blobs.(PartBlobs)
	if !ok {
		return nil, ErrNotFound
	}
	below, err := parts.OpenPart(ctx, key)
	if err != nil {
		return nil, err
	}
	return s.open(ctx, key, below, seal.Salvage)
}

type openSealed func(io.ReaderAt, int64, string, seal.Find) (*seal.Reader, error)

func (s *SealedBlobs) open(ctx context.Context, key string, below io.ReadSeekCloser, read openSealed) (_ io.ReadSeekCloser, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open blob: %w", err), below.Close())
		}
	}()
	ctx, err = withOwner(ctx, key)
	if err != nil {
		return nil, err
	}
	at, ok := below.(io.ReaderAt)
	if !ok {
		return nil, errors.New("the store below cannot read from anywhere")
	}
	var begin [8]byte
	if n, err := at.ReadAt(begin[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	} else if !seal.Sealed(begin[:n]) {
		return below, nil
	}
	size, err := below.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	r, err := read(at, size, blobPlace(key), func(id uuid.UUID) (*seal.Key, error) { return s.Keys.Key(ctx, id) })
	if err != nil {
		return nil, err
	}
	return &sealedReader{r, below}, nil
}

type sealedReader struct {
	*seal.Reader
	io.Closer
}

// Stat implements [Blobs]; the size is that of the contents.
func (s *SealedBlobs) Stat(ctx context.Context, key string) (BlobInfo, error) {
	info, err := s.Blobs.Stat(ctx, key)
	if err != nil {
		return info, err
	}
	r, err := s.Open(ctx, key)
	if err != nil {
		return info, err
	}
	info.Size, err = r.Seek(0, io.SeekEnd)
	return info, errors.Join(err, r.Close())
}

// Delete implements [Blobs].
func (s *SealedBlobs) Delete(ctx context.Context, key string) error { return s.Blobs.Delete(ctx, key) }

// SealBlob seals a recording that stands in clear, and tells whether it did.
func (s *SealedBlobs) SealBlob(ctx context.Context, key string) (bool, error) {
	r, err := s.Open(ctx, key)
	if err != nil {
		return false, err
	}
	defer r.Close()
	if _, sealed := r.(*sealedReader); sealed {
		return false, nil
	}
	w, err := s.Create(ctx, key)
	if err != nil {
		return false, err
	}
	if _, err := io.Copy(w, r); err != nil {
		return false, fmt.Errorf("seal blob: %w", err) // w is not closed: what there was stays
	}
	return true, w.Close()
}
