package signalingtest

// A playout is what a carrier has been sent and the caller has not heard yet:
// µ-law in the order of its coming, and the marks between. A mark comes back
// when the last sample before it has sounded.
type playout struct {
	buffer   []byte
	from     int   // where the unheard begins in buffer
	sounding int   // bytes that sound in this tick, which came before
	heard    int64 // bytes that have sounded
	marks    []pendingMark
}

type pendingMark struct {
	name string
	at   int64 // bytes of audio that come before it
}

func (p *playout) ahead() int { return p.sounding + len(p.buffer) - p.from }

func (p *playout) push(audio []byte) {
	if p.from > 0 && len(p.buffer)+len(audio) > cap(p.buffer) {
		p.buffer = p.buffer[:copy(p.buffer, p.buffer[p.from:])]
		p.from = 0
	}
	p.buffer = append(p.buffer, audio...)
}

// mark puts a mark behind what there is. It reports false if there is nothing:
// the mark is to be returned at once.
func (p *playout) mark(name string) bool {
	ahead := p.ahead()
	if ahead > 0 {
		p.marks = append(p.marks, pendingMark{name, p.heard + int64(ahead)})
	}
	return ahead > 0
}

// clear drops the unheard, and returns the marks that are to come back for it.
func (p *playout) clear() []pendingMark {
	p.buffer, p.from = p.buffer[:0], 0
	pending := p.marks
	p.marks = nil
	return pending
}

// next begins a tick: it fills frame with what sounds in it, and with silence,
// and returns how much is sound, and the marks that the tick before has passed.
func (p *playout) next(frame []byte) (n int, back []pendingMark) {
	p.heard += int64(p.sounding)
	passed := 0
	for passed < len(p.marks) && p.marks[passed].at <= p.heard {
		passed++
	}
	back, p.marks = p.marks[:passed:passed], p.marks[passed:]
	n = copy(frame, p.buffer[p.from:])
	if p.from += n; p.from == len(p.buffer) {
		p.buffer, p.from = p.buffer[:0], 0
	}
	p.sounding = n
	for i := n; i < len(frame); i++ {
		frame[i] = silence
	}
	return n, back
}
