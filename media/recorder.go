package media

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// ErrRecordingFull says that a WAV file cannot grow any more: its sizes have 32
// bits. A stereo µ-law recording gets there after 74 hours.
var ErrRecordingFull = errors.New("media: recording has reached 4 GiB")

// recorderBuffer is how much audio waits before it is written: 2 s of a phone
// call. The disk is touched that rarely, and that much is lost if the process
// dies.
const recorderBuffer = 32 << 10

// A Recorder streams a call into a stereo WAV file on one clock: the caller
// left, the agent right. At 8 kHz it stores µ-law (WAVE format 7), which loses
// nothing of a phone call, else 16-bit PCM.
//
// What is written is a whole, valid file after every flush, so that a process
// that dies leaves a playable recording. A Recorder is used by one goroutine.
type Recorder struct {
	w      io.WriteSeeker
	base   int64 // where the file begins in w
	tag    int
	rate   int
	single bool    // one channel: the caller's
	pairs  []int16 // interleaved
	buf    []byte
	stored uint32 // bytes of audio in w
	err    error  // the first failure: the file's end is unknown after it
}

// NewRecorder writes the header of an empty recording at w's position and
// returns a Recorder for audio at rate, one of the rates of [NewResampler], or
// [ErrRate]. The caller closes w after [Recorder.Close].
func NewRecorder(w io.WriteSeeker, rate int) (*Recorder, error) { return newRecorder(w, rate, false) }

// NewMessageRecorder is NewRecorder for one channel: [Recorder.WriteOne].
func NewMessageRecorder(w io.WriteSeeker, rate int) (*Recorder, error) {
	return newRecorder(w, rate, true)
}

func newRecorder(w io.WriteSeeker, rate int, single bool) (*Recorder, error) {
	if !slices.Contains(resampleRates, rate) {
		return nil, fmt.Errorf("record at %d Hz: %w", rate, ErrRate)
	}
	base, err := w.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, fmt.Errorf("start recording: %w", err)
	}
	r := &Recorder{w: w, base: base, tag: wavPCM, rate: rate, single: single, buf: make([]byte, 0, recorderBuffer)}
	if rate == 8000 {
		r.tag = wavPCMU
	}
	if err := r.writeHeader(); err != nil {
		return nil, fmt.Errorf("start recording: %w", err)
	}
	return r, nil
}

// Write appends what both parties heard in the same stretch of time; the two
// must be of equal length, a frame as a rule. It keeps neither. After an error
// of w, which it returns again and again, nothing more is recorded; after
// [ErrRecordingFull] the file is whole.
func (r *Recorder) Write(caller, agent []int16) error {
	if r.err != nil {
		return r.err
	}
	if len(caller) != len(agent) {
		return fmt.Errorf("record %d samples of the caller with %d of the agent", len(caller), len(agent))
	}
	r.pairs = r.pairs[:0]
	for i, s := range caller {
		r.pairs = append(r.pairs, s, agent[i])
	}
	return r.append(r.pairs)
}

// WriteOne appends what a recorder of one channel records; otherwise as Write.
func (r *Recorder) WriteOne(pcm []int16) error {
	if r.err != nil {
		return r.err
	}
	return r.append(pcm)
}

func (r *Recorder) append(pairs []int16) error {
	for len(pairs) > 0 {
		n := min(len(pairs), (cap(r.buf)-len(r.buf))/r.width())
		if r.tag == wavPCMU {
			r.buf = EncodePCMU(r.buf, pairs[:n])
		} else {
			r.buf = appendPCM(r.buf, pairs[:n])
		}
		pairs = pairs[n:]
		if len(r.buf) == cap(r.buf) {
			if err := r.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Size is how long the file is, in bytes, once all of it is written.
func (r *Recorder) Size() int64 { return wavHeaderSize + int64(r.stored) + int64(len(r.buf)) }

// Length is how much of the call there is.
func (r *Recorder) Length() time.Duration {
	return Duration((int64(r.stored)+int64(len(r.buf)))/int64(r.width()*r.channels()), r.rate)
}

// Close writes what is still buffered. It does not close w. Closing again is
// harmless and writing after it returns [ErrClosed].
func (r *Recorder) Close() error {
	if errors.Is(r.err, ErrClosed) {
		return nil
	}
	if r.err != nil {
		return r.err
	}
	if err := r.flush(); err != nil {
		return err
	}
	r.err = fmt.Errorf("record: %w", ErrClosed)
	return nil
}

func (r *Recorder) channels() int {
	if r.single {
		return 1
	}
	return 2
}

func (r *Recorder) width() int {
	if r.tag == wavPCMU {
		return 1
	}
	return 2
}

// flush appends the buffer, then corrects the header. Between the two the file
// is valid as well: it ends earlier and something follows.
func (r *Recorder) flush() error {
	if int64(r.stored)+int64(len(r.buf)) > wavUnknownSize-wavHeaderSize {
		r.err = ErrRecordingFull
		return r.err
	}
	if len(r.buf) > 0 {
		if _, err := r.w.Write(r.buf); err != nil {
			r.err = fmt.Errorf("write recording: %w", err)
			return r.err
		}
		r.stored += uint32(len(r.buf))
		r.buf = r.buf[:0]
	}
	if _, err := r.w.Seek(r.base, io.SeekStart); err != nil {
		r.err = fmt.Errorf("write recording: %w", err)
		return r.err
	}
	if err := r.writeHeader(); err != nil {
		r.err = fmt.Errorf("write recording: %w", err)
		return r.err
	}
	if _, err := r.w.Seek(r.base+wavHeaderSize+int64(r.stored), io.SeekStart); err != nil {
		r.err = fmt.Errorf("write recording: %w", err)
	}
	return r.err
}

func (r *Recorder) writeHeader() error {
	_, err := r.w.Write(appendWAVHeader(make([]byte, 0, wavHeaderSize), r.tag, r.rate, r.channels(), r.stored))
	return err
}
