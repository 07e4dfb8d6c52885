package media

// Fade ramps the first n samples of pcm up from silence if in, else the last n
// down to it, in place and linearly. An edge that we cut ourselves is faded
// over 5 ms, so that it does not click. A longer n than pcm fades all of it.
func Fade(pcm []int16, n int, in bool) {
	n = min(n, len(pcm))
	for i := range n {
		at := i
		if !in {
			at = len(pcm) - 1 - i
		}
		pcm[at] = int16(int64(pcm[at]) * int64(i) / int64(n))
	}
}

const (
	// leadLevel is the loudest sample of what counts as a vendor's leading
	// silence: -50 dBFS, below the breath before a word, above the dither that
	// some vendors add.
	leadLevel = 104

	// leadKeptMillis of silence stay before the first sound: the soft start of
	// a consonant is there.
	leadKeptMillis = 30
)

// TrimLead returns how many samples of silence at the beginning of pcm may be
// dropped so that 30 ms of it remain; len(pcm) if all of it is silence.
func TrimLead(pcm []int16, rate int) int {
	for i, s := range pcm {
		if s > leadLevel || s < -leadLevel {
			return max(0, i-rate*leadKeptMillis/1000)
		}
	}
	return len(pcm)
}

// A LeadTrimmer drops a vendor's leading silence over 30 ms from the audio of a
// clause that arrives in chunks, as [TrimLead] does from a whole one. A clause
// of silence alone is dropped.
type LeadTrimmer struct {
	kept    []int16 // the latest silence, at most cap(kept)
	started bool
}

// NewLeadTrimmer returns a LeadTrimmer for audio at rate, in hertz.
func NewLeadTrimmer(rate int) *LeadTrimmer {
	return &LeadTrimmer{kept: make([]int16, 0, max(0, rate)*leadKeptMillis/1000)}
}

// Trim appends what is to be heard of pcm to dst. After the first sound that is
// all of it.
func (t *LeadTrimmer) Trim(dst, pcm []int16) []int16 {
	if t.started {
		return append(dst, pcm...)
	}
	onset := len(pcm)
	for i, s := range pcm {
		if s > leadLevel || s < -leadLevel {
			onset, t.started = i, true
			break
		}
	}
	if t.started {
		room := cap(t.kept)
		fresh := min(onset, room)
		old := min(room-fresh, len(t.kept))
		dst = append(dst, t.kept[len(t.kept)-old:]...)
		return append(dst, pcm[onset-fresh:]...)
	}
	t.keep(pcm)
	return dst
}

// keep remembers the latest silence.
func (t *LeadTrimmer) keep(pcm []int16) {
	room := cap(t.kept)
	if len(pcm) >= room {
		t.kept = append(t.kept[:0], pcm[len(pcm)-room:]...)
		return
	}
	old := min(len(t.kept), room-len(pcm))
	copy(t.kept, t.kept[len(t.kept)-old:])
	t.kept = append(t.kept[:old], pcm...)
}

// Reset makes ready for the next clause.
func (t *LeadTrimmer) Reset() {
	t.kept = t.kept[:0]
	t.started = false
}
