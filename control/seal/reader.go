package seal

import (
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
)

// A Reader reads a sealed file from anywhere, opening the chunks that are
// touched and no others. What it returns is authentic; a file that was altered
// anywhere fails with [ErrDamaged] where that is read, and one that was cut or
// grew fails when it is opened. It is used by one goroutine.
type Reader struct {
	r      io.ReaderAt
	chunks *chunks
	count  int64 // chunks
	end    int64 // of the file
	size   int64 // of the contents
	at     int64

	head    byte // kind of the first chunk, of several
	last    byte // kind of the last
	salvage bool

	sealed, plain []byte
	index         int64 // of the chunk in plain; -1: none
}

var _ io.ReadSeeker = (*Reader)(nil)

// Sealed tells whether a file that begins with these bytes is sealed; eight
// suffice.
func Sealed(begin []byte) bool { return len(begin) >= 8 && [8]byte(begin[:8]) == magic }

// A Find returns the key of an id, or the error to fail with.
type Find func(id uuid.UUID) (*Key, error)

// NewReader opens a file of size bytes, which stands at its place. It reads its
// header and its last chunk.
func NewReader(r io.ReaderAt, size int64, place string, find Find) (*Reader, error) {
	s, err := newReader(r, size, place, find)
	if err != nil {
		return nil, err
	}
	return s, s.finish()
}

// Salvage opens what a program that died has left of a file: all whole chunks
// of it. Of these nothing says that they are all that was written.
func Salvage(r io.ReaderAt, size int64, place string, find Find) (*Reader, error) {
	s, err := newReader(r, size, place, find)
	if err != nil {
		return nil, err
	}
	if s.finish() == nil {
		return s, nil
	}
	s.salvage, s.index, s.head, s.last = true, -1, kindMore, kindMore
	s.count = (size - headerSize) / sealedSize
	s.end = headerSize + s.count*sealedSize
	s.size = s.count * Chunk
	return s, nil
}

func newReader(r io.ReaderAt, size int64, place string, find Find) (*Reader, error) {
	var h header
	if n, err := r.ReadAt(h[:], 0); n < len(h) {
		if errors.Is(err, io.EOF) {
			err = ErrDamaged
		}
		return nil, fmt.Errorf("read a sealed file's header: %w", err)
	}
	if !h.known() {
		return nil, fmt.Errorf("read a sealed file's header: %w", ErrDamaged)
	}
	key, err := find(h.key())
	if err != nil {
		return nil, err
	}
	if key.ID() != h.key() {
		return nil, fmt.Errorf("read a sealed file's header: %w", ErrDamaged)
	}
	c, err := key.file(&h, place)
	if err != nil {
		return nil, err
	}
	return &Reader{r: r, chunks: c, end: size, index: -1}, nil
}

// finish checks that the file ends where it was ended.
func (s *Reader) finish() error {
	var ok bool
	if s.size, ok = PlainSize(s.end); !ok {
		return ErrDamaged
	}
	s.count = max(1, (s.size+Chunk-1)/Chunk)
	for _, kind := range []byte{kindLast, kindLastHead} {
		s.last, s.head = kind, kindMore
		if kind == kindLastHead {
			s.head = kindHead
		}
		err := s.load(s.count - 1)
		if err == nil && kind == kindLastHead && s.count == 1 {
			err = ErrDamaged // its only chunk was never written before
		}
		if !errors.Is(err, ErrDamaged) {
			return err
		}
	}
	return ErrDamaged
}

// Size returns how long the contents are.
func (s *Reader) Size() int64 { return s.size }

// Read implements [io.Reader].
func (s *Reader) Read(p []byte) (int, error) {
	if s.at >= s.size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.load(s.at / Chunk); err != nil {
		return 0, err
	}
	n := copy(p, s.plain[s.at%Chunk:])
	s.at += int64(n)
	return n, nil
}

// Seek implements [io.Seeker].
func (s *Reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.at
	case io.SeekEnd:
		offset += s.size
	}
	if offset < 0 {
		return s.at, errors.New("seal: seek before the beginning")
	}
	s.at = offset
	return offset, nil
}

// load has a chunk in plain.
func (s *Reader) load(index int64) error {
	if s.index == index {
		return nil
	}
	if s.sealed == nil {
		s.sealed, s.plain = make([]byte, sealedSize), make([]byte, 0, Chunk)
	}
	from := headerSize + index*sealedSize
	b := s.sealed[:min(sealedSize, s.end-from)]
	if n, err := s.r.ReadAt(b, from); n < len(b) {
		if errors.Is(err, io.EOF) {
			err = ErrDamaged
		}
		return fmt.Errorf("read a sealed file: %w", err)
	}
	s.index = -1
	plain, err := s.chunks.open(s.plain[:0], index, s.kind(index), b)
	if err != nil && s.salvage && index == 0 {
		plain, err = s.chunks.open(s.plain[:0], index, kindHead, b)
	}
	if err != nil {
		return fmt.Errorf("read a sealed file: %w", err)
	}
	s.plain, s.index = plain, index
	return nil
}

func (s *Reader) kind(index int64) byte {
	switch {
	case index == s.count-1:
		return s.last
	case index == 0:
		return s.head
	}
	return kindMore
}
