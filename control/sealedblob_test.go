package control_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/seal"
	"parley/media"
	"parley/store/blob"
)

// oneKey is a [control.DataKeyStore] of a single key.
type oneKey struct {
	control.DataKeyStore
	key *control.DataKey
}

func (s *oneKey) CurrentDataKey(context.Context) (control.DataKey, error) {
	if s.key == nil {
		return control.DataKey{}, control.ErrNotFound
	}
	return *s.key, nil
}

func (s *oneKey) DataKey(context.Context, uuid.UUID) (control.DataKey, error) { return *s.key, nil }

func (s *oneKey) InsertDataKey(_ context.Context, k control.DataKey, _ uuid.UUID) error {
	s.key = &k
	return nil
}

// sealedFolder keeps blobs in a folder of the test's.
func sealedFolder(t testing.TB) (s *control.SealedBlobs, f *blob.Folder, keys *oneKey, dir string) {
	t.Helper()
	dir = t.TempDir()
	f, err := blob.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	ring, err := control.NewKeyring(bytes.Repeat([]byte{3}, 32))
	if err != nil {
		t.Fatal(err)
	}
	keys = &oneKey{}
	return &control.SealedBlobs{Blobs: f, Keys: &control.DataKeys{Store: keys, Provider: control.LocalKeys{Ring: ring}}}, f, keys, dir
}

func recordingKey() string {
	return control.BlobKey(control.Call{ID: uuid.New(), Tenant: uuid.NewSHA1(uuid.Nil, []byte("tenant"))})
}

// record writes a recording of so many seconds of noise and returns what stands
// in its file when it is in clear.
func record(t testing.TB, to control.Blobs, key string, seconds int) {
	t.Helper()
	w, err := to.Create(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	talk(t, w, seconds)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// talk records the same noise each time.
func talk(t testing.TB, w io.Writer, seconds int) *media.Recorder {
	t.Helper()
	rec, err := media.NewRecorder(w.(io.WriteSeeker), 8000)
	if err != nil {
		t.Fatal(err)
	}
	noise := rand.New(rand.NewPCG(1, 2))
	frame := make([]int16, 160)
	for range seconds * 50 {
		for i := range frame {
			frame[i] = int16(noise.Uint32())
		}
		if err := rec.Write(frame, frame); err != nil {
			t.Fatal(err)
		}
	}
	if err := rec.Close(); err != nil {
		t.Fatal(err)
	}
	return rec
}

func contents(t testing.TB, from control.Blobs, key string) []byte {
	t.Helper()
	r, err := from.Open(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRecordingIsSealed(t *testing.T) {
	s, f, _, dir := sealedFolder(t)
	key, clear := recordingKey(), recordingKey()
	for _, seconds := range []int{0, 1, 30} {
		record(t, s, key, seconds)
		record(t, f, clear, seconds)
		want := contents(t, f, clear)
		if got := contents(t, s, key); !bytes.Equal(got, want) {
			t.Errorf("%d s: %d bytes differ from the %d in clear", seconds, len(got), len(want))
		}
		if info, err := s.Stat(t.Context(), key); err != nil || info.Size != int64(len(want)) {
			t.Errorf("%d s: Stat says %d bytes, %v, want %d", seconds, info.Size, err, len(want))
		}
		on, err := os.ReadFile(filepath.Join(dir, key))
		if err != nil || bytes.Contains(on, []byte("RIFF")) || len(want) > 100 && bytes.Contains(on, want[60:76]) {
			t.Errorf("%d s: the file has the recording in clear (%v)", seconds, err)
		}
		// What is older than the keys is read as it is.
		if got := contents(t, s, clear); !bytes.Equal(got, want) {
			t.Errorf("%d s: a recording in clear is read differently", seconds)
		}
		if did, err := s.SealBlob(t.Context(), clear); !did || err != nil {
			t.Errorf("%d s: SealBlob: %v, %v", seconds, did, err)
		}
		if did, err := s.SealBlob(t.Context(), clear); did || err != nil {
			t.Errorf("%d s: SealBlob again: %v, %v", seconds, did, err)
		}
		if got := contents(t, s, clear); !bytes.Equal(got, want) {
			t.Errorf("%d s: sealed later it is read differently", seconds)
		}
	}
	if err := f.DeleteTenant(t.Context(), uuid.MustParse(key[:36])); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), key); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("of a deleted tenant: %v", err)
	}
}

// Players ask for ranges; each is the bytes that stand there in clear.
func TestRecordingRanges(t *testing.T) {
	s, f, _, _ := sealedFolder(t)
	key, clear := recordingKey(), recordingKey()
	record(t, s, key, 30)
	record(t, f, clear, 30)
	serve := func(from control.Blobs, key, ranges string) *httptest.ResponseRecorder {
		r, err := from.Open(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		req, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
		req.Header.Set("Range", ranges)
		http.ServeContent(w, req, "a.wav", time.Time{}, r)
		return w
	}
	for _, ranges := range []string{"bytes=0-0", "bytes=0-", "bytes=-100", "bytes=65535-65536", "bytes=65536-131071", "bytes=130000-400000", "bytes=479000-999999", "bytes=999999-"} {
		got, want := serve(s, key, ranges), serve(f, clear, ranges)
		if got.Code != want.Code || !bytes.Equal(got.Body.Bytes(), want.Body.Bytes()) || got.Header().Get("Content-Range") != want.Header().Get("Content-Range") {
			t.Errorf("%s: %d with %d bytes (%s), want %d with %d (%s)", ranges, got.Code, got.Body.Len(), got.Header().Get("Content-Range"),
				want.Code, want.Body.Len(), want.Header().Get("Content-Range"))
		}
	}
}

func TestRecordingStaysWhereItIs(t *testing.T) {
	s, _, keys, dir := sealedFolder(t)
	key := recordingKey()
	record(t, s, key, 10)
	other := key[:36] + "/" + uuid.NewString() + ".wav"
	if err := os.Rename(filepath.Join(dir, key), filepath.Join(dir, other)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), other); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("as another call's: %v", err)
	}
	if err := os.Rename(filepath.Join(dir, other), filepath.Join(dir, key)); err != nil {
		t.Fatal(err)
	}
	keys.key.Wrapped, keys.key.DestroyedAt = nil, time.Now()
	s.Keys.Forget()
	if _, err := s.Open(t.Context(), key); !errors.Is(err, control.ErrErased) {
		t.Errorf("once the key is destroyed: %v", err)
	}
}

