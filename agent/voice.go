package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
	"unicode/utf8"

	"parley/media"
)

// A Synthesizer is a vendor of text-to-speech, ready to be dialed.
type Synthesizer struct {
	Vendor string
	Model  string // the vendor's name of it, under which its use is counted
	// Voice names vendor, model and voice: fixed lines are cached under it.
	Voice string
	// PerMinute is how many clauses a minute the vendor takes. Near it, clauses
	// are joined. 0: any number.
	PerMinute int
	Breaker   *Breaker // nil: it is always asked
	// Dial returns at once. What it must connect, it connects meanwhile: the
	// first clause tells whether it could.
	Dial func(context.Context, Delivery) (TTS, error)
	// SSML says that it takes [Clause].SSML; others are given the text alone.
	SSML bool
}

// voice speaks clauses at the leg's rate. One goroutine uses it at a time.
type voice struct {
	vendors []Synthesizer
	rate    int
	cache   *SpeechCache
	meter   *meter

	mu      sync.Mutex // held while speaking: a turn may end while another begins
	roster  *roster
	current int      // index of the vendor that is open, if tts is not nil
	opened  Delivery // … and how it speaks
	tts     TTS
	cancel  context.CancelFunc // of tts's life
	toRate  *media.Resampler
	out     []int16
	trimmed []int16
	pace    []time.Duration // a character of each vendor's speech, as measured
	asked   []time.Time     // clauses of the last minute, of vendors that count them
}

const (
	// firstSpeech is when a vendor without a byte of speech is given up.
	firstSpeech = 2500 * time.Millisecond
	// stalledSpeech is the same for one that falls silent within a clause.
	stalledSpeech = 2500 * time.Millisecond
	// usualPace is a character's time in speech, until it was measured.
	usualPace = 65 * time.Millisecond
	// ttsRounds is how often each vendor is asked for a clause.
	ttsRounds = 2
)

// errSlow is a vendor that makes speech slower than it is heard.
var errSlow = errors.New("speech is made slower than it is heard")

func newVoice(vendors []Synthesizer, rate int, cache *SpeechCache, log *slog.Logger) *voice {
	v := &voice{vendors: vendors, rate: rate, cache: cache, roster: &roster{kind: "tts", log: log}}
	for _, s := range vendors {
		v.roster.list = append(v.roster.list, standing{vendor: s.Vendor, breaker: s.Breaker})
		v.pace = append(v.pace, usualPace)
	}
	return v
}

// spoken is a piece of speech at the leg's rate.
type spoken struct {
	pcm   []int16 // valid until the callback returns
	words []Word  // of the clause, from its first sample
	whole bool    // the clause is complete
}

// A saying is one clause on its way, whoever speaks it.
type saying struct {
	clause  Clause // what is left of it
	how     Delivery
	emit    func(spoken) error
	samples int64  // given to emit, at the leg's rate
	from    int64  // of them, by the vendors before
	words   []Word // of the vendor, not given yet: their audio is to come
	aligned int    // words of the vendor in all
	mixed   bool   // more than one vendor spoke
	keep    *spoken
}

// say gives the speech of a clause to emit, piece by piece. fixed lines are
// kept. A vendor that fails is replaced by the next, which says what is left of
// the clause from the word that was broken off, and all later ones.
func (v *voice) say(ctx context.Context, c Clause, how Delivery, fixed bool, emit func(spoken) error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := &saying{clause: c, how: how, emit: emit}
	if fixed {
		if s, ok := v.cached(ctx, c, how); ok {
			return emit(s)
		}
		s.keep = &spoken{}
	}
	try := v.roster.attempt(ttsRounds)
	for {
		i, pause, ok := try.next(time.Now())
		if !ok {
			return try.err()
		}
		if err := after(ctx, pause); err != nil {
			try.dropped(i)
			return err
		}
		err := v.trySay(ctx, i, s)
		var stop emitError
		switch {
		case err == nil || errors.Is(err, errSlow):
			try.served(i)
			v.roster.first = i
			if err != nil && try.others(i) { // it has spoken, but let another go on
				try.failed(i, err, time.Now())
				v.roster.first = (i + 1) % len(v.vendors)
			}
			return v.finish(i, c, s)
		case ctx.Err() != nil:
			try.dropped(i)
			return ctx.Err()
		case errors.As(err, &stop):
			try.dropped(i)
			return stop.err
		}
		try.failed(i, err, time.Now())
		v.hangUp()
		if v.cutOff(i, s) {
			return v.finish(i, c, s)
		}
	}
}

