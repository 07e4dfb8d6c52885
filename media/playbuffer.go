package media

import "time"

// offsetAt returns the offset that stands at a stream position: after the last
// sample that begins before it.
func (p *Player) offsetAt(pos int64) int64 {
	for i := len(p.segs) - 1; i >= 0; i-- {
		if s := p.segs[i]; s.pos < pos {
			return s.offset + min(pos-s.pos, s.n)
		}
	}
	return p.base
}

// forgetUnheard takes what a flush dropped out of the segments: a position past
// held was never heard.
func (p *Player) forgetUnheard(held int64) {
	n := len(p.segs)
	for n > 0 && p.segs[n-1].pos >= held {
		n--
	}
	p.segs = p.segs[:n]
	if n > 0 {
		last := &p.segs[n-1]
		last.n = min(last.n, held-last.pos)
	}
}

// trim forgets audio that was heard a while ago and is in the recording.
func (p *Player) trim() {
	done := p.clock.heard(p.now())
	if p.record > 0 { // it is recorded, or was until the recording failed
		done = min(done, max(p.record, done-Samples(keepRecord, p.info.Rate)))
	}
	drop := 0
	for drop < len(p.segs)-1 && p.segs[drop+1].pos < done {
		drop++
	}
	p.segs = append(p.segs[:0], p.segs[drop:]...)

	from := min(p.offsetAt(done), p.next) - Samples(keepHeard, p.info.Rate)
	// Moving the bytes costs: do it once a second of audio is to go.
	if n := from - p.base; n >= int64(p.info.Rate) {
		p.buf = p.buf[:copy(p.buf, p.buf[n*p.bps:])]
		p.base += n
	}
}

// reserve makes room for n bytes more, and for little beyond: append would
// double what is tens of kilobytes in every call.
func (p *Player) reserve(n int) {
	if cap(p.buf)-len(p.buf) >= n {
		return
	}
	const slack = 500 * time.Millisecond
	buf := make([]byte, len(p.buf), len(p.buf)+n+int(Samples(slack, p.info.Rate)*p.bps))
	copy(buf, p.buf)
	p.buf = buf
}

// quietBefore returns the start of the quietest 10 ms within back of offset.
func (p *Player) quietBefore(offset int64, back time.Duration) int64 {
	const window = 10 * time.Millisecond
	step := Samples(window, p.info.Rate)
	best, bestLevel := offset, int64(-1)
	var pcm []int16
	for at := offset; at-step >= max(p.base, p.floor, offset-Samples(back, p.info.Rate)); at -= step {
		pcm = p.decode(pcm[:0], at-step, step)
		var level int64
		for _, v := range pcm {
			level += int64(v) * int64(v)
		}
		if bestLevel < 0 || level < bestLevel {
			best, bestLevel = at-step, level
		}
	}
	return best
}

// decode appends n samples from offset to dst.
func (p *Player) decode(dst []int16, offset, n int64) []int16 {
	from, to := (offset-p.base)*p.bps, (offset-p.base+n)*p.bps
	if from < 0 || to > int64(len(p.buf)) {
		return dst
	}
	return appendDecoded(dst, p.buf[from:to], p.info.Encoding)
}

// Recorded fills dst with what the party hears in the next len(dst) samples of
// our clock: the agent's channel of a recording. Silence is zero. It is called
// once a frame, by one goroutine, and returns whether anything was heard.
func (p *Player) Recorded(dst []int16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(dst)
	n, heard := int64(len(dst)), p.clock.heard(p.now())
	// The cursor follows its own steady clock; it moves to the estimate only
	// where the two are far apart, that is between spurts.
	const slip = 80 * time.Millisecond
	if d := heard - n - p.record; d > Samples(slip, p.info.Rate) || d < -Samples(slip, p.info.Rate) {
		p.record = max(0, heard-n)
	}
	end := min(p.record+n, p.clock.written)
	if !p.clock.running || !p.recording {
		end = min(end, heard) // not before it is heard
	}
	p.recording = end > p.record
	if !p.recording {
		return false
	}
	p.copyStream(dst, p.record, end)
	p.record = end
	return true
}

// copyStream decodes stream positions [from, to) into dst.
func (p *Player) copyStream(dst []int16, from, to int64) {
	for _, s := range p.segs {
		lo, hi := max(from, s.pos), min(to, s.pos+s.n)
		if lo >= hi {
			continue
		}
		p.decode(dst[lo-from:lo-from], s.offset+lo-s.pos, hi-lo)
	}
}

func appendEncoded(dst []byte, pcm []int16, e Encoding) []byte {
	if e == PCMU {
		return EncodePCMU(dst, pcm)
	}
	for _, v := range pcm {
		dst = append(dst, byte(v), byte(uint16(v)>>8))
	}
	return dst
}

func appendDecoded(dst []int16, b []byte, e Encoding) []int16 {
	if e == PCMU {
		return DecodePCMU(dst, b)
	}
	for i := 0; i+1 < len(b); i += 2 {
		dst = append(dst, int16(uint16(b[i])|uint16(b[i+1])<<8))
	}
	return dst
}

// fadeIn ramps the first 5 ms of an encoded message.
func fadeIn(b []byte, info LegInfo) {
	n := min(int(Samples(edgeFade, info.Rate)), len(b)/info.Encoding.BytesPerSample())
	bytes := n * info.Encoding.BytesPerSample()
	pcm := appendDecoded(make([]int16, 0, n), b[:bytes], info.Encoding)
	for i := range pcm {
		pcm[i] = int16(int(pcm[i]) * i / n)
	}
	appendEncoded(b[:0], pcm, info.Encoding)
}
