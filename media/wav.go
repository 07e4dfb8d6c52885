package media

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Formats of a WAV file (Microsoft, Multimedia Programming Interface and Data
// Specifications 1.0, and mmreg.h).
const (
	wavPCM        = 1
	wavPCMA       = 6
	wavPCMU       = 7
	wavExtensible = 0xfffe // the true format is in the first bytes of the sub-format
)

const (
	wavMostChannels = 8
	wavMostRate     = 384000
	wavMostData     = 64 << 20 // bytes of audio that ReadWAV takes
	wavMostFormat   = 1 << 10  // bytes of a format chunk
	wavUnknownSize  = 0xffffffff
)

// ErrWAV is wrapped by errors of [ReadWAV] about what the file holds.
var ErrWAV = errors.New("not a WAV file that can be read")

// ReadWAV reads a RIFF WAVE file of 16-bit PCM, µ-law or A-law: its rate, the
// number of channels, and the samples, channels interleaved. The chunks may
// stand in any order, and others are skipped. A file that ends early, as of a
// program that died or a stream of unknown length, gives what there is, in
// whole sample frames.
//
// It refuses more than 8 channels, 384 kHz or 64 MiB of audio, and reads no
// further than the chunks it needs.
func ReadWAV(r io.Reader) (rate, channels int, pcm []int16, err error) { return readWAV(r, false) }

// ReadCutWAV is ReadWAV of a file that its writer did not live to finish: the
// audio goes on to the file's end, whatever its header says.
func ReadCutWAV(r io.Reader) (rate, channels int, pcm []int16, err error) { return readWAV(r, true) }

func readWAV(r io.Reader, cut bool) (rate, channels int, pcm []int16, err error) {
	var head [12]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, 0, nil, fmt.Errorf("read wav header: %w", wavEnd(err))
	}
	if string(head[:4]) != "RIFF" || string(head[8:]) != "WAVE" {
		return 0, 0, nil, fmt.Errorf("read wav header: %w", ErrWAV)
	}
	var format *wavFormat
	var data []byte
	for format == nil || data == nil {
		id, size, err := readChunk(r)
		if err != nil {
			return 0, 0, nil, err
		}
		switch id {
		case "fmt ":
			format, err = readWAVFormat(r, size)
		case "data":
			if cut {
				size = wavUnknownSize
			}
			data, err = readWAVData(r, size)
		default:
			err = skipChunk(r, size)
		}
		if err != nil {
			return 0, 0, nil, err
		}
	}
	return format.rate, format.channels, format.decode(data), nil
}

type wavFormat struct {
	tag, channels, rate int
}

func readChunk(r io.Reader) (id string, size uint32, err error) {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return "", 0, fmt.Errorf("read wav chunk: %w", wavEnd(err))
	}
	return string(b[:4]), binary.LittleEndian.Uint32(b[4:]), nil
}

// skipChunk passes over a chunk and the byte that pads an odd one.
func skipChunk(r io.Reader, size uint32) error {
	if _, err := io.CopyN(io.Discard, r, int64(size)+int64(size&1)); err != nil {
		return fmt.Errorf("skip wav chunk: %w", wavEnd(err))
	}
	return nil
}

func readWAVFormat(r io.Reader, size uint32) (*wavFormat, error) {
	if size < 16 || size > wavMostFormat {
		return nil, fmt.Errorf("wav format chunk of %d bytes: %w", size, ErrWAV)
	}
	b := make([]byte, size+size&1)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("read wav format: %w", wavEnd(err))
	}
	tag := int(binary.LittleEndian.Uint16(b))
	if tag == wavExtensible && size >= 40 {
		tag = int(binary.LittleEndian.Uint16(b[24:]))
	}
	channels := int(binary.LittleEndian.Uint16(b[2:]))
	rate := binary.LittleEndian.Uint32(b[4:])
	bits := int(binary.LittleEndian.Uint16(b[14:]))
	if channels < 1 || channels > wavMostChannels || rate < 1 || rate > wavMostRate {
		return nil, fmt.Errorf("wav of %d channels at %d Hz: %w", channels, rate, ErrWAV)
	}
	if tag != wavPCM && tag != wavPCMA && tag != wavPCMU || tag == wavPCM && bits != 16 || tag != wavPCM && bits != 8 {
		return nil, fmt.Errorf("wav format %d of %d bits: %w", tag, bits, ErrWAV)
	}
	return &wavFormat{tag: tag, channels: channels, rate: int(rate)}, nil
}

