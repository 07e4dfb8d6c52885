package signalingtest

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"parley/media"
)

// A Tape keeps what a caller hears, and when. Add what [CarrierOptions.Heard]
// or [PeerOptions.Heard] gives, then ask what of known speech was heard: by the
// sound alone, whatever the gateway says. One goroutine uses it.
type Tape struct {
	Rate int // hertz

	pcm    []int16
	pieces []piece
}

type piece struct {
	at   time.Time // when its first sample sounds
	from int       // in pcm
	n    int
}

// Add takes a frame, which sounds from at on. Frames without sound may be left
// out.
func (t *Tape) Add(at time.Time, pcm []int16) {
	if len(pcm) > 0 {
		t.pieces = append(t.pieces, piece{at, len(t.pcm), len(pcm)})
		t.pcm = append(t.pcm, pcm...)
	}
}

// Since returns the part of the tape that sounds from at on: what was said
// before has words in common with what is looked for. It shares t's sound.
func (t *Tape) Since(at time.Time) *Tape {
	i, _ := slices.BinarySearchFunc(t.pieces, at, func(p piece, at time.Time) int { return p.at.Compare(at) })
	return &Tape{Rate: t.Rate, pcm: t.pcm, pieces: t.pieces[i:]}
}

// Speech is something that was said, with its words' true times in it.
type Speech struct {
	PCM   []int16 // at the tape's rate
	Words []Word
}

// A Word is a word's place in a Speech.
type Word struct {
	Text       string
	Start, End time.Duration
}

// A Hearing is what a tape holds of speech.
type Hearing struct {
	Words []HeardWord // of all the speech, in its order

	// To is how far from the beginning the speech was heard without a hole: a
	// place in all of it, laid end to end.
	To time.Duration

	// First and Last are when the first and the last of it sounded; zero if
	// nothing of it did.
	First, Last time.Time

	// Repeated is how much was heard more than once.
	Repeated time.Duration
}

// A HeardWord is a word and whether it was heard whole.
type HeardWord struct {
	Text  string
	End   time.Duration // its place in all the speech, laid end to end
	Heard bool
	At    time.Time // when its end sounded
}

// Text is the words that were heard whole, up to the first that was not.
func (h Hearing) Text() string {
	var words []string
	for _, w := range h.Words {
		if !w.Heard {
			break
		}
		words = append(words, w.Text)
	}
	return strings.Join(words, " ")
}

// edge is what a word may lack and still be whole: words blend.
const edge = 15 * time.Millisecond

// Hear finds speech, which was said in this order, on the tape.
func (t *Tape) Hear(speech ...Speech) Hearing {
	var all []int16
	var words []HeardWord
	for _, s := range speech {
		begin := media.Duration(int64(len(all)), t.Rate)
		for _, w := range s.Words {
			words = append(words, HeardWord{Text: w.Text, End: begin + w.End})
		}
		all = append(all, s.PCM...)
	}
	f := newFinder(t, all)
	f.search()
	h := Hearing{Words: words, First: f.first, Last: f.last, Repeated: media.Duration(int64(f.repeated), t.Rate)}
	h.To = media.Duration(int64(f.hole()), t.Rate)
	from := 0
	for i := range h.Words {
		w := &h.Words[i]
		end := min(int(media.Samples(max(0, w.End-edge), t.Rate)), len(f.covered)-1)
		w.Heard = end >= 0 && f.spans(from, end)
		if w.Heard {
			w.At = f.covered[end] // zero in a pause that nobody heard
		}
		from = max(from, end)
	}
	return h
}

// A finder lays the tape's frames on the speech.
type finder struct {
	tape     *Tape
	ref      []int16
	energy   []float64   // of ref, summed up to each sample
	step     int         // 5 ms
	outline  []float64   // loudness of ref, each step
	covered  []time.Time // when each sample of ref sounded first
	repeated int

	first, last time.Time
}

func newFinder(t *Tape, ref []int16) *finder {
	f := &finder{tape: t, ref: ref, covered: make([]time.Time, len(ref)), energy: energies(ref),
		step: int(media.Samples(5*time.Millisecond, t.Rate))}
	f.outline = f.loudness(ref)
	return f
}

// hole is where the first 60 ms of sound are that were not heard; pauses are no
// holes, nor is a packet that was lost or came too late.
func (f *finder) hole() int {
	missing := 0
	for at := range f.ref {
		if !f.missing(at) {
			missing = 0
		} else if missing++; missing == 12*f.step {
			return at + 1 - missing
		}
	}
	return len(f.ref) - missing
}

// missing reports that a sample was not heard, and is no pause.
func (f *finder) missing(at int) bool {
	if !f.covered[at].IsZero() {
		return false
	}
	n := min(4*f.step, len(f.ref))
	return f.rms(max(0, min(at-n/2, len(f.ref)-n)), n) >= quiet
}

// energies sums squares, so that any stretch's energy is a difference.
func energies(pcm []int16) []float64 {
	sum := make([]float64, len(pcm)+1)
	for i, s := range pcm {
		sum[i+1] = sum[i] + float64(s)*float64(s)
	}
	return sum
}

// spans reports that most of [from, to] was heard, and its end.
func (f *finder) spans(from, to int) bool {
	missing := 0
	for i := from; i <= to; i++ {
		if f.missing(i) {
			missing++
		}
	}
	return missing*10 <= 3*(to-from+1) && !f.missing(to)
}

