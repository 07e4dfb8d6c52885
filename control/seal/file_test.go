package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"
)

// memory is a [File].
type memory struct {
	b     []byte
	fails error
}

func (m *memory) Write(p []byte) (int, error) {
	if m.fails != nil {
		return 0, m.fails
	}
	m.b = append(m.b, p...)
	return len(p), nil
}

func (m *memory) ReadAt(p []byte, at int64) (int, error) { return bytes.NewReader(m.b).ReadAt(p, at) }

func (m *memory) WriteAt(p []byte, at int64) (int, error) { return copy(m.b[at:], p), nil }

func only(k *Key) Find { return func(uuid.UUID) (*Key, error) { return k, nil } }

// noise is n bytes that are the same for the same n.
func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// write seals plain in pieces, and then its first bytes again, if head says so.
func write(t testing.TB, k *Key, plain, head []byte) *memory {
	t.Helper()
	m := &memory{}
	w, err := k.NewWriter(m, "blob/a")
	if err != nil {
		t.Fatal(err)
	}
	for rest := plain; len(rest) > 0; {
		n := min(len(rest), 30_000)
		if _, err := w.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if head != nil {
		again(t, w, head)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return m
}

// again writes over the head, as a recorder does, and goes back to the end.
func again(t testing.TB, w *Writer, head []byte) {
	t.Helper()
	if _, err := w.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(head); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Seek(0, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
}

func read(k *Key, b []byte) ([]byte, error) {
	r, err := NewReader(bytes.NewReader(b), int64(len(b)), "blob/a", only(k))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

var sizes = []int{0, 1, 58, Head, Chunk - 1, Chunk, Chunk + 1, 2 * Chunk, 3*Chunk + 77}

func TestFile(t *testing.T) {
	k := testKey(t, 1)
	for _, n := range sizes {
		for _, head := range [][]byte{nil, []byte("a new beginning")} {
			if len(head) > n {
				continue
			}
			plain := noise(n)
			m := write(t, k, plain, head)
			copy(plain, head)
			got, err := read(k, m.b)
			if err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("%d bytes with head %q: read %d, %v", n, head, len(got), err)
			}
			if size, ok := PlainSize(int64(len(m.b))); !ok || size != int64(n) {
				t.Errorf("%d bytes: PlainSize of %d says %d, %v", n, len(m.b), size, ok)
			}
			if n > 8 && bytes.Contains(m.b, plain[:8]) {
				t.Errorf("%d bytes: they stand in clear", n)
			}
		}
	}
}

func TestFileRanges(t *testing.T) {
	k := testKey(t, 1)
	plain := noise(5*Chunk + 1234)
	m := write(t, k, plain, []byte("head"))
	copy(plain, "head")
	r, err := NewReader(bytes.NewReader(m.b), int64(len(m.b)), "blob/a", only(k))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(7, 7))
	for range 500 {
		from := random.IntN(len(plain))
		n := random.IntN(min(len(plain)-from, 3*Chunk) + 1)
		if _, err := r.Seek(int64(from), io.SeekStart); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.LimitReader(r, int64(n)))
		if err != nil || !bytes.Equal(got, plain[from:from+n]) {
			t.Fatalf("%d bytes from %d: read %d, %v", n, from, len(got), err)
		}
	}
	if at, err := r.Seek(-3, io.SeekEnd); err != nil || at != int64(len(plain)-3) {
		t.Errorf("Seek from the end: %d, %v", at, err)
	}
	if _, err := r.Seek(-1, io.SeekStart); err == nil {
		t.Error("Seek before the beginning")
	}
	if n, err := r.Read(nil); n != 0 || err != nil {
		t.Errorf("Read of nothing: %d, %v", n, err)
	}
}

// A range opens the chunks that it touches, and the last one, no others.
func TestFileRangeReadsLittle(t *testing.T) {
	k := testKey(t, 1)
	m := write(t, k, noise(10*Chunk), nil)
	for i := int64(3); i < 9; i++ { // chunks 3 to 8 are rubbish
		clear(m.b[headerSize+i*sealedSize : headerSize+(i+1)*sealedSize])
	}
	r, err := NewReader(bytes.NewReader(m.b), int64(len(m.b)), "blob/a", only(k))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = r.Seek(2*Chunk+5, io.SeekStart)
	if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
		t.Errorf("a range outside of what is damaged: %v", err)
	}
	_, _ = r.Seek(3*Chunk-10, io.SeekStart)
	if _, err := io.ReadFull(r, make([]byte, 100)); !errors.Is(err, ErrDamaged) {
		t.Errorf("a range into what is damaged: %v, want ErrDamaged", err)
	}
}