// finish tells that a clause is complete, and keeps it if it is to be kept.
func (v *voice) finish(i int, c Clause, s *saying) error {
	last := spoken{words: s.words, whole: true}
	if s.mixed && s.aligned == 0 {
		last.words = v.even(s.clause.Text, s.from, s.samples)
	}
	if s.keep != nil && !s.mixed {
		s.keep.words, s.keep.whole = append(s.keep.words, last.words...), true
		v.cache.put(v.keyOf(i, c, s.how), *s.keep)
	}
	return s.emit(last)
}

// cutOff takes what was said from what is left to say, after vendor i broke off.
// It reports whether nothing is left.
func (v *voice) cutOff(i int, s *saying) (whole bool) {
	length := s.samples - s.from
	if length == 0 {
		s.words = nil
		return false
	}
	ends, said := wordEnds(s.clause.Text), 0
	if s.aligned > 0 {
		said = s.aligned - len(s.words)
	} else {
		for _, e := range ends {
			if time.Duration(utf8.RuneCountInString(s.clause.Text[:e]))*v.pace[i] <= media.Duration(length, v.rate) {
				said++
			}
		}
	}
	if said = min(said, len(ends)); said > 0 {
		cut := ends[said-1]
		if s.aligned == 0 {
			s.words = v.even(s.clause.Text[:cut], s.from, s.samples)
			_ = s.emit(spoken{words: s.words})
		}
		s.clause.Text, s.clause.SSML = s.clause.Text[cut:], ""
	}
	s.mixed, s.from, s.words, s.aligned = true, s.samples, nil, 0
	return said == len(ends)
}

// even places words evenly between two samples, where no vendor has aligned them.
func (v *voice) even(text string, from, to int64) []Word {
	var words []Word
	at, begin := media.Duration(from, v.rate), 0
	length, chars := media.Duration(to-from, v.rate), time.Duration(max(1, utf8.RuneCountInString(text)))
	for _, e := range wordEnds(text) {
		end := media.Duration(from, v.rate) + length*time.Duration(utf8.RuneCountInString(text[:e]))/chars
		words = append(words, Word{Text: text[begin:e], Start: at, End: end})
		at, begin = end, e
	}
	return words
}

// emitError tells that it was not the vendor who failed.
type emitError struct{ err error }

func (e emitError) Error() string { return e.err.Error() }

// trySay has a vendor say what is left of a clause.
func (v *voice) trySay(ctx context.Context, i int, s *saying) (failure error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slow := time.AfterFunc(firstSpeech, func() {
		cancel(fmt.Errorf("%w: no speech in %v", ErrUnavailable, firstSpeech))
	})
	defer slow.Stop()
	if err := v.open(ctx, i, s.how); err != nil {
		return orCause(ctx, err)
	}
	if v.vendors[i].PerMinute > 0 {
		v.asked = append(v.asked, time.Now())
	}
	rate := v.tts.Rate()
	trim := media.NewLeadTrimmer(rate)
	var speed tempo
	var taken, given int64 // samples of the vendor, and left by the trimmer
	clause := s.clause
	if !v.vendors[i].SSML {
		clause.SSML = ""
	}
	defer func() {
		if asked(failure, int(taken)) {
			v.count(i, cmp.Or(clause.SSML, clause.Text), media.Duration(taken, rate))
		}
	}()
	for p, err := range v.tts.Say(ctx, clause) {
		if err != nil {
			return orCause(ctx, err)
		}
		slow.Stop()
		speed.made(media.Duration(int64(len(p.PCM)), rate), time.Now())
		v.trimmed = trim.Trim(v.trimmed[:0], p.PCM)
		taken, given = taken+int64(len(p.PCM)), given+int64(len(v.trimmed))
		if err := v.give(s, v.trimmed, shift(p.Words, media.Duration(s.from, v.rate)-media.Duration(taken-given, rate))); err != nil {
			return emitError{err}
		}
		speed.resume(time.Now())
		slow.Reset(stalledSpeech)
	}
	length := s.samples - s.from
	if length == 0 {
		return fmt.Errorf("%w: no speech for a clause", ErrProtocol)
	}
	if n := utf8.RuneCountInString(s.clause.Text); n >= 10 {
		v.pace[i] += (media.Duration(length, v.rate)/time.Duration(n) - v.pace[i]) / 4
	}
	if speed.slow() {
		return fmt.Errorf("%w: %w", ErrUnavailable, errSlow)
	}
	return nil
}

// count meters what vendor i was given and made of it.
func (v *voice) count(i int, text string, speech time.Duration) {
	by := v.vendors[i]
	v.meter.add(Use{Kind: UseCharacters, Vendor: by.Vendor, Model: by.Model, Amount: int64(utf8.RuneCountInString(text))})
	v.meter.add(Use{Kind: UseSpoken, Vendor: by.Vendor, Model: by.Model, Amount: speech.Milliseconds()})
}

