package media

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A plainDecoder's packets are L16 at 16 kHz; the sample values count time, so
// that a test sees what was played. Concealed samples are -1, recovered ones -2.
type plainDecoder struct{ fec bool }

func (d plainDecoder) Samples(p []byte) int {
	if len(p) == 1 {
		return 320
	}
	return len(p) / 2
}
func (d plainDecoder) Silent(p []byte) bool { return len(p) == 1 }
func (d plainDecoder) Carries([]byte) bool  { return d.fec }
func (d plainDecoder) Conceal(dst []int16)  { fill(dst, -1) }
func (d plainDecoder) Reset()               {}
func (d plainDecoder) Recover(dst []int16, _ []byte) error {
	fill(dst, -2)
	return nil
}

func (d plainDecoder) Decode(dst []int16, p []byte) (int, error) {
	if len(p) == 1 {
		clear(dst)
		return len(dst), nil
	}
	for i := range dst {
		dst[i] = int16(binary.LittleEndian.Uint16(p[2*i:]))
	}
	return len(dst), nil
}

func fill(dst []int16, v int16) {
	for i := range dst {
		dst[i] = v
	}
}

var jitterEpoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// A line is a far end in virtual time: packets with their time of arrival.
type line struct {
	packets []arrival
}

type arrival struct {
	at time.Duration
	p  RTPPacket
}

// loud makes a payload of n samples that is speech to the buffer.
func loud(n int, v int16) []byte {
	b := make([]byte, 2*n)
	for i := range n {
		binary.LittleEndian.PutUint16(b[2*i:], uint16(v))
	}
	return b
}

// run plays the line for d and gives each frame to f.
func (l *line) run(j *Jitter, d time.Duration, f func(at time.Duration, pcm []int16)) JitterStats {
	slices.SortStableFunc(l.packets, func(a, b arrival) int { return int(a.at - b.at) })
	pcm := make([]int16, 320)
	at := 7 * time.Millisecond
	for ; at < d; at += Ptime {
		for len(l.packets) > 0 && l.packets[0].at <= at {
			j.Push(l.packets[0].p, jitterEpoch.Add(l.packets[0].at))
			l.packets = l.packets[1:]
		}
		j.Next(pcm, jitterEpoch.Add(at))
		if f != nil {
			f(at, pcm)
		}
	}
	return j.Stats(jitterEpoch.Add(at))
}

func newTestJitter(fec bool) *Jitter {
	return NewJitter(JitterOptions{Decoder: plainDecoder{fec}, Clock: 48000, Rate: 16000})
}

// speech adds packets of ptime for d; drift is how fast the far clock runs in
// parts per million. edit may change or drop (false) each.
func (l *line) speech(d, ptime time.Duration, drift float64, edit func(i int, a *arrival) bool) {
	step := uint32(Samples(ptime, 48000))
	var seq uint16 = 65530 // wraps soon
	var ts uint32 = 1<<32 - 48000
	for i := range int(d / ptime) {
		at := time.Duration(float64(i) * float64(ptime) * (1 - drift*1e-6))
		a := arrival{at, RTPPacket{SSRC: 1, Seq: seq, Timestamp: ts, Payload: loud(int(Samples(ptime, 16000)), int16(1000+i%20000))}}
		if edit == nil || edit(i, &a) {
			l.packets = append(l.packets, a)
		}
		seq++
		ts += step
	}
}

