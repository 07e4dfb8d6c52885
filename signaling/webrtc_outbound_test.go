package signaling

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"parley/media"
)

type packetLog []rtp.Packet

func (l *packetLog) WriteRTP(p *rtp.Packet) error {
	c := *p
	c.Payload = append([]byte(nil), p.Payload...)
	*l = append(*l, c)
	return nil
}

func toneFrame(i int) []byte {
	b := make([]byte, rtcFrameBytes)
	for k := range rtcFrameSamples {
		v := int16(8000 * math.Sin(2*math.Pi*440*float64(i*rtcFrameSamples+k)/media.OpusRate))
		binary.LittleEndian.PutUint16(b[2*k:], uint16(v))
	}
	return b
}

func TestOutboundTimestamps(t *testing.T) {
	var log packetLog
	var pool media.OpusPool
	o := newRTCOutbound(&log, rtcOpus, &pool)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	speak := func(frames int) {
		for i := range frames {
			if err := o.write(toneFrame(i), now); err != nil {
				t.Fatal(err)
			}
			now = now.Add(media.Ptime)
			o.rest(now)
		}
	}
	speak(10)
	for range 100 { // two seconds of nothing
		now = now.Add(media.Ptime)
		o.rest(now)
	}
	second := len(log)
	speak(10)
	if !log[0].Marker || log[1].Marker || !log[second].Marker || log[second+1].Marker {
		t.Error("the marker bit stands elsewhere than at the beginning of a spurt")
	}
	if second > 10+rtcTail {
		t.Errorf("%d packets for 10 frames and their tail", second)
	}
	for i := 1; i < len(log); i++ {
		if log[i].SequenceNumber != log[i-1].SequenceNumber+1 {
			t.Errorf("packet %d has sequence number %d after %d", i, log[i].SequenceNumber, log[i-1].SequenceNumber)
		}
	}
	if got := log[second].Timestamp - log[0].Timestamp; got != 110*960 {
		t.Errorf("the second spurt is %d later, want %d", got, 110*960)
	}
	for _, tc := range []struct {
		ts   uint32
		want int64
	}{
		{log[0].Timestamp, 0},
		{log[0].Timestamp + 480, 160},
		{log[9].Timestamp + 960, 3200},
		{log[9].Timestamp + 9600, 3200}, // in the pause all of the first was heard
		{log[second].Timestamp + 960, 3520},
		{log[second].Timestamp + 1<<20, 6400},
	} {
		if got, ok := o.position(tc.ts); !ok || got != tc.want {
			t.Errorf("position of %d: %d, %v; want %d", tc.ts, got, ok, tc.want)
		}
	}
	if _, ok := o.position(log[0].Timestamp - 960); ok {
		t.Error("a timestamp never sent has a position")
	}
}

func TestOutboundRefusesPartFrames(t *testing.T) {
	var log packetLog
	o := newRTCOutbound(&log, rtcPCMU, &media.OpusPool{})
	if err := o.write(make([]byte, 100), time.Now()); err == nil {
		t.Error("part of a frame was taken")
	}
	if err := o.write(append(toneFrame(0), toneFrame(1)...), time.Now()); err != nil || len(log) != 2 || len(log[1].Payload) != 160 {
		t.Errorf("two frames gave %d packets, %v", len(log), err)
	}
}

func TestOutboundAllocatesNothing(t *testing.T) {
	var pool media.OpusPool
	o := newRTCOutbound(nowhere{}, rtcOpus, &pool)
	now, i := time.Now(), 0
	frame := toneFrame(0)
	step := func() {
		_ = o.write(frame, now.Add(time.Duration(i)*media.Ptime))
		i++
	}
	for range 100 {
		step()
	}
	if got := testing.AllocsPerRun(200, step); got != 0 {
		t.Errorf("%.1f allocations a frame, want 0", got)
	}
}

type nowhere struct{}

func (nowhere) WriteRTP(*rtp.Packet) error { return nil }

func TestRTCRoundTrip(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 500_000_000, time.UTC)
	ntp := func(at time.Time) uint32 {
		return uint32((at.Unix()+2208988800)<<16) | uint32(int64(at.Nanosecond())<<16/int64(time.Second))
	}
	got, ok := rtcRoundTrip(rtcp.ReceptionReport{
		LastSenderReport: ntp(now.Add(-180 * time.Millisecond)), Delay: 65536 / 10,
	}, now)
	if d := got - 80*time.Millisecond; !ok || d < -time.Millisecond || d > time.Millisecond {
		t.Errorf("round trip %v, %v; want 80ms", got, ok)
	}
	if _, ok := rtcRoundTrip(rtcp.ReceptionReport{}, now); ok {
		t.Error("a report without a sender report has a round trip")
	}
}

func TestEventsKeepOrderAndCoalesce(t *testing.T) {
	e := newRTCEvents()
	for i := range int64(1000) {
		e.put(media.LegEvent{Kind: media.Played, Position: i})
	}
	e.put(media.LegEvent{Kind: media.Digit, Digit: '1'})
	e.put(media.LegEvent{Kind: media.HungUp, Reason: "caller"})
	e.put(media.LegEvent{Kind: media.Digit, Digit: '2'})
	go e.run()
	go e.close()
	var got []media.LegEventKind
	for ev := range e.out {
		got = append(got, ev.Kind)
	}
	if len(got) != 3 || got[0] != media.Played || got[1] != media.Digit || got[2] != media.HungUp {
		t.Errorf("events %v, want played, digit, hung up", got)
	}
}

// FuzzSDPFragment holds that what the parser takes fits the limits, and that a
// restart made of it is still one description.
func FuzzSDPFragment(f *testing.F) {
	f.Add("a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=mid:0\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n")
	f.Add("v=0\r\n")
	f.Add("a=candidate:\n\n=")
	f.Fuzz(func(t *testing.T, body string) {
		fr, err := parseFragment(body)
		if err != nil {
			return
		}
		if len(fr.candidates) > rtcMaxCandidates {
			t.Errorf("%d candidates", len(fr.candidates))
		}
		o := rtcOffer{sdp: "v=0\r\nm=audio 9 x 0\r\na=mid:0\r\na=ice-ufrag:old0\r\n"}.restarted(fr)
		if o.candidates != len(fr.candidates) {
			t.Errorf("%d candidates put in, %d given", o.candidates, len(fr.candidates))
		}
		answerFragment(o.sdp)
	})
}
