package media

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// memoryFile is an [io.WriteSeeker] that can fail.
type memoryFile struct {
	b      []byte
	at     int64
	writes int
	fail   error
}

func (f *memoryFile) Write(p []byte) (int, error) {
	if f.fail != nil {
		return 0, f.fail
	}
	f.writes++
	if need := int(f.at) + len(p); need > len(f.b) {
		f.b = append(f.b, make([]byte, need-len(f.b))...)
	}
	copy(f.b[f.at:], p)
	f.at += int64(len(p))
	return len(p), nil
}

func (f *memoryFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
		f.at = offset
	case io.SeekCurrent:
		f.at += offset
	default:
		return 0, errors.New("not used")
	}
	return f.at, nil
}

func TestRecorder(t *testing.T) {
	for _, rate := range []int{8000, 16000, 24000, 48000} {
		caller, agent := sine(rate, 440, 0.5, 5*rate), sine(rate, 700, 0.3, 5*rate)
		name := filepath.Join(t.TempDir(), "call.wav")
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewRecorder(f, rate)
		if err != nil {
			t.Fatal(err)
		}
		n := rate / 50
		for i := 0; i < len(caller); i += n {
			if err := r.Write(caller[i:i+n], agent[i:i+n]); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(r.Close(), r.Close(), f.Close()); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		gotRate, channels, pcm, err := ReadWAV(bytes.NewReader(b))
		if err != nil || gotRate != rate || channels != 2 || len(pcm) != 2*len(caller) {
			t.Fatalf("got %d Hz, %d channels, %d samples, %v", gotRate, channels, len(pcm), err)
		}
		var left, right []int16
		for i := 0; i < len(pcm); i += 2 {
			left, right = append(left, pcm[i]), append(right, pcm[i+1])
		}
		if rate == 8000 {
			caller = DecodePCMU(nil, EncodePCMU(nil, caller))
			agent = DecodePCMU(nil, EncodePCMU(nil, agent))
			if len(b) != wavHeaderSize+2*len(caller) {
				t.Errorf("file of %d bytes: µ-law takes one a sample", len(b))
			}
		}
		if !slices.Equal(left, caller) || !slices.Equal(right, agent) {
			t.Errorf("%d Hz: the channels are not what was written", rate)
		}
	}
}

// After every single write the file on the disk can be read, and holds all but
// what is buffered.
func TestRecorderLeavesAPlayableFileWhenTheProcessDies(t *testing.T) {
	f := &memoryFile{}
	r, err := NewRecorder(f, 8000)
	if err != nil {
		t.Fatal(err)
	}
	frame := sine(8000, 440, 0.5, 160)
	for i := range 1000 {
		if err := r.Write(frame, frame); err != nil {
			t.Fatal(err)
		}
		_, _, pcm, err := ReadWAV(bytes.NewReader(f.b))
		if err != nil {
			t.Fatalf("after frame %d: %v", i, err)
		}
		if lost := (i+1)*320 - len(pcm); lost < 0 || lost > recorderBuffer {
			t.Fatalf("after frame %d: %d samples are missing", i, lost)
		}
	}
	if f.writes > 1+2*(1000*320/recorderBuffer+1) {
		t.Errorf("%d writes for 20 s of audio", f.writes)
	}
	// Dying between the audio and the header leaves the audio unclaimed.
	torn := append(slices.Clone(f.b), make([]byte, 1000)...)
	if _, _, pcm, err := ReadWAV(bytes.NewReader(torn)); err != nil || len(pcm) > len(f.b)-wavHeaderSize {
		t.Errorf("torn file: %d samples, %v", len(pcm), err)
	}
}

func TestRecorderStartsWhereTheFileStands(t *testing.T) {
	f := &memoryFile{b: []byte("prefix"), at: 6}
	r, err := NewRecorder(f, 16000)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Write([]int16{1, 2}, []int16{3, 4}), r.Close()); err != nil {
		t.Fatal(err)
	}
	_, _, pcm, err := ReadWAV(bytes.NewReader(f.b[6:]))
	if want := []int16{1, 3, 2, 4}; err != nil || !slices.Equal(pcm, want) || string(f.b[:6]) != "prefix" {
		t.Errorf("got %v, %v, want %v", pcm, err, want)
	}
}

func TestRecorderErrors(t *testing.T) {
	if _, err := NewRecorder(&memoryFile{}, 11025); !errors.Is(err, ErrRate) {
		t.Errorf("11025 Hz: got %v, want ErrRate", err)
	}
	full := errors.New("disk full")
	if _, err := NewRecorder(&memoryFile{fail: full}, 8000); !errors.Is(err, full) {
		t.Errorf("header: got %v, want %v", err, full)
	}
	f := &memoryFile{}
	r, err := NewRecorder(f, 8000)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(make([]int16, 3), make([]int16, 4)); err == nil {
		t.Error("unequal lengths must be refused")
	}
	if err := r.Write(make([]int16, 3), make([]int16, 3)); err != nil {
		t.Errorf("a refused write must not end the recording: %v", err)
	}
	f.fail = full
	if err := r.Write(make([]int16, recorderBuffer), make([]int16, recorderBuffer)); !errors.Is(err, full) {
		t.Errorf("write: got %v, want %v", err, full)
	}
	f.fail = nil
	if err := r.Write(make([]int16, 1), make([]int16, 1)); !errors.Is(err, full) {
		t.Errorf("a failed recording must stay failed: got %v", err)
	}
	if err := r.Close(); !errors.Is(err, full) {
		t.Errorf("close: got %v, want %v", err, full)
	}
}

func TestRecorderIsClosed(t *testing.T) {
	r, err := NewRecorder(&memoryFile{}, 8000)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Write([]int16{1}, []int16{1}); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestRecorderStopsAtFourGigabytes(t *testing.T) {
	f := &memoryFile{}
	r, err := NewRecorder(f, 8000)
	if err != nil {
		t.Fatal(err)
	}
	r.stored = wavUnknownSize - wavHeaderSize - 100
	before := len(f.b)
	if err := r.Write(make([]int16, recorderBuffer), make([]int16, recorderBuffer)); !errors.Is(err, ErrRecordingFull) {
		t.Errorf("got %v, want ErrRecordingFull", err)
	}
	if len(f.b) != before {
		t.Error("the file grew past its limit")
	}
}

func TestRecorderAllocatesNothing(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		r, err := NewRecorder(discardSeeker{}, rate)
		if err != nil {
			t.Fatal(err)
		}
		frame := make([]int16, rate/50)
		_ = r.Write(frame, frame)
		if n := testing.AllocsPerRun(20, func() { _ = r.Write(frame, frame) }); n != 0 {
			t.Errorf("%d Hz: %v allocations a frame", rate, n)
		}
	}
}

type discardSeeker struct{}

func (discardSeeker) Write(p []byte) (int, error)    { return len(p), nil }
func (discardSeeker) Seek(int64, int) (int64, error) { return 0, nil }

func BenchmarkRecorder(b *testing.B) {
	r, err := NewRecorder(discardSeeker{}, 8000)
	if err != nil {
		b.Fatal(err)
	}
	frame := sine(8000, 440, 0.5, 160)
	for b.Loop() {
		_ = r.Write(frame, frame)
	}
}
