package media

import (
	"errors"
	"fmt"
	"sync"

	"github.com/thesyncim/gopus"
)

// Opus as we use it: 16 kHz mono inside, because the codec resamples on its own
// and speech recognition takes 16 kHz; on the wire its RTP clock is always
// 48 kHz (RFC 7587 §4.1).
const (
	OpusRate      = 16000 // samples per second given and taken
	OpusClock     = 48000 // RTP clock
	OpusMaxPacket = 1275  // bytes of the largest frame (RFC 6716 §3.2.1)

	opusFrame      = OpusRate / 50     // samples of one Ptime
	opusMaxSamples = OpusRate * 3 / 25 // 120 ms, the longest packet (RFC 6716 §3.2.5)
	opusBitrate    = 24000
	opusComplexity = 5 // 168 µs a frame; 8 costs half as much again for no audible gain
)

// ErrOpus reports a packet that is not Opus, or a codec that failed on it.
var ErrOpus = errors.New("media: bad opus packet")

// An OpusPool lends codecs, which hold about 200 KiB each, and takes them back
// reset. The zero value is ready. It is safe for concurrent use.
type OpusPool struct {
	encoders sync.Pool
	decoders sync.Pool
}

// Encoder lends an encoder for one stream.
func (p *OpusPool) Encoder() (*OpusEncoder, error) {
	if e, ok := p.encoders.Get().(*OpusEncoder); ok {
		return e, nil
	}
	return NewOpusEncoder()
}

// Decoder lends a decoder for one stream.
func (p *OpusPool) Decoder() (*OpusDecoder, error) {
	if d, ok := p.decoders.Get().(*OpusDecoder); ok {
		return d, nil
	}
	return NewOpusDecoder()
}

// PutEncoder takes e back. The lender must not use it again. Nil is no-op.
func (p *OpusPool) PutEncoder(e *OpusEncoder) {
	if e != nil {
		e.Reset()
		p.encoders.Put(e)
	}
}

// PutDecoder takes d back. The lender must not use it again. Nil is no-op.
func (p *OpusPool) PutDecoder(d *OpusDecoder) {
	if d != nil && !d.broken {
		d.Reset()
		p.decoders.Put(d)
	}
}

// An OpusEncoder makes packets of one [Ptime] at 24 kbit/s for speech, with DTX
// below -50 dBFS, and with in-band FEC once [OpusEncoder.ExpectLoss] was told of loss. It is not
// safe for concurrent use.
type OpusEncoder struct {
	enc *gopus.Encoder
	buf [OpusMaxPacket]byte
}

// NewOpusEncoder builds an encoder (about 200 KiB); see [OpusPool].
func NewOpusEncoder() (*OpusEncoder, error) {
	enc, err := gopus.NewEncoder(gopus.EncoderConfig{
		SampleRate: OpusRate, Channels: 1, Application: gopus.ApplicationVoIP,
	})
	if err != nil {
		return nil, fmt.Errorf("opus encoder: %w", err)
	}
	e := &OpusEncoder{enc: enc}
	if err := e.configure(); err != nil {
		return nil, fmt.Errorf("opus encoder: %w", err)
	}
	return e, nil
}

func (e *OpusEncoder) configure() error {
	e.enc.SetFEC(true)
	return errors.Join(
		e.enc.SetFrameSize(opusFrame),
		e.enc.SetBitrate(opusBitrate),
		e.enc.SetComplexity(opusComplexity),
		e.enc.SetPacketLoss(0),
		e.enc.SetSignal(gopus.SignalVoice),
	)
}

// Encode appends the packet for pcm, which is one [Ptime] at [OpusRate]. A
// packet of at most two bytes says "silence goes on" (DTX) and need not be sent.
func (e *OpusEncoder) Encode(dst []byte, pcm []int16) ([]byte, error) {
	if len(pcm) != opusFrame {
		return dst, fmt.Errorf("opus encode %d samples: %w", len(pcm), ErrRate)
	}
	// The codec's own idea of silence is what does not change, a steady tone too.
	e.enc.SetDTX(rms(pcm) <= noiseMax)
	n, err := e.enc.EncodeInt16(pcm, e.buf[:])
	if err != nil {
		return dst, fmt.Errorf("opus encode: %w", err)
	}
	return append(dst, e.buf[:n]...), nil
}

// ExpectLoss tells what share of packets, 0 to 100 %, the far side misses, as
// its RTCP reports say. From about 8 % at 24 kbit/s the packets carry FEC. It
// starts at none: FEC on a clean line costs a fifth of the bits, and the codec
// then allocates 13 KB a frame.
func (e *OpusEncoder) ExpectLoss(percent int) {
	_ = e.enc.SetPacketLoss(max(0, min(100, percent))) // fails only out of range
}

