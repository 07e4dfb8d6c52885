package agent

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"parley/media"
)

// A Synthesizer is a vendor of text-to-speech, ready to be dialed.
type Synthesizer struct {
	Vendor string
	// Voice names vendor, model and voice: fixed lines are cached under it.
	Voice string
	Dial  func(context.Context) (TTS, error)
}

// voice speaks clauses at the leg's rate. One goroutine uses it at a time.
type voice struct {
	vendors []Synthesizer
	rate    int
	cache   *SpeechCache
	log     *slog.Logger

	mu      sync.Mutex // held while speaking: a turn may end while another begins
	current int        // index of the vendor in use
	tts     TTS
	cancel  context.CancelFunc // of tts's life
	toRate  *media.Resampler
	out     []int16
	trimmed []int16
}

const (
	// firstSpeech is when a vendor without a byte of speech is given up.
	firstSpeech = 2500 * time.Millisecond
	// stalledSpeech is the same for one that falls silent within a clause.
	stalledSpeech = 2500 * time.Millisecond
)

// spoken is a piece of speech at the leg's rate.
type spoken struct {
	pcm   []int16 // valid until the callback returns
	words []Word  // of the clause, from its first sample
	whole bool    // the clause is complete
}

// say gives the speech of a clause to emit, piece by piece. fixed lines are
// kept. A vendor that fails before its first byte is replaced by the next; one
// that dies in a clause loses the clause's rest, and is replaced for later ones.
func (v *voice) say(ctx context.Context, c Clause, fixed bool, emit func(spoken) error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if fixed {
		if s, ok := v.cached(c.Text); ok {
			return emit(s)
		}
	}
	var errs []error
	for v.current < len(v.vendors) {
		name := v.vendors[v.current].Vendor
		began, err := v.trySay(ctx, c, fixed, emit)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var stop emitError
		if errors.As(err, &stop) {
			return stop.err
		}
		providerFailures.WithLabelValues("tts", name, failureWord(err)).Inc()
		v.log.Warn("speech failed", "vendor", name, "err", err)
		errs = append(errs, fmt.Errorf("%s: %w", name, err))
		v.hangUp()
		v.current++
		if began {
			return nil // half a clause was said: do not say it twice
		}
	}
	return errors.Join(append(errs, fmt.Errorf("%w: no voice is left", ErrUnavailable))...)
}

// emitError tells that it was not the vendor who failed.
type emitError struct{ err error }

func (e emitError) Error() string { return e.err.Error() }

// trySay says a clause by the current vendor. began tells whether audio came.
func (v *voice) trySay(ctx context.Context, c Clause, fixed bool, emit func(spoken) error) (began bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slow := time.AfterFunc(firstSpeech, func() {
		cancel(fmt.Errorf("%w: no speech in %v", ErrUnavailable, firstSpeech))
	})
	defer slow.Stop()
	if err := v.dial(ctx); err != nil {
		return false, orCause(ctx, err)
	}
	var keep spoken
	var taken, given int // samples of the vendor, and left by the trimmer
	trim := media.NewLeadTrimmer(v.tts.Rate())
	for s, err := range v.tts.Say(ctx, c) {
		if err != nil {
			return began, orCause(ctx, err)
		}
		slow.Stop()
		v.trimmed = trim.Trim(v.trimmed[:0], s.PCM)
		taken, given = taken+len(s.PCM), given+len(v.trimmed)
		pcm := v.trimmed
		if v.toRate != nil {
			v.out = v.toRate.Process(v.out[:0], pcm)
			pcm = v.out
		}
		words := shift(s.Words, -media.Duration(int64(taken-given), v.tts.Rate()))
		began = began || len(pcm) > 0
		if fixed {
			keep.pcm = append(keep.pcm, pcm...)
			keep.words = append(keep.words, words...)
		}
		if len(pcm) > 0 || len(words) > 0 {
			if err := emit(spoken{pcm: pcm, words: words}); err != nil {
				return began, emitError{err}
			}
		}
		slow.Reset(stalledSpeech)
	}
	if !began {
		return false, fmt.Errorf("%w: no speech for a clause", ErrProtocol)
	}
	keep.whole = true
	if fixed {
		v.cache.put(v.key(c.Text), keep)
	}
	if err := emit(spoken{whole: true}); err != nil {
		return true, emitError{err}
	}
	return true, nil
}

