package signaling

import (
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"parley/media"
)

// An rtcInbound is the way from packets to frames. The track's goroutine pushes,
// ReadFrame's takes.
type rtcInbound struct {
	pool    *media.OpusPool
	opus    *media.OpusDecoder // nil for G.711
	mu      sync.Mutex         // guards what follows
	jitter  *media.Jitter
	decoder media.PacketDecoder
	closed  bool
}

func newRTCInbound(codec webrtc.RTPCodecCapability, pool *media.OpusPool) (*rtcInbound, error) {
	in := &rtcInbound{pool: pool}
	var err error
	switch codec.MimeType {
	case webrtc.MimeTypePCMU:
		in.decoder, err = media.NewPCMUDecoder()
	case webrtc.MimeTypePCMA:
		in.decoder, err = media.NewPCMADecoder()
	default:
		in.opus, err = pool.Decoder()
		in.decoder = in.opus
	}
	if err != nil {
		return nil, err
	}
	in.jitter = media.NewJitter(media.JitterOptions{
		Decoder: in.decoder, Clock: int(codec.ClockRate), Rate: media.OpusRate,
	})
	return in, nil
}

func (in *rtcInbound) push(h *rtp.Header, payload []byte, now time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.closed {
		in.jitter.Push(media.RTPPacket{SSRC: h.SSRC, Seq: h.SequenceNumber, Timestamp: h.Timestamp, Payload: payload}, now)
	}
}

// seconds is how much audio a payload claims to hold, and at least 10 ms: the
// shortest packets that are negotiated.
func (in *rtcInbound) seconds(payload []byte) float64 {
	const least = 0.01
	if in.opus == nil {
		return max(least, float64(len(payload))/rate)
	}
	return max(least, opusSeconds(payload))
}

// opusSeconds reads the head of an Opus packet (RFC 6716 §3.1 and §3.2), which
// holds at most 120 ms.
func opusSeconds(packet []byte) float64 {
	if len(packet) == 0 {
		return 0
	}
	var ms float64 // of a frame
	switch config := packet[0] >> 3; {
	case config < 12:
		ms = [4]float64{10, 20, 40, 60}[config&3]
	case config < 16:
		ms = [2]float64{10, 20}[config&1]
	default:
		ms = [4]float64{2.5, 5, 10, 20}[config&3]
	}
	switch packet[0] & 3 {
	case 1, 2:
		ms *= 2
	case 3:
		if len(packet) > 1 {
			ms *= float64(packet[1] & 0x3f)
		}
	}
	return min(ms, 120) / 1000
}

func (in *rtcInbound) next(dst []int16, now time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		clear(dst)
		return
	}
	in.jitter.Next(dst, now)
}

func (in *rtcInbound) stats() media.JitterStats {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.jitter.Stats(time.Now())
}

// close gives the decoder back.
func (in *rtcInbound) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.closed {
		in.closed = true
		in.pool.PutDecoder(in.opus)
	}
}

// receive reads the party's track until it ends.
func (l *rtcLeg) receive(track *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	digits := map[uint8]bool{}
	for _, c := range receiver.GetParameters().Codecs {
		if rtcIsDigits(c.MimeType) {
			digits[uint8(c.PayloadType)] = true
		}
	}
	var events media.EventDecoder
	var h rtp.Header
	spoken := audioAllowance()
	buf := make([]byte, 1600)
	for {
		n, _, err := track.Read(buf)
		if err != nil {
			return // the end is told by the connection's state
		}
		h = rtp.Header{Extensions: h.Extensions[:0], CSRC: h.CSRC[:0]}
		size, err := h.Unmarshal(buf[:n])
		if err != nil {
			l.drop("malformed")
			continue
		}
		now, payload := time.Now(), unpad(h.Padding, buf[size:n])
		if !spoken.take(now, l.in.seconds(payload)) {
			l.drop("flood")
			continue
		}
		if !digits[h.PayloadType] {
			l.in.push(&h, payload, now)
			continue
		}
		l.in.push(&h, nil, now) // its sequence number is no loss of audio
		if d, ok := events.Packet(h.Timestamp, payload); ok {
			l.events.put(media.LegEvent{Kind: media.Digit, At: now, Digit: d})
		}
	}
}

// pass reads the party's sender reports: on the way they reach the interceptor,
// whose receiver reports then tell the party its round trip.
func pass(receiver *webrtc.RTPReceiver) {
	buf := make([]byte, 1600)
	for {
		if _, _, err := receiver.Read(buf); err != nil {
			return
		}
	}
}

// unpad cuts RTP padding, whose last byte counts it (RFC 3550 §5.1).
func unpad(padded bool, payload []byte) []byte {
	if !padded || len(payload) == 0 {
		return payload
	}
	return payload[:max(0, len(payload)-int(payload[len(payload)-1]))]
}

// rtcPlayout is what a browser's own jitter buffer and sound card add to half
// the round trip, where its page does not report what it plays.
const rtcPlayout = 60 * time.Millisecond

// reports reads what the party says of our packets.
func (l *rtcLeg) reports(sender *webrtc.RTPSender) {
	buf := make([]byte, 1600)
	for {
		n, _, err := sender.Read(buf)
		if err != nil {
			return
		}
		packets, err := rtcp.Unmarshal(buf[:n])
		if err != nil {
			l.drop("malformed")
			continue
		}
		now := time.Now()
		for _, p := range packets {
			switch p := p.(type) {
			case *rtcp.ReceiverReport:
				l.heed(p.Reports, now)
			case *rtcp.SenderReport:
				l.heed(p.Reports, now)
			}
		}
	}
}

func (l *rtcLeg) heed(reports []rtcp.ReceptionReport, now time.Time) {
	for _, r := range reports {
		l.out.expectLoss(int(r.FractionLost) * 100 / 256)
		rtt, ok := rtcRoundTrip(r, now)
		l.mu.Lock()
		needed := !l.played
		if ok {
			l.trip = rtt / 2
		}
		l.mu.Unlock()
		if ok && needed {
			l.events.put(media.LegEvent{Kind: media.Delayed, At: now, Delay: rtt/2 + rtcPlayout})
		}
	}
}

// rtcRoundTrip is A - LSR - DLSR of RFC 3550 §6.4.1, in 1/65536 s.
func rtcRoundTrip(r rtcp.ReceptionReport, now time.Time) (time.Duration, bool) {
	if r.LastSenderReport == 0 {
		return 0, false
	}
	const ntpEpoch = 2208988800 // 1970 in NTP's seconds
	ntp := uint64(now.Unix()+ntpEpoch)<<32 | uint64(now.Nanosecond())<<32/uint64(time.Second)
	d := int32(uint32(ntp>>16) - r.LastSenderReport - r.Delay)
	if d < 0 || d > 10<<16 {
		return 0, false
	}
	return time.Duration(d) * time.Second >> 16, true
}
