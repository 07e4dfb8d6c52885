package media

import (
	"fmt"
	"math"
	"math/cmplx"
	"strings"
	"time"
)

// Frequencies of the keys (ITU-T Q.23) and where the keys stand.
var (
	toneRows    = [4]float64{697, 770, 852, 941}
	toneColumns = [4]float64{1209, 1336, 1477, 1633}
)

const toneKeys = "123A456B789C*0#D"

const (
	toneOn    = 100 * time.Millisecond // Q.24 asks for 40 ms; networks like more
	toneOff   = 100 * time.Millisecond
	toneFade  = 3 * time.Millisecond
	toneLevel = 0.4 // -8 dBFS a tone: the two together cannot clip
)

// Tones returns the sound of digits (0-9 * # A-D, letters of either case) at
// rate: each for 100 ms at -8 dBFS a tone, with 100 ms of silence after it.
func Tones(digits string, rate int) ([]int16, error) {
	if rate < 8000 || rate > wavMostRate {
		return nil, fmt.Errorf("tones at %d Hz: %w", rate, ErrRate)
	}
	on, off := int(Samples(toneOn, rate)), int(Samples(toneOff, rate))
	pcm := make([]int16, 0, len(digits)*(on+off))
	for i := range len(digits) {
		key := strings.IndexByte(toneKeys, upperDigit(digits[i]))
		if key < 0 {
			return nil, fmt.Errorf("no tone for %q", digits[i])
		}
		row := 2 * math.Pi * toneRows[key/4] / float64(rate)
		column := 2 * math.Pi * toneColumns[key%4] / float64(rate)
		start := len(pcm)
		pcm = pcm[:start+on]
		for n := range on {
			s := math.Sin(row*float64(n)) + math.Sin(column*float64(n))
			pcm[start+n] = int16(math.Round(math.MaxInt16 * toneLevel * s))
		}
		fade := int(Samples(toneFade, rate))
		Fade(pcm[start:], fade, true)
		Fade(pcm[start:], fade, false)
		pcm = append(pcm, make([]int16, off)...)
	}
	return pcm, nil
}

func upperDigit(c byte) byte {
	if 'a' <= c && c <= 'd' {
		return c - 'a' + 'A'
	}
	return c
}

// Limits of the detector, after ITU-T Q.24: signals of 40 ms are accepted, and
// of 23 ms are not; pauses of 40 ms part two presses, breaks of 10 ms do not;
// 1.5 % off the frequency is accepted, 3.5 % is not; one tone may be 8 dB above
// the other if it is the low one, 4 dB if it is the high one, with margin.
const (
	// toneBlock is 12.75 ms: the longest of which 40 ms always hold two whole
	// ones that follow upon each other, wherever they fall.
	toneBlock = 102 // samples at 8 kHz

	toneMisses = 3 // blocks in a row that end it: 40 ms of pause hold three

	toneLeast     = 1e-4 // of full scale's power, both tones together: -40 dBFS
	toneShare     = 0.63 // of a block's power that the two tones must hold; speech has more harmonics
	toneFilled    = 1.75 // such shares of two blocks together: 20 ms fill no more than 1.57
	toneAbove     = 5.0  // power over the next tone of the same group, 7 dB
	toneLowTwist  = 10.0 // power, low over high: 10 dB, as the tones leak into each other
	toneHighTwist = 4.0  // power, high over low: 6 dB
	toneOffset    = 0.025
)

// A ToneDetector finds keys pressed in the sound of a line (DTMF), for carriers
// that do not report them. It is for one stream and one goroutine.
type ToneDetector struct {
	rate  int
	block int
	turn  [8]float64 // 2 cos of the angle a sample, rows then columns
	angle [8]float64

	s1, s2 [8]float64
	energy float64
	n      int // samples of the block so far

	last    [8]complex128 // the previous block's tones, for their phase
	share   float64       // of the previous block
	seen    byte          // the previous block's key, 0 for none
	misses  int
	pressed byte // the key that was reported and is still held
}

// NewToneDetector returns a ToneDetector for frames at rate, 8 kHz or above.
func NewToneDetector(rate int) *ToneDetector {
	d := &ToneDetector{rate: rate, block: max(1, toneBlock*rate/8000)}
	for i := range 8 {
		hertz := toneHertz(i)
		d.angle[i] = 2 * math.Pi * hertz / float64(max(1, rate))
		d.turn[i] = 2 * math.Cos(d.angle[i])
	}
	return d
}

