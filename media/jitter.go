package media

import "time"

// A PacketDecoder turns one stream's packets into samples at one rate. It is
// used by one goroutine. [OpusDecoder] and [G711Decoder] are such.
type PacketDecoder interface {
	// Samples returns how many samples packet decodes to, 0 if malformed.
	Samples(packet []byte) int
	// Silent reports a packet that says the far side sends no more for now.
	Silent(packet []byte) bool
	// Decode writes the samples to dst, which holds Samples of them.
	Decode(dst []int16, packet []byte) (int, error)
	// Carries reports whether next holds a copy of the packet before it.
	Carries(next []byte) bool
	// Recover fills dst with the lost packet before next from that copy.
	Recover(dst []int16, next []byte) error
	// Conceal fills dst with a guess at what was lost.
	Conceal(dst []int16)
	// Reset forgets the stream.
	Reset()
}

// JitterOptions describe a stream. Decoder, Clock and Rate must be set.
type JitterOptions struct {
	Decoder PacketDecoder
	Clock   int // of RTP timestamps, in hertz: 48000 for Opus (RFC 7587 §4.1), 8000 for G.711
	Rate    int // of the samples the decoder gives; a divisor or a multiple of Clock

	// Min and Max bound the target delay, which follows the measured jitter.
	// Defaults 40 ms and 60 ms: two and three frames.
	Min, Max time.Duration

	// Most bounds the audio held when the network stalls and then delivers all
	// at once; older packets are dropped. Default 1 s. What is over the target
	// goes in the next silence.
	Most time.Duration
}

// An RTPPacket is what the buffer needs of a packet (RFC 3550 §5.1). An empty
// Payload says the sequence number was used for something other than audio.
type RTPPacket struct {
	SSRC      uint32
	Seq       uint16
	Timestamp uint32
	Payload   []byte // copied by Push
}

// JitterStats are totals since the buffer began, but for the last three.
type JitterStats struct {
	Received  uint64 // packets taken
	Lost      uint64 // packets that were not there when their time came
	Late      uint64 // packets that came after their time (counted in Lost too, if one was missed)
	Duplicate uint64
	Malformed uint64 // undecodable, or too large
	Overrun   uint64 // packets dropped because too much was held
	Resets    uint64 // new SSRC, or a jump no loss explains
	Recovered uint64 // packets got back from in-band FEC
	Concealed uint64 // samples guessed
	Noise     uint64 // samples of comfort noise: the far side was silent
	Dropped   uint64 // samples taken out of silences, against delay and drift
	Inserted  uint64 // samples put into silences

	Target time.Duration // the delay aimed at
	Delay  time.Duration // the delay now, over the fastest packet
	Drift  float64       // parts per million the far clock is faster than ours; 0 until a minute was seen
}

const (
	jitterSlots      = 64   // packets held: 1.28 s of 20 ms
	jitterMaxPayload = 2048 // bytes; above any datagram's
	jitterMaxJump    = 3000 // sequence numbers; RFC 3550 appendix A.1 MAX_DROPOUT
	jitterSlack      = 4 * time.Millisecond
)

// A Jitter buffer turns packets, which come late, twice, in disorder or never,
// into one frame a [Ptime] of our clock. It keeps audio rather than delay: a
// stall delays what comes after it, and the next silence takes the delay out.
//
// It is pure: time comes as arguments, and never goes back. It starts nothing,
// holds at most 64 packets and is not safe for concurrent use.
type Jitter struct {
	o     JitterOptions
	stats JitterStats

	slots   [jitterSlots]jitterSlot
	held    int
	begun   bool // a packet was taken since the last reset
	ssrc    uint32
	high    int64     // highest extended sequence number
	highTS  int64     // extended timestamp of the newest
	next    int64     // extended sequence number to play next
	strange int       // packets in a row that fit no window
	strSeq  uint16    // what the next strange one would be
	latest  time.Time // arrival of the latest packet taken

	playing bool
	cursor  int64 // RTP time of the next sample to append to fifo
	hold    int64 // RTP time by which cursor ran ahead of any evidence
	guessed int64 // samples concealed meanwhile, not yet counted
	dtx     bool  // the last packet played said silence

	fifo  []int16 // decoded, not yet given
	work  []int16
	ptime int64 // RTP units of the last decoded packet

	timing jitterTiming
	noise  comfortNoise
}

