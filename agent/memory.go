package agent

import (
	"slices"
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
// only while an utterance grows: what a call holds between them is little.
type memory struct {
	rate   int
	from   int64        // position of the first block
	n      int          // samples held
	blocks [][]byte     // of preRoll each, the last one with room
	spare  []byte       // a block to be used next; may be nil
	marks  []speechMark // not before from, but for one that says what held there
	seq    int          // marks forgotten

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
func (m *memory) now() int64 { return m.from + int64(m.n) }

// add takes a frame.
func (m *memory) add(pcm []int16) {
	size := m.block()
	for len(pcm) > 0 {
		if m.n == size*len(m.blocks) {
			if m.spare == nil {
				m.spare = make([]byte, 0, size)
			}
			m.blocks, m.spare = append(m.blocks, m.spare[:0]), nil
		}
		last := &m.blocks[len(m.blocks)-1]
		k := min(len(pcm), size-len(*last))
		*last = media.EncodePCMU(*last, pcm[:k])
		m.n += k
		pcm = pcm[k:]
	}
	keep := m.wanted()
	if m.held >= 0 {
		keep = max(m.from, min(keep, m.held), m.now()-media.Samples(replayLimit, m.rate))
	}
	m.forget(keep)
}

// block is the size of one in samples.
func (m *memory) block() int { return int(media.Samples(preRoll, m.rate)) }

// wanted is the position from which the next recognizer is to hear.
func (m *memory) wanted() int64 {
	if m.open {
		return max(m.from, m.start, m.now()-media.Samples(replayLimit, m.rate))
	}
	return max(m.from, m.now()-media.Samples(preRoll, m.rate))
}

// forget lets go of the blocks that end before a position.
func (m *memory) forget(before int64) {
	size, n := m.block(), 0
	for m.from+int64(size) <= before {
		m.spare = m.blocks[n]
		m.from += int64(size)
		m.n -= size
		n++
	}
	if n == 0 {
		return
	}
	m.blocks = slices.Delete(m.blocks, 0, n)
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
	size, dst := int64(m.block()), dst[:0]
	for at < end {
		i, from := (at-m.from)/size, (at-m.from)%size
		to := min(size, from+end-at)
		dst = media.DecodePCMU(dst, m.blocks[i][from:to])
		at += to - from
	}
	return dst
}

// mark returns the mark of a number if it stands at or before a position.
func (m *memory) mark(next int, at int64) (speechMark, bool) {
	i := next - m.seq
	if i < 0 || i >= len(m.marks) || m.marks[i].at > at {
		return speechMark{}, false
	}
	return m.marks[i], true
}