const (
	sure    = 0.9 // correlation that finds a place
	goingOn = 0.5 // that does not lose it
	quiet   = 100 // rms of a pause
)

func (f *finder) search() {
	at := -1 // where the next frame is expected in ref; -1: anywhere
	for i, p := range f.tape.pieces {
		if i > 0 && !f.tape.follows(i) {
			at = -1
		}
		frame := f.tape.pcm[p.from : p.from+p.n]
		level := rms(frame)
		place := -1
		switch {
		case at >= 0 && at+p.n <= len(f.ref) && (f.match(frame, at) >= goingOn || level < quiet && f.rms(at, p.n) < 2*quiet):
			place = at
		case at >= 0:
			place, _ = f.best(f.window(i), at-4*f.step, at+4*f.step)
		}
		if place < 0 && level >= quiet {
			place = f.anywhere(f.window(i))
		}
		if place < 0 {
			if level >= quiet {
				at = -1 // something else is heard
			}
			continue
		}
		f.cover(p, place)
		at = place + p.n
	}
}

// follows reports that a piece sounds right behind the one before it.
func (t *Tape) follows(i int) bool {
	before := t.pieces[i-1]
	gap := t.pieces[i].at.Sub(before.at.Add(media.Duration(int64(before.n), t.Rate)))
	return gap < media.Ptime
}

// window is what is looked for: the sound from a piece on, which is long enough
// that no other voiced sound of the same pitch is alike. Nil: there is too little.
func (f *finder) window(i int) []int16 {
	from, n := f.tape.pieces[i].from, 0
	for ; i < len(f.tape.pieces) && n < 32*f.step; i++ {
		if n > 0 && !f.tape.follows(i) {
			break
		}
		n += f.tape.pieces[i].n
	}
	if n < 16*f.step {
		return nil
	}
	return f.tape.pcm[from : from+n]
}

// best returns the surest place of sound in [from, to], -1 if none is sure.
func (f *finder) best(sound []int16, from, to int) (found int, surest float64) {
	surest, found = sure, -1
	if len(sound) == 0 {
		return found, 0
	}
	for at := max(0, from); at <= min(to, len(f.ref)-len(sound)); at++ {
		if c := f.match(sound, at); c > surest {
			surest, found = c, at
		}
	}
	return found, surest
}

// anywhere looks where the loudness rises and falls as that of sound does.
func (f *finder) anywhere(sound []int16) int {
	const tries = 12
	if len(sound) == 0 {
		return -1
	}
	type candidate struct {
		at    int
		alike float64
	}
	shape := f.loudness(sound)
	var likely []candidate
	for at := 0; at+len(shape) <= len(f.outline); at++ {
		if a := alike(shape, f.outline[at:at+len(shape)]); a > sure {
			likely = append(likely, candidate{at, a})
		}
	}
	slices.SortFunc(likely, func(a, b candidate) int { return cmp.Compare(b.alike, a.alike) })
	found, surest := -1, 0.0
	for _, c := range likely[:min(tries, len(likely))] {
		if at, s := f.best(sound, (c.at-1)*f.step, (c.at+1)*f.step); at >= 0 && s > surest {
			found, surest = at, s
		}
	}
	return found
}

// loudness is the logarithm of the level of each step of pcm.
func (f *finder) loudness(pcm []int16) []float64 {
	out := make([]float64, len(pcm)/f.step)
	for i := range out {
		out[i] = math.Log(20 + rms(pcm[i*f.step:(i+1)*f.step]))
	}
	return out
}

// alike is the correlation of two shapes about their means.
func alike(a, b []float64) float64 {
	var meanA, meanB, dot, aa, bb float64
	for i := range a {
		meanA, meanB = meanA+a[i], meanB+b[i]
	}
	meanA, meanB = meanA/float64(len(a)), meanB/float64(len(a))
	for i := range a {
		x, y := a[i]-meanA, b[i]-meanB
		dot, aa, bb = dot+x*y, aa+x*x, bb+y*y
	}
	if aa == 0 || bb == 0 {
		return 0
	}
	return dot / math.Sqrt(aa*bb)
}

// match is the normalized correlation of a frame with ref at a place.
func (f *finder) match(frame []int16, at int) float64 {
	var dot, own int64
	ref := f.ref[at : at+len(frame)]
	for i, s := range frame {
		dot += int64(s) * int64(ref[i])
		own += int64(s) * int64(s)
	}
	e := f.energy[at+len(frame)] - f.energy[at]
	if dot <= 0 || e == 0 || own == 0 {
		return 0
	}
	return float64(dot) / math.Sqrt(e*float64(own))
}

func (f *finder) rms(at, n int) float64 {
	return math.Sqrt((f.energy[at+n] - f.energy[at]) / float64(n))
}

func (f *finder) cover(p piece, place int) {
	if f.first.IsZero() {
		f.first = p.at
	}
	for i := range p.n {
		if !f.covered[place+i].IsZero() {
			f.repeated++
			continue
		}
		f.covered[place+i] = p.at.Add(media.Duration(int64(i), f.tape.Rate))
	}
	f.last = p.at.Add(media.Duration(int64(p.n), f.tape.Rate))
}

func rms(pcm []int16) float64 {
	var sum float64
	for _, s := range pcm {
		sum += float64(s) * float64(s)
	}
	return math.Sqrt(sum / float64(max(1, len(pcm))))
}