// readWAVData grows with what arrives, whatever size the file claims.
func readWAVData(r io.Reader, size uint32) ([]byte, error) {
	limit := int64(size)
	if size == wavUnknownSize {
		limit = wavMostData + 1
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(io.LimitReader(r, min(limit, wavMostData+1))); err != nil {
		return nil, fmt.Errorf("read wav data: %w", err)
	}
	if b.Len() > wavMostData {
		return nil, fmt.Errorf("wav data over %d bytes: %w", wavMostData, ErrWAV)
	}
	if size&1 == 1 && int64(b.Len()) == limit {
		_, _ = io.CopyN(io.Discard, r, 1) // the pad, if the file does not end here
	}
	return b.Bytes()[:b.Len():b.Len()], nil
}

func (f *wavFormat) decode(data []byte) []int16 {
	switch f.tag {
	case wavPCMU:
		return DecodePCMU(nil, data[:len(data)-len(data)%f.channels])
	case wavPCMA:
		return DecodePCMA(nil, data[:len(data)-len(data)%f.channels])
	}
	pcm := make([]int16, len(data)/(2*f.channels)*f.channels)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(data[2*i:]))
	}
	return pcm
}

// wavEnd tells a file that ends too soon from a reader that fails.
func wavEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrWAV
	}
	return err
}

// WriteWAV writes pcm, channels interleaved, as a WAV file of 16-bit PCM.
func WriteWAV(w io.Writer, rate, channels int, pcm []int16) error {
	if channels < 1 || channels > wavMostChannels || rate < 1 || rate > wavMostRate || len(pcm)%channels != 0 {
		return fmt.Errorf("write wav: %d samples in %d channels at %d Hz", len(pcm), channels, rate)
	}
	if int64(len(pcm)) > (wavUnknownSize-wavHeaderSize-1)/2 {
		return fmt.Errorf("write wav: %w", ErrRecordingFull)
	}
	b := make([]byte, 0, wavHeaderSize+2*len(pcm))
	b = appendWAVHeader(b, wavPCM, rate, channels, uint32(2*len(pcm)))
	b = appendPCM(b, pcm)
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write wav: %w", err)
	}
	return nil
}

// wavHeaderSize is that of appendWAVHeader.
const wavHeaderSize = 58

// appendWAVHeader writes all that stands before dataSize bytes of audio. The
// format chunk has its extension size and the fact chunk is there, because
// formats other than PCM must have them; for PCM they do no harm.
func appendWAVHeader(b []byte, tag, rate, channels int, dataSize uint32) []byte {
	width := 2
	if tag != wavPCM {
		width = 1
	}
	block := channels * width
	le := binary.LittleEndian
	b = append(b, "RIFF"...)
	b = le.AppendUint32(b, wavHeaderSize-8+dataSize)
	b = append(b, "WAVEfmt "...)
	b = le.AppendUint32(b, 18)
	b = le.AppendUint16(b, uint16(tag))
	b = le.AppendUint16(b, uint16(channels))
	b = le.AppendUint32(b, uint32(rate))
	b = le.AppendUint32(b, uint32(rate*block))
	b = le.AppendUint16(b, uint16(block))
	b = le.AppendUint16(b, uint16(8*width))
	b = le.AppendUint16(b, 0)
	b = append(b, "fact"...)
	b = le.AppendUint32(b, 4)
	b = le.AppendUint32(b, dataSize/uint32(block))
	b = append(b, "data"...)
	return le.AppendUint32(b, dataSize)
}

func appendPCM(b []byte, pcm []int16) []byte {
	for _, s := range pcm {
		b = binary.LittleEndian.AppendUint16(b, uint16(s))
	}
	return b
}

// AppendStreamHeader appends the head of a µ-law WAV file whose length nobody
// knows yet, as of a stream that is listened to while it is made.
func AppendStreamHeader(b []byte, rate, channels int) []byte {
	return appendWAVHeader(b, wavPCMU, rate, channels, wavUnknownSize-wavHeaderSize)
}
