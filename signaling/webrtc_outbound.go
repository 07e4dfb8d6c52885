package signaling

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"parley/media"
)

const (
	rtcFrameBytes   = 2 * media.OpusRate / 50
	rtcFrameSamples = media.OpusRate / 50

	// rtcSpurt is how long nothing must be written for the next packet to begin
	// a talk spurt, whose timestamp then follows the wall clock.
	rtcSpurt = 3 * media.Ptime

	// rtcTail is how many frames of silence end a spurt, so that the browser
	// does not stretch its last sound while it waits for more.
	rtcTail = 5
)

// An rtcTrack takes packets and sets their SSRC and payload type.
type rtcTrack interface {
	WriteRTP(p *rtp.Packet) error
}

// An rtcOutbound is the way from written samples to packets. Write and
// ReadFrame's tick use it.
type rtcOutbound struct {
	pool  *media.OpusPool
	track rtcTrack
	clock int // of the timestamps

	mu      sync.Mutex // guards what follows
	opus    *media.OpusEncoder
	down    *media.Resampler // G.711 only
	law     func([]byte, []int16) []byte
	closed  bool
	packet  rtp.Packet
	pcm     []int16
	narrow  []int16
	payload []byte

	next    uint32    // timestamp of the next frame
	due     time.Time // when the next frame would follow without a gap
	talking bool      // a spurt goes on
	tail    int       // frames of silence still to send after it
	quiet   bool      // the last frame was not worth sending
	pos     int64     // samples written by the user
	loss    int
	runs    rtcRuns
}

func newRTCOutbound(track rtcTrack, codec webrtc.RTPCodecCapability, pool *media.OpusPool) *rtcOutbound {
	o := &rtcOutbound{pool: pool, track: track, clock: int(codec.ClockRate), pcm: make([]int16, rtcFrameSamples)}
	o.packet.Version = 2
	switch codec.MimeType {
	case webrtc.MimeTypePCMU:
		o.law = media.EncodePCMU
	case webrtc.MimeTypePCMA:
		o.law = media.EncodePCMA
	}
	return o
}

// write sends whole frames of L16 at 16 kHz.
func (o *rtcOutbound) write(audio []byte, now time.Time) error {
	if len(audio)%rtcFrameBytes != 0 {
		return fmt.Errorf("write %d bytes, frames are of %d: %w", len(audio), rtcFrameBytes, media.ErrRate)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for ; len(audio) > 0; audio = audio[rtcFrameBytes:] {
		for i := range o.pcm {
			o.pcm[i] = int16(binary.LittleEndian.Uint16(audio[2*i:]))
		}
		o.begin(now)
		o.runs.add(o.next, o.pos, uint32(o.clock/50))
		o.pos += rtcFrameSamples
		o.tail = rtcTail
		if err := o.send(); err != nil {
			return err
		}
	}
	return nil
}

// begin starts a talk spurt if nothing was sent for a while: its timestamp
// stands where the wall clock does.
func (o *rtcOutbound) begin(now time.Time) {
	if o.due.IsZero() {
		o.due = now
		o.packet.Marker = true
	}
	if gap := now.Sub(o.due); gap > rtcSpurt {
		frames := int64(gap / media.Ptime)
		o.next += uint32(frames) * uint32(o.clock/50)
		o.due = o.due.Add(time.Duration(frames) * media.Ptime)
		o.packet.Marker = true
	}
	o.talking = true
}

// rest is told of every tick: when the user has stopped writing it sends the
// silence that ends the spurt.
func (o *rtcOutbound) rest(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.talking || now.Sub(o.due) < media.Ptime {
		return
	}
	if o.tail == 0 {
		o.talking = false
		return
	}
	o.tail--
	clear(o.pcm)
	_ = o.send() // the connection's state tells of its end
}

// send encodes o.pcm, and sends it if there is something to hear.
func (o *rtcOutbound) send() error {
	ts := o.next
	o.next += uint32(o.clock / 50)
	o.due = o.due.Add(media.Ptime)
	if o.closed {
		return media.ErrClosed
	}
	if err := o.encode(); err != nil {
		return err
	}
	// The first packet of a silence tells of it; the rest are left out until the
	// encoder refreshes (RFC 7587 §3.1.3).
	silent := o.law == nil && len(o.payload) <= 2
	skip := silent && o.quiet
	o.quiet = silent
	if skip {
		o.packet.Marker = true
		return nil
	}
	o.packet.Timestamp = ts
	o.packet.Payload = o.payload
	o.packet.SequenceNumber++
	err := o.track.WriteRTP(&o.packet)
	o.packet.Marker = false
	if err != nil {
		return fmt.Errorf("send rtp: %w", err)
	}
	return nil
}

func (o *rtcOutbound) encode() (err error) {
	if o.law != nil {
		if o.down == nil {
			if o.down, err = media.NewResampler(media.OpusRate, 8000); err != nil {
				return err
			}
		}
		o.narrow = o.down.Process(o.narrow[:0], o.pcm)
		o.payload = o.law(o.payload[:0], o.narrow)
		return nil
	}
	if o.opus == nil { // late: many a call ends before the agent has spoken
		if o.opus, err = o.pool.Encoder(); err != nil {
			return err
		}
		o.opus.ExpectLoss(o.loss)
	}
	o.payload, err = o.opus.Encode(o.payload[:0], o.pcm)
	return err
}

// expectLoss tells the encoder what the party misses. Loss is believed at once
// and forgotten slowly.
func (o *rtcOutbound) expectLoss(percent int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.loss = max(percent, o.loss*9/10)
	if o.opus != nil {
		o.opus.ExpectLoss(o.loss)
	}
}

// position translates a timestamp that the party plays into samples written.
func (o *rtcOutbound) position(ts uint32) (int64, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.runs.position(ts, media.OpusRate, o.clock, o.pos)
}

func (o *rtcOutbound) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.pool.PutEncoder(o.opus)
	o.opus = nil
}

// rtcRuns remembers which samples went out under which timestamps, a run being
// frames without a gap.
type rtcRuns struct {
	ring [64]rtcRun
	n    int // runs begun
}

type rtcRun struct {
	ts     uint32
	next   uint32 // the timestamp that goes on with it
	pos    int64
	frames int64
}

func (r *rtcRuns) add(ts uint32, pos int64, step uint32) {
	if r.n > 0 {
		last := &r.ring[(r.n-1)%len(r.ring)]
		if last.pos+last.frames*rtcFrameSamples == pos && last.next == ts {
			last.frames++
			last.next += step
			return
		}
	}
	r.ring[r.n%len(r.ring)] = rtcRun{ts: ts, next: ts + step, pos: pos, frames: 1}
	r.n++
}

// position returns how many samples were written before ts; in a gap, all that
// stood before it. It is false for a timestamp we have not sent or forgot.
func (r *rtcRuns) position(ts uint32, rate, clock int, most int64) (int64, bool) {
	for i := r.n - 1; i >= max(0, r.n-len(r.ring)); i-- {
		run := &r.ring[i%len(r.ring)]
		if d := int32(ts - run.ts); d >= 0 {
			into := int64(d) * int64(rate) / int64(clock)
			return min(run.pos+min(into, run.frames*rtcFrameSamples), most), true
		}
	}
	return 0, false
}