func TestFileTampering(t *testing.T) {
	k := testKey(t, 1)
	chunk := func(b []byte, i int) []byte { return b[headerSize+i*sealedSize:][:sealedSize] }
	head := []byte("the head, again")
	old := &memory{}
	for _, tt := range []struct {
		name string
		do   func(b []byte) []byte
	}{
		{"last-chunk-cut", func(b []byte) []byte { return b[:headerSize+3*sealedSize] }},
		{"two-chunks-cut", func(b []byte) []byte { return b[:headerSize+2*sealedSize] }},
		{"last-byte-cut", func(b []byte) []byte { return b[:len(b)-1] }},
		{"all-chunks-cut", func(b []byte) []byte { return b[:headerSize] }},
		{"header-cut", func(b []byte) []byte { return b[:headerSize-1] }},
		{"byte-appended", func(b []byte) []byte { return append(b, 0) }},
		{"chunk-appended", func(b []byte) []byte { return append(b, chunk(b, 1)...) }},
		{"swapped", func(b []byte) []byte {
			first := bytes.Clone(chunk(b, 1))
			copy(chunk(b, 1), chunk(b, 2))
			copy(chunk(b, 2), first)
			return b
		}},
		{"repeated", func(b []byte) []byte { copy(chunk(b, 2), chunk(b, 1)); return b }},
		{"left-out", func(b []byte) []byte {
			return append(b[:headerSize+sealedSize:headerSize+sealedSize], b[headerSize+2*sealedSize:]...)
		}},
		{"of-another-file", func(b []byte) []byte {
			copy(chunk(b, 1), chunk(write(t, k, noise(3*Chunk+9), head).b, 1))
			return b
		}},
		{"the-head-before", func(b []byte) []byte { copy(chunk(b, 0), chunk(old.b, 0)); return b }},
		{"another-header", func(b []byte) []byte { copy(b, write(t, k, noise(3*Chunk+9), head).b[:headerSize]); return b }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &memory{}
			w, err := k.NewWriter(m, "blob/a")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = w.Write(noise(3*Chunk + 9))
			again(t, w, head)
			old.b = bytes.Clone(m.b)
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := read(k, m.b); err != nil {
				t.Fatalf("untouched: %v", err)
			}
			if got, err := read(k, tt.do(m.b)); !errors.Is(err, ErrDamaged) {
				t.Errorf("read %d bytes, %v, want ErrDamaged", len(got), err)
			}
		})
	}
}

func TestFileEveryBitCounts(t *testing.T) {
	k := testKey(t, 1)
	m := write(t, k, noise(40), []byte("x"))
	for i := range m.b {
		bad := bytes.Clone(m.b)
		bad[i] ^= 0x10
		if _, err := read(k, bad); !errors.Is(err, ErrDamaged) {
			t.Errorf("with byte %d altered: %v", i, err)
		}
	}
	find := func(uuid.UUID) (*Key, error) { return testKey(t, 2), nil }
	if _, err := NewReader(bytes.NewReader(m.b), int64(len(m.b)), "blob/a", find); !errors.Is(err, ErrDamaged) {
		t.Errorf("under another key: %v", err)
	}
	if _, err := NewReader(bytes.NewReader(m.b), int64(len(m.b)), "blob/b", only(k)); !errors.Is(err, ErrDamaged) {
		t.Errorf("at another place: %v", err)
	}
}