// dial opens the current vendor if it is not open.
func (v *voice) dial(ctx context.Context) error {
	if v.tts != nil {
		v.reset()
		return nil
	}
	if len(v.vendors) == 0 {
		return fmt.Errorf("%w: the agent has no voice", ErrUnavailable)
	}
	// The connection outlives the clause that needed it first; the dial does not.
	life, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	dialing := context.AfterFunc(ctx, hangUp)
	tts, err := v.vendors[v.current].Dial(life)
	if !dialing() && err == nil {
		_ = tts.Close()
		err = ctx.Err()
	}
	if err != nil {
		hangUp()
		return err
	}
	v.cancel = hangUp
	v.tts, v.toRate = tts, nil
	if tts.Rate() != v.rate {
		if v.toRate, err = media.NewResampler(tts.Rate(), v.rate); err != nil {
			return fmt.Errorf("speech at %d Hz: %w", tts.Rate(), err)
		}
	}
	return nil
}

func (v *voice) reset() {
	if v.toRate != nil {
		v.toRate.Reset()
	}
}

// warm opens the voice and prepares fixed lines, so that they start at once.
func (v *voice) warm(ctx context.Context, lines ...string) error {
	for _, l := range lines {
		if l == "" {
			continue
		}
		if err := v.say(ctx, Clause{Text: l, Last: true}, true, func(spoken) error { return ctx.Err() }); err != nil {
			return err
		}
	}
	return nil
}

// prepared returns a fixed line's speech in any of the agent's voices. Unlike
// the other methods it never waits.
func (v *voice) prepared(text string) (spoken, bool) {
	for i := range v.vendors {
		if s, ok := v.cache.get(v.keyOf(i, text)); ok {
			return s, true
		}
	}
	return spoken{}, false
}

// cached is prepared for the voices that are still in use.
func (v *voice) cached(text string) (spoken, bool) {
	for i := v.current; i < len(v.vendors); i++ {
		if s, ok := v.cache.get(v.keyOf(i, text)); ok {
			return s, true
		}
	}
	return spoken{}, false
}

func (v *voice) key(text string) speechKey { return v.keyOf(v.current, text) }

func (v *voice) keyOf(i int, text string) speechKey {
	return speechKey{voice: v.vendors[i].Voice, rate: v.rate, text: text}
}

func (v *voice) hangUp() {
	if v.tts != nil {
		_ = v.tts.Close()
		v.cancel()
		v.tts = nil
	}
}

// close releases the vendor's connection, after the clause that is being said.
func (v *voice) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hangUp()
}

func orCause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil && errors.Is(c, ErrUnavailable) {
		return c
	}
	return err
}

func shift(words []Word, d time.Duration) []Word {
	if d == 0 {
		return words
	}
	out := make([]Word, len(words))
	for i, w := range words {
		out[i] = Word{Text: w.Text, Start: max(0, w.Start+d), End: max(0, w.End+d)}
	}
	return out
}

// A SpeechCache keeps the speech of fixed lines (greetings, prompts, the
// apology) over calls, by voice and text. It is safe for concurrent use.
type SpeechCache struct {
	// Limit bounds the audio held, in samples. Default 16 million: 32 MiB.
	Limit int

	mu      sync.Mutex
	entries map[speechKey]*list.Element
	order   list.List // of cacheEntry, latest first
	samples int
}

type speechKey struct {
	voice string
	rate  int
	text  string
}

type cacheEntry struct {
	key speechKey
	spoken
}

func (c *SpeechCache) get(k speechKey) (spoken, bool) {
	if c == nil {
		return spoken{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[k]
	if !ok {
		return spoken{}, false
	}
	c.order.MoveToFront(e)
	return e.Value.(cacheEntry).spoken, true
}

func (c *SpeechCache) put(k speechKey, s spoken) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	limit := c.Limit
	if limit == 0 {
		limit = 16 << 20
	}
	if c.entries == nil {
		c.entries = make(map[speechKey]*list.Element)
	}
	if _, ok := c.entries[k]; ok || len(s.pcm) > limit {
		return
	}
	c.entries[k] = c.order.PushFront(cacheEntry{k, s})
	c.samples += len(s.pcm)
	for c.samples > limit {
		last := c.order.Back()
		e := c.order.Remove(last).(cacheEntry)
		c.samples -= len(e.pcm)
		delete(c.entries, e.key)
	}
}