func TestJitterGivesAllInOrder(t *testing.T) {
	for _, ptime := range []time.Duration{10, 20, 40, 60} {
		ptime *= time.Millisecond
		t.Run(ptime.String(), func(t *testing.T) {
			j, l := newTestJitter(false), line{}
			rng := rand.New(rand.NewPCG(1, uint64(ptime)))
			l.speech(20*time.Second, ptime, 0, func(_ int, a *arrival) bool {
				a.at += time.Duration(rng.IntN(18)) * time.Millisecond // overtakes at 10 ms
				return true
			})
			total, last := 0, int16(999)
			s := l.run(j, 20*time.Second, func(at time.Duration, pcm []int16) {
				for _, v := range pcm {
					if v >= 1000 {
						if v < last || v > last+1 {
							t.Fatalf("%d after %d at %v", v, last, at)
						}
						last = v
						total++
					}
				}
			})
			if s.Lost+s.Late+s.Concealed+s.Overrun+s.Malformed+s.Resets != 0 {
				t.Errorf("stats %+v", s)
			}
			if want := 16000*20 - 16000/5; total < want {
				t.Errorf("%d samples played, want over %d", total, want)
			}
			if s.Delay > 85*time.Millisecond {
				t.Errorf("delay %v", s.Delay)
			}
		})
	}
}

func TestJitterLoss(t *testing.T) {
	for _, tc := range []struct {
		percent int
		fec     bool
	}{{0, false}, {1, false}, {5, true}, {10, true}, {20, true}, {20, false}} {
		j, l := newTestJitter(tc.fec), line{}
		rng := rand.New(rand.NewPCG(3, uint64(tc.percent)))
		lost := 0
		l.speech(60*time.Second, Ptime, 0, func(i int, a *arrival) bool {
			a.at += time.Duration(rng.IntN(15)) * time.Millisecond
			if i > 10 && i < 2990 && rng.IntN(100) < tc.percent {
				lost++
				return false
			}
			return true
		})
		real := 0
		s := l.run(j, 60*time.Second, func(_ time.Duration, pcm []int16) {
			for _, v := range pcm {
				if v >= 1000 {
					real++
				}
			}
		})
		t.Logf("%d %% FEC %v: %+v", tc.percent, tc.fec, s)
		if int(s.Lost) != lost || s.Late != 0 {
			t.Errorf("%d %%: lost %d, late %d; want %d, 0", tc.percent, s.Lost, s.Late, lost)
		}
		if want := (3000 - lost) * 320; real < want*99/100 {
			t.Errorf("%d %%: %d real samples played, want about %d", tc.percent, real, want)
		}
		if tc.fec && int(s.Recovered) < lost*7/10 {
			t.Errorf("%d %%: recovered %d of %d lost", tc.percent, s.Recovered, lost)
		}
		if got, most := int(s.Concealed), lost*320*12/10; !tc.fec && got > most {
			t.Errorf("%d %%: concealed %d samples, want at most %d", tc.percent, got, most)
		}
		if s.Delay > 100*time.Millisecond {
			t.Errorf("%d %%: delay %v", tc.percent, s.Delay)
		}
	}
}

// Over an hour with a far clock off by 200 ppm, in speech with pauses, the delay
// stays and no sample of speech is lost.
func TestJitterDrift(t *testing.T) {
	for _, ppm := range []float64{-200, 0, 200} {
		j, l := newTestJitter(false), line{}
		rng := rand.New(rand.NewPCG(5, 5))
		spoken := 0
		l.speech(time.Hour, Ptime, ppm, func(i int, a *arrival) bool {
			a.at += time.Duration(rng.ExpFloat64()*3) * time.Millisecond
			if i%200 >= 150 { // 1 s of silence after 3 s of speech
				clear(a.p.Payload)
			} else {
				spoken += 320
			}
			return true
		})
		heard, worst := 0, time.Duration(0)
		s := l.run(j, time.Duration(float64(time.Hour)*(1-ppm*1e-6)), func(at time.Duration, pcm []int16) {
			for _, v := range pcm {
				if v >= 1000 {
					heard++
				}
			}
			worst = max(worst, j.Stats(jitterEpoch.Add(at)).Delay)
		})
		t.Logf("%+.0f ppm: %+v, worst delay %v, %d of %d samples", ppm, s, worst, heard, spoken)
		if lack := spoken - heard; lack > 320*10 || lack < 0 {
			t.Errorf("%+.0f ppm: %d of %d samples of speech played", ppm, heard, spoken)
		}
		if worst > 100*time.Millisecond {
			t.Errorf("%+.0f ppm: delay reached %v, want at most 100 ms", ppm, worst)
		}
		if d := s.Drift - ppm; d > 20 || d < -20 {
			t.Errorf("%+.0f ppm: measured %+.1f", ppm, s.Drift)
		}
	}
}