type jitterSlot struct {
	used    bool
	seq     int64
	ts      int64
	payload []byte
}

// NewJitter returns an empty buffer for one stream.
func NewJitter(o JitterOptions) *Jitter {
	if o.Min <= 0 {
		o.Min = 2 * Ptime
	}
	if o.Max < o.Min {
		o.Max = max(3*Ptime, o.Min)
	}
	if o.Most <= 0 {
		o.Most = time.Second
	}
	longest := o.Rate * 3 / 25 // 120 ms, the longest Opus packet
	j := &Jitter{o: o, fifo: make([]int16, 0, longest+o.Rate/10), work: make([]int16, longest)}
	j.timing.reset()
	j.noise.seed = 0x9e3779b9
	return j
}

// Push takes a packet in that reached us at arrival.
func (j *Jitter) Push(p RTPPacket, arrival time.Time) {
	j.stats.Received++
	if len(p.Payload) > jitterMaxPayload {
		j.stats.Malformed++
		return
	}
	if j.begun && p.SSRC != j.ssrc {
		j.restart()
	}
	if !j.begun {
		j.begin(p)
		j.latest = arrival
	}
	seq := j.high + int64(int16(p.Seq-uint16(j.high)))
	ts := j.highTS + int64(int32(p.Timestamp-uint32(j.highTS)))
	if j.isStrange(p, seq, ts, arrival) {
		return
	}
	j.latest = arrival
	if seq > j.high {
		j.high, j.highTS = seq, ts
	}
	if len(p.Payload) > 0 {
		j.timing.arrive(arrival, ts, j.o.Clock)
	}
	j.store(seq, ts, p.Payload)
}

func (j *Jitter) begin(p RTPPacket) {
	j.begun, j.ssrc = true, p.SSRC
	j.high = int64(p.Seq) + 1<<16 // room below for what was overtaken
	j.highTS = int64(p.Timestamp) + 1<<32
	j.next = j.high
}

// isStrange drops a packet far from the stream; two in a row that follow each
// other are a new stream (RFC 3550 appendix A.1).
func (j *Jitter) isStrange(p RTPPacket, seq, ts int64, arrival time.Time) bool {
	jump := max(seq-j.high, j.next-seq-jitterSlots)
	leap := ts - j.highTS
	far := int64(j.o.Clock) * 2 // no clock runs ahead of ours by that, and no packet is that late
	passed := Samples(max(0, arrival.Sub(j.latest)), j.o.Clock)
	if jump < jitterMaxJump && leap-passed < far && leap > -far {
		j.strange = 0
		return false
	}
	if j.strange > 0 && p.Seq == j.strSeq {
		j.restart()
		j.begin(p)
		j.latest, j.strange = arrival, 0
		j.timing.arrive(arrival, j.highTS, j.o.Clock)
		j.store(j.high, j.highTS, p.Payload)
		return true
	}
	j.strange, j.strSeq = 1, p.Seq+1
	return true
}

// restart forgets the stream but not what is decoded already.
func (j *Jitter) restart() {
	j.stats.Resets++
	for i := range j.slots {
		j.slots[i].used = false
	}
	j.held, j.begun, j.playing, j.dtx = 0, false, false, false
	j.hold, j.strange = 0, 0
	j.settle(false)
	j.timing.reset()
	j.o.Decoder.Reset()
}

