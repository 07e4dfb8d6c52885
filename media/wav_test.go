package media

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"
)

// riff builds a WAV file of chunks; a chunk is its id and its body.
func riff(chunks ...string) []byte {
	b := []byte("RIFF\x00\x00\x00\x00WAVE")
	for i := 0; i+1 < len(chunks); i += 2 {
		b = append(b, chunks[i]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(chunks[i+1])))
		b = append(b, chunks[i+1]...)
		if len(chunks[i+1])%2 == 1 {
			b = append(b, 0)
		}
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
	return b
}

// format is the body of a format chunk.
func format(tag, channels, rate, bits int) string {
	le := binary.LittleEndian
	b := le.AppendUint16(nil, uint16(tag))
	b = le.AppendUint16(b, uint16(channels))
	b = le.AppendUint32(b, uint32(rate))
	b = le.AppendUint32(b, uint32(rate*channels*bits/8))
	b = le.AppendUint16(b, uint16(channels*bits/8))
	return string(le.AppendUint16(b, uint16(bits)))
}

func extensible(tag int) string {
	return format(wavExtensible, 1, 16000, 16) + "\x16\x00\x10\x00\x04\x00\x00\x00" +
		string([]byte{byte(tag), 0}) + "\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
}

func TestReadWAV(t *testing.T) {
	const two = "\x01\x00\xfe\xff" // 1, -2
	unknown := riff("fmt ", format(1, 1, 24000, 16), "data", two)
	binary.LittleEndian.PutUint32(unknown[len(unknown)-8:], wavUnknownSize)
	binary.LittleEndian.PutUint32(unknown[4:], wavUnknownSize)
	for _, tt := range []struct {
		name           string
		file           []byte
		rate, channels int
		pcm            []int16
	}{
		{"pcm", riff("fmt ", format(1, 1, 16000, 16), "data", two), 16000, 1, []int16{1, -2}},
		{"stereo", riff("fmt ", format(1, 2, 8000, 16), "data", two), 8000, 2, []int16{1, -2}},
		{"mu-law", riff("fmt ", format(7, 1, 8000, 8), "data", "\x80\x00\xff"), 8000, 1, []int16{32124, -32124, 0}},
		{"a-law", riff("fmt ", format(6, 1, 8000, 8)+"\x00\x00", "data", "\xaa\xd5"), 8000, 1, []int16{32256, 8}},
		{"extensible", riff("fmt ", extensible(1), "data", two), 16000, 1, []int16{1, -2}},
		{"data first", riff("data", two, "fmt ", format(1, 1, 8000, 16)), 8000, 1, []int16{1, -2}},
		{"odd data first", riff("data", "\xff", "fmt ", format(7, 1, 8000, 8)), 8000, 1, []int16{0}},
		{"odd chunks between", riff("LIST", "abc", "fmt ", format(1, 1, 8000, 16), "junk", "z", "data", two), 8000, 1, []int16{1, -2}},
		{"empty", riff("fmt ", format(1, 1, 8000, 16), "data", ""), 8000, 1, nil},
		{"unknown length", unknown, 24000, 1, []int16{1, -2}},
		{"cut short", riff("fmt ", format(1, 2, 8000, 16), "data", two+"abcdefg")[:44+6], 8000, 2, []int16{1, -2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rate, channels, pcm, err := ReadWAV(iotest.OneByteReader(bytes.NewReader(tt.file)))
			if err != nil {
				t.Fatal(err)
			}
			if rate != tt.rate || channels != tt.channels || !slices.Equal(pcm, tt.pcm) {
				t.Errorf("got %d Hz, %d channels, %v, want %d, %d, %v", rate, channels, pcm, tt.rate, tt.channels, tt.pcm)
			}
		})
	}
}