// A program that dies leaves what came to the disk, and a reader of it.
func TestRecordingCutOff(t *testing.T) {
	s, f, _, _ := sealedFolder(t)
	key, clear := recordingKey(), recordingKey()
	w, err := s.Create(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	talk(t, w, 30) // and never closed
	record(t, f, clear, 30)
	_, _, whole, err := media.ReadWAV(bytes.NewReader(contents(t, f, clear)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), key); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("it passes for a whole one: %v", err)
	}
	r, err := s.OpenPart(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rate, channels, pcm, err := media.ReadCutWAV(r)
	if err != nil || rate != 8000 || channels != 2 {
		t.Fatalf("%d Hz, %d channels, %v", rate, channels, err)
	}
	// All but the chunk in hand: 16 kB are a second.
	if lost := len(whole) - len(pcm); lost < 0 || lost > seal.Chunk {
		t.Errorf("%d of %d samples are lost, want at most %d", lost, len(whole), seal.Chunk)
	}
	for i, v := range pcm {
		if v != whole[i] {
			t.Fatalf("sample %d is %d, want %d", i, v, whole[i])
		}
	}
}

func TestNoKeyNoRecording(t *testing.T) {
	s, f, _, _ := sealedFolder(t)
	s.Keys.Provider = broken{s.Keys.Provider}
	key := recordingKey()
	if _, err := s.Create(t.Context(), key); !errors.Is(err, control.ErrUnavailable) {
		t.Errorf("Create: %v, want ErrUnavailable", err)
	}
	if _, err := f.OpenPart(t.Context(), key); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("something was written: %v", err)
	}
}

// broken is a provider that refuses.
type broken struct{ control.KeyProvider }

func (broken) Wrap(context.Context, string, []byte) ([]byte, error) {
	return nil, errors.New("permission denied")
}