// give hands a piece on at the leg's rate, with the words that it completes.
func (v *voice) give(s *saying, pcm []int16, words []Word) error {
	if v.toRate != nil {
		v.out = v.toRate.Process(v.out[:0], pcm)
		pcm = v.out
	}
	s.samples += int64(len(pcm))
	s.words, s.aligned = append(s.words, words...), s.aligned+len(words)
	n, at := 0, media.Duration(s.samples, v.rate)
	for n < len(s.words) && s.words[n].End <= at {
		n++
	}
	words, s.words = s.words[:n:n], s.words[n:]
	if s.keep != nil {
		s.keep.pcm, s.keep.words = append(s.keep.pcm, pcm...), append(s.keep.words, words...)
	}
	if len(pcm) == 0 && n == 0 {
		return nil
	}
	return s.emit(spoken{pcm: pcm, words: words})
}

// A tempo measures whether speech is made faster than it is heard. The time in
// which nobody asked for it does not count. It is pure.
type tempo struct {
	last  time.Time     // since when speech is waited for
	took  time.Duration // waited after the first piece
	speed time.Duration // of speech that came in that time
}

// tempoLeast is less time than says anything.
const tempoLeast = 500 * time.Millisecond

func (t *tempo) made(d time.Duration, now time.Time) {
	if !t.last.IsZero() {
		t.took += now.Sub(t.last)
		t.speed += d
	}
}

func (t *tempo) resume(now time.Time) { t.last = now }

func (t *tempo) slow() bool { return t.took > tempoLeast && t.speed < t.took }

// open dials a vendor if it is not open already.
func (v *voice) open(ctx context.Context, i int, how Delivery) error {
	if v.tts != nil && v.current == i && v.opened == how {
		if v.toRate != nil {
			v.toRate.Reset()
		}
		return nil
	}
	v.hangUp()
	// The connection outlives the clause that needed it first; the dial does not.
	life, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	dialing := context.AfterFunc(ctx, hangUp)
	tts, err := v.vendors[i].Dial(life, how)
	if !dialing() && err == nil {
		_ = tts.Close()
		err = ctx.Err()
	}
	if err != nil {
		hangUp()
		return err
	}
	v.current, v.opened, v.cancel, v.tts, v.toRate, v.asked = i, how, hangUp, tts, nil, nil
	if tts.Rate() != v.rate {
		if v.toRate, err = media.NewResampler(tts.Rate(), v.rate); err != nil {
			return fmt.Errorf("speech at %d Hz: %w: %w", tts.Rate(), ErrProtocol, err)
		}
	}
	return nil
}

// ready has the voice that will be asked first connect before it is needed.
func (v *voice) ready(ctx context.Context) {
	v.mu.Lock()
	defer v.mu.Unlock()
	try := v.roster.attempt(1)
	if i, _, ok := try.next(time.Now()); ok {
		try.dropped(i) // its first clause tells how it does
		_ = v.open(ctx, i, Delivery{})
	}
}

// warm prepares fixed lines, so that they start at once.
func (v *voice) warm(ctx context.Context, lines ...string) error {
	for _, l := range lines {
		if l == "" {
			continue
		}
		if err := v.say(ctx, Clause{Text: l, Last: true}, Delivery{}, true, func(spoken) error { return ctx.Err() }); err != nil {
			return err
		}
	}
	return nil
}

// prepared returns a fixed line's speech in any of the agent's voices. Unlike
// the other methods it never waits.
func (v *voice) prepared(text string) (spoken, bool) {
	for i := range v.vendors {
		if s, ok := v.cache.get(v.keyOf(i, Clause{Text: text}, Delivery{})); ok {
			return s, true
		}
	}
	return spoken{}, false
}

// cached is a fixed line's speech by the voice in use or those that would
// follow it, from this process or, made beforehand, from the store.
func (v *voice) cached(ctx context.Context, c Clause, how Delivery) (spoken, bool) {
	for i := v.roster.first; i < len(v.vendors); i++ {
		k := v.keyOf(i, c, how)
		if s, ok := v.cache.get(k); ok {
			return s, true
		}
		if s, ok := v.cache.load(ctx, k); ok {
			return s, true
		}
	}
	return spoken{}, false
}

// keyOf names a clause's speech by vendor i.
func (v *voice) keyOf(i int, c Clause, how Delivery) speechKey {
	k := speechKey{voice: v.vendors[i].Voice, how: how, rate: v.rate, text: c.Text}
	if v.vendors[i].SSML && c.SSML != "" {
		k.text = c.SSML
	}
	return k
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
