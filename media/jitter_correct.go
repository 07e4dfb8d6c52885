package media

import "time"

// correct takes delay out of a silent frame, or puts some in.
func (j *Jitter) correct(now time.Time, frame int) {
	if j.hold > 0 && !j.dtx || !j.noise.quiet(j.fifo[:frame]) {
		return
	}
	over := j.delay(now) - j.target()
	if j.hold > 0 {
		j.shift(over, frame)
		return
	}
	switch n := int(Samples(over.Abs(), j.o.Rate)); {
	case over > jitterSlack:
		n = min(n, frame)
		for j.head() != nil && len(j.fifo) < frame+n {
			j.fill(frame + n - len(j.fifo))
		}
		n = min(n, len(j.fifo)-frame)
		// What stands behind the cut must be silent too.
		if n <= 0 || !j.noise.quiet(j.fifo[:frame+n]) {
			return
		}
		j.fifo = append(j.fifo[:0], j.fifo[n:]...)
		j.stats.Dropped += uint64(n)
	case over < -jitterSlack:
		n = min(n, frame)
		j.noise.fill(j.work[:n])
		had := len(j.fifo)
		j.fifo = append(j.fifo, j.work[:n]...)
		copy(j.fifo[n:], j.fifo[:had])
		copy(j.fifo, j.work[:n])
		j.stats.Inserted += uint64(n)
	}
	j.timing.relax()
}

// shift corrects the delay while nothing comes: the time that the noise stands
// for is made shorter or longer.
func (j *Jitter) shift(over time.Duration, frame int) {
	n := min(int(Samples(over.Abs(), j.o.Rate)), frame)
	switch {
	case over > jitterSlack:
		j.cursor += j.rtp(n)
		j.hold += j.rtp(n)
		j.stats.Dropped += uint64(n)
	case over < -jitterSlack:
		back := min(j.rtp(n), j.hold)
		j.cursor -= back
		j.hold -= back
		j.stats.Inserted += uint64(j.samples(back))
	}
	j.timing.relax()
}