func (j *Jitter) store(seq, ts int64, payload []byte) {
	if !j.playing && seq < j.next && j.high-seq < jitterSlots {
		j.next = seq // overtaken before play-out began
	}
	// What is before next is gone, but for what a stall let us run past.
	if seq < j.next {
		j.stats.Late++
		return
	}
	for seq >= j.next+jitterSlots {
		j.drop()
	}
	s := &j.slots[seq%jitterSlots]
	if s.used {
		j.stats.Duplicate++
		return
	}
	s.used, s.seq, s.ts = true, seq, ts
	s.payload = append(s.payload[:0], payload...)
	j.held++
}

// drop gives up the oldest place.
func (j *Jitter) drop() {
	if s := &j.slots[j.next%jitterSlots]; s.used {
		s.used = false
		j.held--
		j.stats.Overrun++
		if s.ts > j.cursor {
			j.cursor, j.hold = s.ts, 0
		}
	}
	j.next++
}

// Next writes the frame for the tick at now: [Ptime] at the buffer's rate,
// which is the length dst must have. It always gives one.
func (j *Jitter) Next(dst []int16, now time.Time) {
	if !j.playing && !j.start(now, len(dst)) {
		j.noise.fill(dst)
		j.stats.Noise += uint64(len(dst))
		return
	}
	j.cap()
	for len(j.fifo) < len(dst) {
		j.fill(len(dst) - len(j.fifo))
	}
	j.correct(now, len(dst))
	copy(dst, j.fifo)
	j.fifo = append(j.fifo[:0], j.fifo[len(dst):]...)
	if !j.dtx && j.hold == 0 {
		j.noise.learn(dst)
	}
}

// start begins play-out once the first packet has waited for the target, to the
// sample: noise stands before it.
func (j *Jitter) start(now time.Time, frame int) bool {
	s := j.head()
	if s == nil {
		return false
	}
	due := j.timing.due(s.ts, j.o.Clock, j.target())
	wait := due.Sub(now)
	if wait >= Ptime {
		return false
	}
	j.playing, j.cursor, j.next = true, s.ts, s.seq
	if wait > 0 {
		j.addNoise(min(int(Samples(wait, j.o.Rate)), frame))
	}
	return true
}

// head returns the oldest packet held, nil if there is none.
func (j *Jitter) head() *jitterSlot {
	if j.held == 0 {
		return nil
	}
	for seq := j.next; seq < j.next+jitterSlots; seq++ {
		if s := &j.slots[seq%jitterSlots]; s.used && s.seq == seq {
			return s
		}
	}
	return nil
}

// cap drops the oldest packets when a stall has left too much.
func (j *Jitter) cap() {
	most := int64(Samples(j.o.Most, j.o.Clock))
	for j.held > 1 && j.highTS-j.cursor > most {
		s := j.head()
		if s == nil {
			return
		}
		for j.next <= s.seq {
			j.drop()
		}
		if h := j.head(); h != nil && h.ts > j.cursor {
			j.cursor, j.hold = h.ts, 0
		}
	}
}

// fill appends some samples: of the packet that is due, of what stands for it,
// or noise. want is how many the frame still lacks.
func (j *Jitter) fill(want int) {
	s := j.head()
	if s == nil {
		j.starve(want)
		return
	}
	if len(s.payload) == 0 {
		j.take(s)
		return
	}
	missing := s.seq - j.next
	silent := missing == 0 && (j.dtx || s.ts > j.cursor-j.hold+j.ptime/2)
	if s.ts < j.cursor { // the hold, or an overlap: time went on without it
		j.cursor = s.ts
	}
	gap := s.ts - j.cursor
	switch {
	case gap == 0 || gap < int64(j.o.Clock)/1000:
		j.settle(silent)
		j.play(s)
	case missing == 0:
		j.settle(true)
		n := int(min(j.samples(gap), int64(want)))
		j.addNoise(max(n, 1))
		j.cursor += max(j.rtp(n), 1)
	default:
		j.settle(false)
		j.bridge(s, gap)
	}
}