func toneHertz(i int) float64 {
	if i < 4 {
		return toneRows[i]
	}
	return toneColumns[i-4]
}

// Detect listens to the next frame. It reports a key once, at most three frames
// after it was pressed, however long it is held. Frames of another rate are not heard.
func (d *ToneDetector) Detect(f Frame) (digit byte, ok bool) {
	if f.Rate != d.rate {
		return 0, false
	}
	for pcm := f.PCM; len(pcm) > 0; {
		n := min(len(pcm), d.block-d.n)
		d.listen(pcm[:n])
		pcm = pcm[n:]
		if d.n == d.block {
			if key, new := d.judge(); new {
				digit, ok = key, true
			}
		}
	}
	return digit, ok
}

// listen runs Goertzel's recursion for the eight tones.
func (d *ToneDetector) listen(pcm []int16) {
	s1, s2, energy := d.s1, d.s2, d.energy
	for _, s := range pcm {
		x := float64(s) * (1.0 / 32768)
		energy += x * x
		for i := range 8 {
			s0 := x + d.turn[i]*s1[i] - s2[i]
			s2[i], s1[i] = s1[i], s0
		}
	}
	d.s1, d.s2, d.energy = s1, s2, energy
	d.n += len(pcm)
}

// judge ends a block and reports a press that it completes.
func (d *ToneDetector) judge() (digit byte, pressed bool) {
	var tones [8]complex128
	for i := range 8 {
		sin, cos := math.Sincos(d.angle[i])
		tones[i] = complex(d.s1[i]-d.s2[i]*cos, d.s2[i]*sin)
	}
	key, sure := d.identify(&tones)
	d.seen, d.last = key, tones
	d.s1, d.s2 = [8]float64{}, [8]float64{}
	d.energy, d.n = 0, 0
	if key != 0 && key == d.pressed {
		d.misses = 0
		return 0, false
	}
	if d.misses++; d.misses >= toneMisses {
		d.pressed = 0
	}
	if !sure {
		return 0, false
	}
	d.pressed, d.misses = key, 0
	return key, true
}

// identify returns the key that the block sounds like, or 0, and whether the
// block before makes it sure.
func (d *ToneDetector) identify(tones *[8]complex128) (key byte, sure bool) {
	var power [8]float64
	for i, t := range tones {
		power[i] = real(t)*real(t) + imag(t)*imag(t)
	}
	row, column := loudest(power[:4]), 4+loudest(power[4:])
	low, high := power[row], power[column]
	if d.energy/float64(d.block) < toneLeast ||
		low > toneLowTwist*high || high > toneHighTwist*low ||
		!above(power[:4], row) || !above(power[4:], column-4) {
		return 0, false
	}
	// A pure tone of amplitude a has energy n a²/2 and Goertzel power (n a/2)².
	before, share := d.share, 2*(low+high)/(float64(d.block)*d.energy)
	if share < toneShare {
		return 0, false
	}
	d.share = share
	key = toneKeys[row*4+column-4]
	return key, key == d.seen && d.confirm(row, column, low, high, tones, before+share)
}

// confirm looks closer at the second block of a tone: how far the phases ran
// since the first tells the frequencies exactly. With what a frequency beside
// Goertzel's loses made up for, the two blocks must be filled with sound.
func (d *ToneDetector) confirm(row, column int, low, high float64, tones *[8]complex128, share float64) bool {
	lost := 0.0
	for _, tone := range [2]struct {
		i     int
		power float64
	}{{row, low}, {column, high}} {
		drift := d.drift(tone.i, tones)
		if math.Abs(drift) > toneOffset*d.angle[tone.i]*float64(d.block) {
			return false
		}
		kept := sinc(drift / (2 * math.Pi))
		lost += tone.power / (kept * kept)
	}
	return share*lost/(low+high) > toneFilled
}

func loudest(power []float64) int {
	best := 0
	for i, p := range power {
		if p > power[best] {
			best = i
		}
	}
	return best
}

func above(power []float64, best int) bool {
	for i, p := range power {
		if i != best && p*toneAbove > power[best] {
			return false
		}
	}
	return true
}

// drift returns the radians that the phase of tone i ran since the block before
// beyond those of its exact frequency, in (-π, π].
func (d *ToneDetector) drift(i int, tones *[8]complex128) float64 {
	sin, cos := math.Sincos(-d.angle[i] * float64(d.block))
	last := complex(real(d.last[i]), -imag(d.last[i]))
	return cmplx.Phase(tones[i] * last * complex(cos, sin))
}