// What is under way can be read up to its last whole chunk.
func TestSalvage(t *testing.T) {
	k := testKey(t, 1)
	plain := noise(3*Chunk + 500)
	m := &memory{}
	w, err := k.NewWriter(m, "blob/a")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(plain)
	again(t, w, []byte("head"))
	whole := len(m.b)
	for _, torn := range [][]byte{m.b, append(bytes.Clone(m.b), noise(1000)...), m.b[:whole-1], m.b[:headerSize], m.b[:headerSize+5]} {
		want := plain[:(len(torn)-headerSize)/sealedSize*Chunk]
		r, err := Salvage(bytes.NewReader(torn), int64(len(torn)), "blob/a", only(k))
		if err != nil {
			t.Fatalf("%d bytes: %v", len(torn), err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("of %d bytes: read %d, %v, want %d", len(torn), len(got), err, len(want))
		}
		if _, err := read(k, torn); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d bytes pass for a whole file: %v", len(torn), err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	copy(plain, "head")
	r, err := Salvage(bytes.NewReader(m.b), int64(len(m.b)), "blob/a", only(k))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("of a whole file: read %d, %v", len(got), err)
	}
}

func TestWriterRefuses(t *testing.T) {
	k := testKey(t, 1)
	m := &memory{}
	w, _ := k.NewWriter(m, "blob/a")
	_, _ = w.Write(noise(2 * Chunk))
	for _, at := range []int64{Head - 3, Head, Chunk} {
		_, _ = w.Seek(at, io.SeekStart)
		if _, err := w.Write(make([]byte, 10)); err == nil {
			t.Errorf("10 bytes at %d are written again", at)
		}
	}
	if _, err := w.Seek(1, io.SeekEnd); err == nil {
		t.Error("Seek behind the end")
	}
	_, _ = w.Seek(0, io.SeekEnd)
	m.fails = errors.New("disk full")
	if _, err := w.Write(noise(2 * Chunk)); err == nil {
		t.Fatal("a full disk takes more")
	}
	m.fails = nil
	if _, err := w.Write(noise(1)); err == nil {
		t.Error("it goes on after a hole")
	}
	if err := w.Close(); err == nil {
		t.Error("a file with a hole is closed as whole")
	}
}

// A chunk's nonce holds one content only, whatever is written again.
func TestNoncesMeetOnce(t *testing.T) {
	k := testKey(t, 1)
	m := &memory{}
	w, _ := k.NewWriter(m, "blob/a")
	_, _ = w.Write(noise(2*Chunk + 1))
	before := bytes.Clone(m.b[headerSize:][:sealedSize])
	for i := range byte(5) {
		again(t, w, []byte{i})
		if !bytes.Equal(before, m.b[headerSize:][:sealedSize]) {
			t.Fatal("the first chunk was sealed again before the end")
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.chunks.open(nil, 0, kindMore, m.b[headerSize:][:sealedSize]); err == nil {
		t.Error("the first chunk was sealed twice under one nonce")
	}
	if err := w.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
}

func TestWriterDoesNotAllocate(t *testing.T) {
	k := testKey(t, 1)
	m := &memory{b: make([]byte, 0, 64<<20)}
	w, _ := k.NewWriter(m, "blob/a")
	frame := make([]byte, 320)
	if n := testing.AllocsPerRun(2000, func() { _, _ = w.Write(frame) }); n != 0 {
		t.Errorf("Write allocates %v times a frame, want 0", n)
	}
}

// Files of docs/encryption.md, computed by another program there.
func TestFileVectors(t *testing.T) {
	k := testKey(t, 0)
	var salt [32]byte
	for i := range salt {
		salt[i] = byte(0x80 + i)
	}
	prefix := [7]byte{1, 2, 3, 4, 5, 6, 7}
	for _, v := range fileVectors {
		plain := make([]byte, v.size)
		for i := range plain {
			plain[i] = byte(i % 251)
		}
		m := &memory{}
		w, err := k.newWriter(m, "blob/a", salt, prefix)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(plain)
		if v.head != "" {
			again(t, w, []byte(v.head))
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(m.b)
		if got := hex.EncodeToString(sum[:]); got != v.sum {
			t.Errorf("%d bytes with head %q: SHA-256 of the file is %s, want %s", v.size, v.head, got, v.sum)
		}
		if v.size == 5 && hex.EncodeToString(m.b) != v.file {
			t.Errorf("5 bytes are sealed to %x, want %s", m.b, v.file)
		}
	}
}

func FuzzReader(f *testing.F) {
	k := testKey(f, 1)
	for _, n := range []int{0, 5, Chunk + 5} {
		f.Add(write(f, k, noise(n), nil).b)
	}
	h := newHeader(k.id, [32]byte{}, [7]byte{})
	f.Add(h[:])
	f.Add(h[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		// At another place nothing opens, and nothing breaks.
		if r, err := NewReader(bytes.NewReader(b), int64(len(b)), "blob/b", only(k)); err == nil {
			t.Errorf("a file of %d bytes opens: %d", len(b), r.Size())
		}
		if r, err := Salvage(bytes.NewReader(b), int64(len(b)), "blob/b", only(k)); err == nil {
			if got, err := io.ReadAll(r); len(got) > 0 || err == nil && r.Size() > 0 {
				t.Errorf("%d bytes are salvaged, %v", len(got), err)
			}
		}
	})
}

func BenchmarkFile(b *testing.B) {
	k := testKey(b, 1)
	plain := make([]byte, 1<<20)
	sealed := write(b, k, plain, nil).b
	b.Run("write", func(b *testing.B) {
		m := &memory{b: make([]byte, 0, len(sealed)+sealedSize)}
		b.SetBytes(int64(len(plain)))
		for b.Loop() {
			m.b = m.b[:0]
			w, _ := k.NewWriter(m, "blob/a")
			_, _ = w.Write(plain)
			_ = w.Close()
		}
	})
	b.Run("read", func(b *testing.B) {
		b.SetBytes(int64(len(plain)))
		for b.Loop() {
			if _, err := read(k, sealed); err != nil {
				b.Fatal(err)
			}
		}
	})
}
