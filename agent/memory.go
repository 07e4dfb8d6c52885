package agent

import (
	"time"

	"parley/media"
)

const (
	// replayLimit is how much of an unfinished utterance the next recognizer gets.
	replayLimit = 5 * time.Second
	// preRoll is how much of what came before speech was noticed belongs to it.
	preRoll = 300 * time.Millisecond
)

// A memory holds what recognizers have not finished: the caller's audio since
// the unfinished utterance began, in µ-law, and where speech began and paused in
// it. Positions are samples since the session began. It is pure, and allocates
// nothing once it has grown to the longest utterance.
type memory struct {
	rate  int
	from  int64 // position of audio[0]
	audio []byte
	marks []speechMark // not before from, but for one that says what held there
	seq   int          // marks forgotten

	held    int64 // position from which a recognizer that catches up still needs it; -1: none
	open    bool  // an utterance is unfinished
	start   int64 // of it, if open
	talking bool
}

// A speechMark is where the caller began to speak or paused.
type speechMark struct {
	at int64
	on bool
}

// now is the position behind the last sample.
func (m *memory) now() int64 { return m.from + int64(len(m.audio)) }

// add takes a frame.
func (m *memory) add(pcm []int16) {
	m.audio = media.EncodePCMU(m.audio, pcm)
	// What is not wanted any more is moved out now and then, not at every frame.
	keep := m.wanted()
	if m.held >= 0 {
		keep = max(m.from, min(keep, m.held), m.now()-media.Samples(replayLimit, m.rate))
	}
	if over := keep - m.from; over > media.Samples(preRoll, m.rate) {
		m.forget(over)
	}
}

// wanted is the position from which the next recognizer is to hear.
func (m *memory) wanted() int64 {
	if m.open {
		return max(m.from, m.start, m.now()-media.Samples(replayLimit, m.rate))
	}
	return max(m.from, m.now()-media.Samples(preRoll, m.rate))
}

func (m *memory) forget(n int64) {
	m.audio = m.audio[:copy(m.audio, m.audio[n:])]
	m.from += n
	for len(m.marks) > 1 && m.marks[1].at <= m.from {
		m.marks = m.marks[:copy(m.marks, m.marks[1:])]
		m.seq++
	}
}

// speech notes that the caller begins to speak, or pauses.
func (m *memory) speech(on bool) {
	m.talking = on
	if on && !m.open {
		m.open, m.start = true, m.now()-media.Samples(preRoll, m.rate)
	}
	m.marks = append(m.marks, speechMark{m.now(), on})
}

// finish notes that all before a position has been recognized.
func (m *memory) finish(at int64) {
	if !m.open {
		return
	}
	m.start = max(m.start, min(at, m.now()))
	if !m.talking && len(m.marks) > 0 {
		m.start = min(m.start, m.marks[len(m.marks)-1].at) // the pause is still to be answered
	}
}

// flushed notes that the pause at a position has been answered.
func (m *memory) flushed(at int64) {
	m.finish(at)
	if !m.talking && len(m.marks) > 0 && at >= m.marks[len(m.marks)-1].at {
		m.open = false
	}
}

// talkedAt reports whether the caller spoke before a position, and the number of
// the first mark that is not before it.
func (m *memory) talkedAt(at int64) (on bool, next int) {
	for _, mark := range m.marks {
		if mark.at >= at {
			break
		}
		on = mark.on
		next++
	}
	return on, m.seq + next
}

// piece decodes up to len(dst) samples from a position to the next mark, which
// has the number next.
func (m *memory) piece(dst []int16, at int64, next int) []int16 {
	end := min(at+int64(len(dst)), m.now())
	if i := next - m.seq; i >= 0 && i < len(m.marks) {
		end = min(end, max(at, m.marks[i].at))
	}
	return media.DecodePCMU(dst[:0], m.audio[at-m.from:end-m.from])
}

// mark returns the mark of a number if it stands at or before a position.
func (m *memory) mark(next int, at int64) (speechMark, bool) {
	i := next - m.seq
	if i < 0 || i >= len(m.marks) || m.marks[i].at > at {
		return speechMark{}, false
	}
	return m.marks[i], true
}