// Reset forgets the stream, for another one.
func (e *OpusEncoder) Reset() {
	e.enc.Reset()
	e.ExpectLoss(0)
}

// An OpusDecoder turns packets into samples at [OpusRate]. It is a
// [PacketDecoder]. It is not safe for concurrent use.
type OpusDecoder struct {
	dec     *gopus.Decoder
	scratch []float32
	broken  bool // it panicked: its state cannot be trusted by another stream
}

// NewOpusDecoder builds a decoder (about 200 KiB); see [OpusPool].
func NewOpusDecoder() (*OpusDecoder, error) {
	cfg := gopus.DefaultDecoderConfig(OpusRate, 1)
	cfg.MaxPacketSamples = opusMaxSamples
	dec, err := gopus.NewDecoder(cfg)
	if err != nil {
		return nil, fmt.Errorf("opus decoder: %w", err)
	}
	return &OpusDecoder{dec: dec, scratch: make([]float32, opusMaxSamples)}, nil
}

// Reset forgets the stream, for another one.
func (d *OpusDecoder) Reset() { d.dec.Reset() }

// Samples returns how many samples packet holds, 0 if it is malformed. It reads
// the table of contents only (RFC 6716 §3.1).
func (d *OpusDecoder) Samples(packet []byte) int {
	if len(packet) == 0 {
		return 0
	}
	frames := 1
	switch packet[0] & 3 {
	case 1, 2:
		frames = 2
	case 3:
		if len(packet) < 2 {
			return 0
		}
		frames = int(packet[1] & 0x3f)
	}
	n := frames * opusFrameSamples(packet[0]>>3)
	if n > opusMaxSamples {
		return 0
	}
	return n
}

// opusFrameSamples is table 2 of RFC 6716 §3.1, at OpusRate.
func opusFrameSamples(config byte) int {
	switch {
	case config < 12: // SILK: 10, 20, 40, 60 ms
		return [4]int{160, 320, 640, 960}[config&3]
	case config < 16: // hybrid: 10, 20 ms
		return [2]int{160, 320}[config&1]
	}
	return [4]int{40, 80, 160, 320}[config&3] // CELT: 2.5, 5, 10, 20 ms
}

// Silent reports a DTX packet: the far side is quiet and sends no more for now.
func (d *OpusDecoder) Silent(packet []byte) bool { return len(packet) <= 2 }

// Decode writes the packet's samples to dst, which holds at least Samples of
// them, and returns how many. Whatever the packet, it does not panic.
func (d *OpusDecoder) Decode(dst []int16, packet []byte) (n int, err error) {
	defer d.guard(&n, &err)
	if len(packet) == 0 {
		return 0, ErrOpus
	}
	n, err = d.dec.DecodeInt16(packet, dst)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrOpus, err)
	}
	return n, nil
}

// Carries reports whether next holds in-band FEC for the packet before it.
func (d *OpusDecoder) Carries(next []byte) bool { return gopus.PacketHasLBRR(next) }

// Recover fills dst with the lost packet that came just before next, from
// next's in-band FEC. The packet next must then be decoded as usual.
func (d *OpusDecoder) Recover(dst []int16, next []byte) (err error) {
	n := len(dst)
	defer d.guard(&n, &err)
	if n > len(d.scratch) || len(next) == 0 {
		return ErrOpus
	}
	n, err = d.dec.DecodeWithFEC(next, d.scratch[:n], true)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOpus, err)
	}
	for i := range dst {
		if i >= n {
			dst[i] = 0
			continue
		}
		dst[i] = int16(max(-32768, min(32767, d.scratch[i]*32768)))
	}
	return nil
}

// Conceal fills dst with what the codec guesses was lost.
func (d *OpusDecoder) Conceal(dst []int16) {
	n, err := 0, error(nil)
	func() {
		defer d.guard(&n, &err)
		for n < len(dst) {
			k, e := d.dec.DecodeInt16(nil, dst[n:min(n+opusFrame, len(dst))])
			if e != nil || k <= 0 {
				return
			}
			n += k
		}
	}()
	clear(dst[min(n, len(dst)):])
}

// guard turns a panic of the codec, which has hand-written assembly in it, into
// an error and a fresh state.
func (d *OpusDecoder) guard(n *int, err *error) {
	if r := recover(); r != nil {
		d.broken = true
		*n, *err = 0, fmt.Errorf("%w: codec: %v", ErrOpus, r)
		d.dec.Reset()
	}
}