// A stall delivers late but whole: nothing is lost, and the delay goes in the
// next silence.
func TestJitterStall(t *testing.T) {
	j, l := newTestJitter(false), line{}
	l.speech(10*time.Second, Ptime, 0, func(i int, a *arrival) bool {
		if a.at > 2*time.Second && a.at < 2400*time.Millisecond {
			a.at = 2400 * time.Millisecond
		}
		if i >= 200 && i < 260 {
			clear(a.p.Payload)
		}
		return true
	})
	heard := 0
	var before, after time.Duration
	s := l.run(j, 10*time.Second, func(at time.Duration, pcm []int16) {
		for _, v := range pcm {
			if v >= 1000 {
				heard++
			}
		}
		if at < 3*time.Second {
			before = j.Stats(jitterEpoch.Add(at)).Delay
		}
		after = j.Stats(jitterEpoch.Add(at)).Delay
	})
	if s.Lost != 0 || s.Late != 0 || heard < (500-60)*320-320*6 {
		t.Errorf("heard %d of %d, %+v", heard, (500-60)*320, s)
	}
	if before < 300*time.Millisecond || after > 80*time.Millisecond {
		t.Errorf("delay %v after the stall and %v after the silence, want over 300 ms, then at most 80 ms", before, after)
	}
}

func TestJitterBurstLoss(t *testing.T) {
	j, l := newTestJitter(false), line{}
	l.speech(10*time.Second, Ptime, 0, func(i int, _ *arrival) bool { return i%100 < 50 || i%100 >= 58 })
	s := l.run(j, 10*time.Second, nil)
	if s.Lost != 40 || s.Late != 0 || s.Resets != 0 {
		t.Errorf("%+v, want 40 lost", s)
	}
	if want := uint64(40 * 320); s.Concealed < want*9/10 || s.Concealed > want*13/10 {
		t.Errorf("concealed %d samples, want about %d", s.Concealed, want)
	}
}

// A jump of the timestamp without one of the sequence is silence, not loss.
func TestJitterDTX(t *testing.T) {
	for _, told := range []bool{false, true} {
		j, l := newTestJitter(false), line{}
		var seq uint16
		for i := range 500 {
			quiet := i%100 >= 40 && i%100 < 80
			if quiet && (i%100 > 40 || !told) {
				continue
			}
			p := RTPPacket{SSRC: 1, Seq: seq, Timestamp: uint32(i) * 960, Payload: loud(320, 2000)}
			if quiet {
				p.Payload = []byte{0}
			}
			l.packets = append(l.packets, arrival{time.Duration(i) * Ptime, p})
			seq++
		}
		heard := 0
		s := l.run(j, 10*time.Second, func(_ time.Duration, pcm []int16) {
			for _, v := range pcm {
				if v == 2000 {
					heard++
				}
			}
		})
		t.Logf("told %v: %+v", told, s)
		if s.Lost != 0 || s.Late != 0 || s.Concealed > 320*5 {
			t.Errorf("told %v: %+v, want neither loss nor concealment", told, s)
		}
		if heard < 300*320-320*5 {
			t.Errorf("told %v: heard %d of %d", told, heard, 300*320)
		}
		if s.Noise < 160*320 {
			t.Errorf("told %v: %d samples of noise", told, s.Noise)
		}
	}
}

