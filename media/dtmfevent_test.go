package media

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
)

func TestParseTelephoneEvent(t *testing.T) {
	e, err := ParseTelephoneEvent([]byte{11, 0x80 | 0x40 | 10, 0x03, 0x20})
	if want := (TelephoneEvent{Event: 11, End: true, Volume: 10, Duration: 800}); err != nil || e != want {
		t.Errorf("got %+v, %v, want %+v", e, err, want)
	}
	if d, ok := e.Digit(); d != '#' || !ok {
		t.Errorf("digit of event 11: got %q, %v", d, ok)
	}
	if _, ok := (TelephoneEvent{Event: 16}).Digit(); ok {
		t.Error("a hook flash is no digit")
	}
	for n := range 9 {
		if _, err := ParseTelephoneEvent(make([]byte, n)); (err == nil) != (n == 4) || err != nil && !errors.Is(err, ErrTelephoneEvent) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

type eventPacket struct {
	timestamp uint32
	payload   []byte
}

// pressPackets is one press as RFC 4733 §2.5.1 sends it: a packet every 20 ms,
// the last three times, and after each 0xffff units a new segment.
func pressPackets(timestamp uint32, event byte, duration int) []eventPacket {
	packet := func(end bool, d int) eventPacket {
		b := []byte{event, 10, 0, 0}
		if end {
			b[1] |= 0x80
		}
		binary.BigEndian.PutUint16(b[2:], uint16(d))
		return eventPacket{timestamp, b}
	}
	var packets []eventPacket
	for d := 160; d < duration; d += 160 {
		if d > 0xffff {
			packets = append(packets, packet(false, 0xffff))
			timestamp += 0xffff
			duration -= 0xffff
			d -= 0xffff
		}
		packets = append(packets, packet(false, d))
	}
	for range 3 {
		packets = append(packets, packet(true, duration))
	}
	return packets
}

func TestEventDecoderGivesOneDigitWhateverIsLost(t *testing.T) {
	const digits = "0123456789*#ABCD"
	rng := rand.New(rand.NewPCG(1, 1))
	for round := range 500 {
		var d EventDecoder
		timestamp := rng.Uint32() // also near the wrap
		for range 8 {
			event := byte(rng.IntN(16))
			packets := pressPackets(timestamp, event, 400+rng.IntN(2000))
			survivor := rng.IntN(len(packets))
			count := 0
			for i, p := range packets {
				if i != survivor && rng.IntN(2) == 0 {
					continue
				}
				if digit, ok := d.Packet(p.timestamp, p.payload); ok {
					count++
					if digit != digits[event] {
						t.Fatalf("round %d: got %c, want %c", round, digit, digits[event])
					}
				}
			}
			if count != 1 {
				t.Fatalf("round %d: %d digits for one press", round, count)
			}
			timestamp += 4000 + uint32(rng.IntN(40000))
		}
	}
}

func TestEventDecoder(t *testing.T) {
	type step struct {
		timestamp uint32
		payload   []byte
		want      byte // 0 for none
	}
	five, end5, six := []byte{5, 10, 0, 160}, []byte{5, 0x8a, 0, 160}, []byte{6, 10, 0, 160}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"same key twice", []step{{1000, five, '5'}, {1000, end5, 0}, {3000, five, '5'}}},
		{"overtaken", []step{{1000, five, '5'}, {3000, six, '6'}, {1000, end5, 0}, {3000, six, 0}}},
		{"around the wrap", []step{{0xfffffff0, five, '5'}, {100, six, '6'}, {0xfffffff0, end5, 0}}},
		{"timestamp zero", []step{{0, five, '5'}, {0, end5, 0}}},
		{"long press", []step{{1000, five, '5'}, {1000 + 0xffff, five, 0}, {1000 + 2*0xffff, end5, 0}, {90000 + 2*0xffff, five, '5'}}},
		{"long press, a segment lost", []step{{1000, five, '5'}, {1000 + 2*0xffff, five, 0}}},
		{"ended, then the same key a segment later", []step{{1000, end5, '5'}, {1000 + 0xffff, five, '5'}}},
		{"sender began anew", []step{{3_000_000_000, five, '5'}, {2_000_000_000, six, '6'}}},
		{"flash between", []step{{1000, five, '5'}, {2000, []byte{16, 10, 0, 160}, 0}, {1000, end5, 0}}},
		{"malformed", []step{{1000, nil, 0}, {1000, []byte{5, 10, 0}, 0}, {1000, five, '5'}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var d EventDecoder
			for i, s := range tt.steps {
				if got, ok := d.Packet(s.timestamp, s.payload); got != s.want || ok != (s.want != 0) {
					t.Fatalf("packet %d: got %q, %v, want %q", i, got, ok, s.want)
				}
			}
		})
	}
}

func TestLongPressIsOneDigit(t *testing.T) {
	var d EventDecoder
	count := 0
	for _, p := range pressPackets(77, 9, 30*8000) {
		if _, ok := d.Packet(p.timestamp, p.payload); ok {
			count++
		}
	}
	if count != 1 {
		t.Errorf("%d digits for one press of 30 s", count)
	}
}

func FuzzEventDecoder(f *testing.F) {
	f.Add(uint32(0), []byte{1, 0, 0, 160}, uint32(0), []byte{1, 0x80, 1, 64})
	f.Add(uint32(1<<31), []byte{16, 0, 0, 160}, uint32(5), []byte{})
	f.Add(uint32(9), []byte{5, 0, 255, 255}, uint32(9+0xffff), []byte{5, 0, 0, 160})
	f.Fuzz(func(t *testing.T, t1 uint32, p1 []byte, t2 uint32, p2 []byte) {
		var d EventDecoder
		for _, p := range []eventPacket{{t1, p1}, {t2, p2}} {
			if digit, ok := d.Packet(p.timestamp, p.payload); ok != (digit != 0) {
				t.Fatalf("digit %q, %v", digit, ok)
			}
			if _, ok := d.Packet(p.timestamp, p.payload); ok {
				t.Fatal("the same packet gave two digits")
			}
		}
	})
}