// starve goes on without a packet: silence if the far side said so, else a
// guess. It is known only by the next packet which it was.
func (j *Jitter) starve(want int) {
	j.cursor += j.rtp(want)
	j.hold += j.rtp(want)
	if j.dtx {
		j.addNoise(want)
		return
	}
	j.conceal(want)
}

// settle closes a time without packets: it was silence, or it was not.
func (j *Jitter) settle(silence bool) {
	if silence {
		j.stats.Noise += uint64(j.guessed)
	} else {
		j.stats.Concealed += uint64(j.guessed)
	}
	j.guessed, j.hold = 0, 0
}

// bridge fills the gap before s, whose last part s may carry.
func (j *Jitter) bridge(s *jitterSlot, gap int64) {
	if part := j.rtp(j.o.Decoder.Samples(s.payload)); gap <= part && j.o.Decoder.Carries(s.payload) {
		n := int(j.samples(gap))
		if err := j.o.Decoder.Recover(j.work[:n], s.payload); err == nil {
			j.stats.Recovered++
			j.append(j.work[:n])
			j.cursor = s.ts
			return
		}
	}
	part := min(gap, max(j.ptime, int64(j.o.Clock)/100))
	if rest := gap - part; rest > 0 && rest < part {
		part = rest
	}
	n := min(int(j.samples(part)), len(j.work))
	j.conceal(max(n, 1))
	j.settle(false)
	j.cursor += max(j.rtp(n), 1)
}

// take frees s and counts what was missed before it.
func (j *Jitter) take(s *jitterSlot) {
	j.stats.Lost += uint64(s.seq - j.next)
	j.next = s.seq + 1
	s.used = false
	j.held--
}

// play decodes s.
func (j *Jitter) play(s *jitterSlot) {
	j.take(s)
	n := j.o.Decoder.Samples(s.payload)
	got := 0
	if n > 0 && n <= len(j.work) {
		var err error
		if got, err = j.o.Decoder.Decode(j.work[:n], s.payload); err != nil {
			got = 0
		}
	}
	if got == 0 {
		j.stats.Malformed++
		return // the gap it leaves is treated as silence until the next
	}
	j.dtx = j.o.Decoder.Silent(s.payload)
	j.append(j.work[:got])
	j.ptime = j.rtp(got)
	j.cursor = s.ts + j.ptime
}

func (j *Jitter) conceal(n int) {
	for n > 0 {
		k := min(n, len(j.work))
		j.o.Decoder.Conceal(j.work[:k])
		j.append(j.work[:k])
		j.guessed += int64(k)
		n -= k
	}
}

func (j *Jitter) addNoise(n int) {
	n = min(n, len(j.work))
	j.noise.fill(j.work[:n])
	j.append(j.work[:n])
	j.stats.Noise += uint64(n)
}

func (j *Jitter) append(pcm []int16) { j.fifo = append(j.fifo, pcm...) }

// delay is how long the sample that Next gives now has waited, measured from
// the fastest packet of late.
func (j *Jitter) delay(now time.Time) time.Duration {
	at := j.cursor - j.rtp(len(j.fifo))
	return now.Sub(j.timing.due(at, j.o.Clock, 0))
}

func (j *Jitter) target() time.Duration {
	part := Duration(j.ptime, j.o.Clock)
	return max(j.o.Min, min(j.o.Max, max(j.timing.peak, part-Ptime)+Ptime))
}

// Stats returns the totals, and the state at now.
func (j *Jitter) Stats(now time.Time) JitterStats {
	s := j.stats
	s.Target, s.Drift = j.target(), j.timing.drift()
	if j.playing {
		s.Delay = j.delay(now)
	}
	return s
}

func (j *Jitter) rtp(samples int) int64   { return int64(samples) * int64(j.o.Clock) / int64(j.o.Rate) }
func (j *Jitter) samples(rtp int64) int64 { return rtp * int64(j.o.Rate) / int64(j.o.Clock) }