func TestJitterNewStream(t *testing.T) {
	for name, change := range map[string]func(p *RTPPacket){
		"ssrc":      func(p *RTPPacket) { p.SSRC = 2; p.Seq += 30000; p.Timestamp += 1 << 30 },
		"seq":       func(p *RTPPacket) { p.Seq += 30000; p.Timestamp += 1 << 30 },
		"timestamp": func(p *RTPPacket) { p.Seq += 1; p.Timestamp += 1 << 30 },
	} {
		j, l := newTestJitter(false), line{}
		l.speech(4*time.Second, Ptime, 0, func(i int, a *arrival) bool {
			if i >= 100 {
				change(&a.p)
			}
			return true
		})
		heard := 0
		s := l.run(j, 4*time.Second, func(_ time.Duration, pcm []int16) {
			for _, v := range pcm {
				if v >= 1000 {
					heard++
				}
			}
		})
		if s.Resets != 1 || heard < 190*320 {
			t.Errorf("%s: heard %d of %d, %+v", name, heard, 200*320, s)
		}
	}
}

func TestJitterG711(t *testing.T) {
	d, err := NewPCMUDecoder()
	if err != nil {
		t.Fatal(err)
	}
	j := NewJitter(JitterOptions{Decoder: d, Clock: 8000, Rate: 16000})
	l := line{}
	for i := range 100 {
		pcm := make([]int16, 160)
		fill(pcm, 3000)
		if i%20 != 19 {
			l.packets = append(l.packets, arrival{time.Duration(i) * Ptime, RTPPacket{Seq: uint16(i), Timestamp: uint32(i) * 160, Payload: EncodePCMU(nil, pcm)}})
		}
	}
	s := l.run(j, 2*time.Second, nil)
	if s.Lost != 4 || s.Malformed != 0 || s.Received != 95 {
		t.Errorf("%+v", s)
	}
}

func TestJitterAllocatesNothing(t *testing.T) {
	j := newTestJitter(true)
	payload, pcm := loud(320, 1000), make([]int16, 320)
	i := 0
	step := func() {
		at := jitterEpoch.Add(time.Duration(i) * Ptime)
		if i%10 != 9 {
			j.Push(RTPPacket{Seq: uint16(i), Timestamp: uint32(i) * 960, Payload: payload}, at)
		}
		j.Next(pcm, at.Add(time.Millisecond))
		i++
	}
	for range 200 {
		step()
	}
	if got := testing.AllocsPerRun(500, step); got != 0 {
		t.Errorf("%.1f allocations a frame, want 0", got)
	}
}

// FuzzJitter holds that nothing a far end sends breaks the buffer or makes it
// loop: every tick gives a frame.
func FuzzJitter(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
	f.Add([]byte{255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 1, 0, 128, 0, 0, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := NewOpusDecoder()
		if err != nil {
			t.Fatal(err)
		}
		j := NewJitter(JitterOptions{Decoder: d, Clock: 48000, Rate: 16000})
		now, pcm := jitterEpoch, make([]int16, 320)
		for len(b) >= 8 {
			n := min(int(b[7])%40, len(b)-8)
			j.Push(RTPPacket{
				SSRC: uint32(b[0] & 1), Seq: binary.LittleEndian.Uint16(b[1:]),
				Timestamp: binary.LittleEndian.Uint32(b[3:]), Payload: b[8 : 8+n],
			}, now)
			if b[0]&2 == 0 {
				now = now.Add(time.Duration(b[0]>>2) * time.Millisecond)
				j.Next(pcm, now)
			}
			b = b[8+n:]
		}
		for range 10 {
			now = now.Add(Ptime)
			j.Next(pcm, now)
		}
		if s := j.Stats(now); cap(j.fifo) > 16000 || j.held > jitterSlots {
			t.Errorf("holds %d samples, %d packets: %+v", cap(j.fifo), j.held, s)
		}
	})
}

func BenchmarkJitter(b *testing.B) {
	e, d := mustOpus(b)
	packets := encodeAll(b, e, voiced(OpusRate))
	j := NewJitter(JitterOptions{Decoder: d, Clock: OpusClock, Rate: OpusRate})
	pcm, i := make([]int16, opusFrame), 0
	for b.Loop() {
		at := jitterEpoch.Add(time.Duration(i) * Ptime)
		j.Push(RTPPacket{Seq: uint16(i), Timestamp: uint32(i) * 960, Payload: packets[i%50]}, at)
		j.Next(pcm, at.Add(time.Millisecond))
		i++
	}
}
