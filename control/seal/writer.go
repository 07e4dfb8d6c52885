package seal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
)

// Head is how many of a file's first bytes may be written again before it is
// closed: room for a format's header that holds the length.
const Head = 512

// A File is what a [Writer] writes into, such as an [os.File] open for reading
// and writing, at its beginning. Only the first chunk is read, and written
// again, and only where the head was written again.
type File interface {
	io.Writer
	io.ReaderAt
	io.WriterAt
}

var (
	errClosed = errors.New("seal: the writer is closed")
	errSeek   = fmt.Errorf("seal: only the end and the first %d bytes can be written to", Head)
)

// A Writer seals a file, at its end as a rule, a chunk at a time: what is in the
// file can be read up to its last whole chunk by [Salvage] if the program dies.
// It implements [io.WriteSeeker] for the end and for the first [Head] bytes,
// which cost nothing to write again. It is used by one goroutine.
type Writer struct {
	f      File
	chunks *chunks

	buf  []byte // of the chunk that is not written yet, with room for its tag
	done int64  // chunks in f
	size int64  // written in all
	at   int64  // where the next write goes

	head    [Head]byte
	patched bool // head differs from the first chunk in f
	err     error
}

// NewWriter writes a file's header. The caller closes f after [Writer.Close].
// The file opens at its place only, such as the name it is stored by.
func (k *Key) NewWriter(f File, place string) (*Writer, error) {
	var salt [32]byte
	var prefix [7]byte
	_, _ = rand.Read(salt[:]) // never fails (crypto/rand)
	_, _ = rand.Read(prefix[:])
	return k.newWriter(f, place, salt, prefix)
}

func (k *Key) newWriter(f File, place string, salt [32]byte, prefix [7]byte) (*Writer, error) {
	h := newHeader(k.id, salt, prefix)
	c, err := k.file(&h, place)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(h[:]); err != nil {
		return nil, fmt.Errorf("write a sealed file's header: %w", err)
	}
	return &Writer{f: f, chunks: c, buf: make([]byte, 0, sealedSize)}, nil
}

// Seek sets where the next write goes.
func (w *Writer) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += w.at
	case io.SeekEnd:
		offset += w.size
	}
	if offset < 0 || offset > w.size {
		return w.at, errSeek
	}
	w.at = offset
	return offset, nil
}

// Write appends p, or replaces bytes of the head. After an error of the file,
// which it returns again and again, nothing more is written.
func (w *Writer) Write(p []byte) (int, error) {
	switch {
	case w.err != nil:
		return 0, w.err
	case w.at == w.size:
		return w.append(p)
	case w.at+int64(len(p)) > min(Head, w.size):
		return 0, errSeek
	}
	copy(w.head[w.at:], p)
	if w.done == 0 {
		copy(w.buf[w.at:], p)
	} else {
		w.patched = true
	}
	w.at += int64(len(p))
	return len(p), nil
}

func (w *Writer) append(p []byte) (n int, err error) {
	if w.size < Head {
		copy(w.head[w.size:], p)
	}
	for len(p) > 0 {
		// A full chunk waits for what follows: it may be the last.
		if len(w.buf) == Chunk {
			if err := w.flush(kindMore); err != nil {
				return n, err
			}
		}
		m := min(len(p), Chunk-len(w.buf))
		w.buf = append(w.buf, p[:m]...)
		p = p[m:]
		n += m
		w.size += int64(m)
		w.at = w.size
	}
	return n, nil
}

// flush writes the chunk that is in hand.
func (w *Writer) flush(kind byte) error {
	if w.done == maxChunks {
		w.err = errors.New("seal: the file is full")
		return w.err
	}
	if _, err := w.f.Write(w.chunks.seal(w.done, kind, w.buf)); err != nil {
		w.err = fmt.Errorf("write a sealed file: %w", err)
		return w.err
	}
	w.done++
	w.buf = w.buf[:0]
	return nil
}

// Close writes the last chunk, and the first again where the head has changed.
// It does not close the file. Closing again is harmless.
func (w *Writer) Close() error {
	if errors.Is(w.err, errClosed) {
		return nil
	}
	if w.err != nil {
		return w.err
	}
	kind := byte(kindLast)
	if w.patched {
		kind = kindLastHead
	}
	if err := w.flush(kind); err != nil {
		return err
	}
	if w.patched {
		if err := w.writeHead(); err != nil {
			w.err = err
			return err
		}
	}
	w.err = errClosed
	return nil
}

// writeHead seals the first chunk again, as another kind: under the same nonce
// it must never hold two contents.
func (w *Writer) writeHead() error {
	b := w.buf[:sealedSize]
	if _, err := w.f.ReadAt(b, headerSize); err != nil {
		return fmt.Errorf("read a sealed file's head: %w", err)
	}
	plain, err := w.chunks.open(b[:0], 0, kindMore, b)
	if err != nil {
		return fmt.Errorf("read a sealed file's head: %w", err)
	}
	copy(plain, w.head[:])
	if _, err := w.f.WriteAt(w.chunks.seal(0, kindHead, plain), headerSize); err != nil {
		return fmt.Errorf("write a sealed file's head: %w", err)
	}
	return nil
}