func TestReadWAVRefuses(t *testing.T) {
	for name, file := range map[string][]byte{
		"nothing":      nil,
		"no RIFF":      []byte("RIFX\x00\x00\x00\x00WAVE"),
		"no chunks":    riff(),
		"no data":      riff("fmt ", format(1, 1, 8000, 16)),
		"no format":    riff("data", "ab"),
		"8-bit PCM":    riff("fmt ", format(1, 1, 8000, 8), "data", "ab"),
		"float":        riff("fmt ", format(3, 1, 8000, 32), "data", "abcd"),
		"float inside": riff("fmt ", extensible(3), "data", "abcd"),
		"no channels":  riff("fmt ", format(1, 0, 8000, 16), "data", "ab"),
		"channels":     riff("fmt ", format(1, 9, 8000, 16), "data", "ab"),
		"rate":         riff("fmt ", format(1, 1, 1<<30, 16), "data", "ab"),
		"no rate":      riff("fmt ", format(1, 1, 0, 16), "data", "ab"),
		"short format": riff("fmt ", "abcd", "data", "ab"),
		"long format":  riff("fmt ", string(make([]byte, 2000)), "data", "ab"),
	} {
		if _, _, _, err := ReadWAV(bytes.NewReader(file)); !errors.Is(err, ErrWAV) {
			t.Errorf("%s: got %v, want ErrWAV", name, err)
		}
	}
	broken := errors.New("broken pipe")
	if _, _, _, err := ReadWAV(iotest.ErrReader(broken)); !errors.Is(err, broken) || errors.Is(err, ErrWAV) {
		t.Errorf("a failing reader: got %v, want %v", err, broken)
	}
}

// A header may claim anything; memory follows what arrives.
func TestReadWAVHasALimit(t *testing.T) {
	file := riff("fmt ", format(7, 1, 8000, 8), "data", "")
	binary.LittleEndian.PutUint32(file[len(file)-4:], 0xfffffff0)
	if _, _, pcm, err := ReadWAV(bytes.NewReader(file)); err != nil || len(pcm) != 0 {
		t.Errorf("a claim of 4 GiB: %d samples, %v", len(pcm), err)
	}
	_, _, _, err := ReadWAV(io.MultiReader(bytes.NewReader(file), endless{}))
	if !errors.Is(err, ErrWAV) {
		t.Errorf("endless data: got %v, want ErrWAV", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestWriteWAV(t *testing.T) {
	var b bytes.Buffer
	pcm := sine(24000, 440, 1, 1000)
	if err := WriteWAV(&b, 24000, 2, pcm); err != nil {
		t.Fatal(err)
	}
	rate, channels, got, err := ReadWAV(&b)
	if err != nil || rate != 24000 || channels != 2 || !slices.Equal(got, pcm) {
		t.Errorf("got %d Hz, %d channels, %d samples, %v", rate, channels, len(got), err)
	}
	for name, err := range map[string]error{
		"no channels": WriteWAV(&b, 8000, 0, pcm),
		"no rate":     WriteWAV(&b, 0, 1, pcm),
		"half a pair": WriteWAV(&b, 8000, 2, pcm[:3]),
	} {
		if err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
}

func FuzzReadWAV(f *testing.F) {
	f.Add(riff("fmt ", format(1, 2, 8000, 16), "data", "abcdefgh"))
	f.Add(riff("data", "abc", "fmt ", format(7, 1, 8000, 8)))
	f.Add(riff("LIST", "x", "fmt ", extensible(6), "data", "abcd"))
	f.Fuzz(func(t *testing.T, file []byte) {
		rate, channels, pcm, err := ReadWAV(bytes.NewReader(file))
		if err != nil {
			return
		}
		if len(pcm) > len(file) || len(pcm)%channels != 0 {
			t.Fatalf("%d samples in %d channels from %d bytes", len(pcm), channels, len(file))
		}
		var b bytes.Buffer
		if err := WriteWAV(&b, rate, channels, pcm); err != nil {
			t.Fatal(err)
		}
		if _, _, again, err := ReadWAV(&b); err != nil || !slices.Equal(again, pcm) {
			t.Fatalf("written and read again: %v", err)
		}
	})
}
