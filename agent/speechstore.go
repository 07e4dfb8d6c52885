package agent

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"parley/media"
)

// A SpeechStore keeps the speech of fixed lines beyond the process. Keys are 64
// hexadecimal digits.
type SpeechStore interface {
	// LoadSpeech returns what was saved; any error means that there is nothing.
	LoadSpeech(ctx context.Context, key string) ([]byte, error)
	SaveSpeech(ctx context.Context, key string, data []byte) error
}

const (
	// storedRate is that of stored speech, in hertz: all legs' rates are easy to
	// make of it.
	storedRate = 24000
	// loadPatience is how long a caller waits for stored speech, rather than for
	// a vendor's.
	loadPatience = 100 * time.Millisecond
	// maxStored bounds one line's stored speech, in bytes: 60 s.
	maxStored = 60 * storedRate * 2
)

// stored names a line's speech at any rate.
func (k speechKey) stored() string {
	b, _ := json.Marshal([]any{k.voice, k.how.Voice, k.how.Rate, k.text}) // plain values
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// load takes a line's speech from the store.
func (c *SpeechCache) load(ctx context.Context, k speechKey) (spoken, bool) {
	if c == nil || c.Store == nil {
		return spoken{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, loadPatience)
	defer cancel()
	data, err := c.Store.LoadSpeech(ctx, k.stored())
	if err != nil {
		return spoken{}, false
	}
	s, err := decodeSpeech(data, k.rate)
	if err != nil {
		return spoken{}, false
	}
	c.put(k, s)
	return s, true
}

// encodeSpeech writes speech at storedRate: the length of the words' JSON, that
// JSON, and 16-bit samples.
func encodeSpeech(s spoken) ([]byte, error) {
	words, err := json.Marshal(s.words)
	if err != nil {
		return nil, err
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(words)))
	b = append(b, words...)
	for _, v := range s.pcm {
		b = binary.LittleEndian.AppendUint16(b, uint16(v))
	}
	return b, nil
}

var errStored = errors.New("stored speech is damaged")

func decodeSpeech(b []byte, rate int) (spoken, error) {
	if len(b) < 4 || len(b) > 2*maxStored {
		return spoken{}, errStored
	}
	n := int64(binary.LittleEndian.Uint32(b))
	if b = b[4:]; n > int64(len(b)) {
		return spoken{}, errStored
	}
	s := spoken{whole: true}
	if err := json.Unmarshal(b[:n], &s.words); err != nil {
		return spoken{}, errStored
	}
	b = b[n:]
	s.pcm = make([]int16, len(b)/2)
	for i := range s.pcm {
		s.pcm[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
	}
	if rate != storedRate {
		r, err := media.NewResampler(storedRate, rate)
		if err != nil {
			return spoken{}, err
		}
		s.pcm = r.Process(nil, s.pcm)
	}
	return s, nil
}

// HouseLines are what sessions in a language say of themselves, such as when all
// vendors fail.
func HouseLines(language string) []Fixed {
	var out []Fixed
	for _, text := range []string{holdLine(language), defaultApology, limitNotice, drainNotice} {
		out = append(out, Fixed{Text: text})
	}
	return out
}

// A Fixed is a line that is always spoken the same.
type Fixed struct {
	Text, SSML string
	How        Delivery
}

// Prerender makes the speech of fixed lines beforehand, in the first of the
// voices that serves, and saves it in the cache's store; what is there already
// is not made again. It returns how many it made, and the first error of a line
// that no voice would speak; the others are made nonetheless.
func (c *SpeechCache) Prerender(ctx context.Context, voices []Synthesizer, lines []Fixed, log *slog.Logger) (made int, err error) {
	if c.Store == nil || len(voices) == 0 {
		return 0, nil
	}
	v := newVoice(voices, storedRate, nil, log)
	defer v.close()
	for _, l := range lines {
		if ctx.Err() != nil {
			return made, ctx.Err()
		}
		ok, e := c.prerender(ctx, v, l)
		if ok {
			made++
		}
		if e != nil && err == nil {
			err = fmt.Errorf("prepare %q: %w", l.Text, e)
		}
	}
	return made, err
}

func (c *SpeechCache) prerender(ctx context.Context, v *voice, l Fixed) (bool, error) {
	clause := Clause{Text: Speakable(l.Text), SSML: l.SSML, Last: true}
	if clause.Text == "" {
		return false, nil
	}
	if _, err := c.Store.LoadSpeech(ctx, v.keyOf(0, clause, l.How).stored()); err == nil {
		return false, nil
	}
	whole := spoken{whole: true}
	err := v.say(ctx, clause, l.How, false, func(s spoken) error {
		whole.pcm, whole.words = append(whole.pcm, s.pcm...), append(whole.words, s.words...)
		return ctx.Err()
	})
	if err != nil {
		return false, err
	}
	if 2*len(whole.pcm) > maxStored {
		return false, nil // made as it is needed
	}
	b, err := encodeSpeech(whole)
	if err != nil {
		return false, err
	}
	// By whom it was spoken: another than the first serves while that one fails,
	// and is no substitute for it later.
	return true, c.Store.SaveSpeech(ctx, v.keyOf(v.roster.first, clause, l.How).stored(), b)
}
