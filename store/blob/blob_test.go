package blob

import (
	"errors"
	"io"
	"testing"

	"github.com/google/uuid"

	"parley/control"
)

func TestFolder(t *testing.T) {
	f, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx := t.Context()
	key := control.BlobKey(control.Call{ID: uuid.New(), Tenant: uuid.New()})

	w, err := f.Create(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Stat(ctx, key); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("a blob in the making shows: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := f.Open(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, _ = r.Seek(1, io.SeekStart)
	if b, _ := io.ReadAll(r); string(b) != "ello" {
		t.Errorf("read %q, want ello", b)
	}
	if err := f.Delete(ctx, key); err != nil {
		t.Fatal(err)
	}
	if err := f.Delete(ctx, key); err != nil {
		t.Errorf("second Delete: %v", err)
	}
	if _, err := f.Open(ctx, key); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("Open after Delete: %v, want ErrNotFound", err)
	}
}

func FuzzKeyStaysInside(f *testing.F) {
	for _, k := range []string{"", "../x", "/etc/passwd", "a/b.wav", "00000000-0000-0000-0000-000000000000/../x.wav"} {
		f.Add(k)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if check(key) == nil && len(key) > 36+1+36+1+8 {
			t.Errorf("%q passes", key)
		}
	})
}
