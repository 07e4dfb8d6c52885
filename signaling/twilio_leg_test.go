package signaling

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"parley/media"
)

// loopConn gives the same bytes for ever and swallows what is written.
type loopConn struct {
	net.Conn
	in    []byte
	at    int
	wrote atomic.Int64
}

func (c *loopConn) Read(b []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.in[c.at:])
	c.at = (c.at + n) % len(c.in)
	return n, nil
}

func (c *loopConn) Write(b []byte) (int, error) {
	c.wrote.Add(int64(len(b)))
	return len(b), nil
}

func (c *loopConn) Close() error                     { return nil }
func (c *loopConn) SetDeadline(time.Time) error      { return nil }
func (c *loopConn) SetReadDeadline(time.Time) error  { return nil }
func (c *loopConn) SetWriteDeadline(time.Time) error { return nil }

// hijacked is a ResponseWriter over a conn.
type hijacked struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// legOn returns a leg whose peer sends messages, masked as a client's, for ever.
func legOn(t testing.TB, messages ...[]byte) (*twilioLeg, *loopConn) {
	t.Helper()
	conn := &loopConn{}
	for _, m := range messages {
		conn.in = append(conn.in, 0x81, 0x80|126)
		conn.in = binary.BigEndian.AppendUint16(conn.in, uint16(len(m)))
		conn.in = append(append(conn.in, 0, 0, 0, 0), m...) // a mask of zeros
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
	up := websocket.Upgrader{}
	ws, err := up.Upgrade(hijacked{httptest.NewRecorder(), conn}, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return newTwilioLeg(ws, "MZ00000000000000000000000000000001", &TwilioMetrics{}), conn
}

func TestLegDoesNotAllocate(t *testing.T) {
	l, _ := legOn(t, mediaIn)
	audio := make([]byte, 800)
	frame := make([]byte, frameBytes)
	_ = l.Write(audio)
	var msg []byte
	now := time.Now()
	tests := []struct {
		name string
		most float64
		f    func()
	}{
		{"write", 0, func() { _ = l.Write(audio) }},
		{"mark", 0, func() { _ = l.Mark(7) }},
		{"flush", 0, func() { _ = l.Flush() }},
		{"read-frame", 0, func() {
			l.in.push(frame)
			l.time.due = time.Time{} // neither early nor late
			l.time.heard = false
			if _, err := l.ReadFrame(); err != nil {
				t.Fatal(err)
			}
		}},
		// The websocket library makes a reader of 8 bytes for each message.
		{"receive", 1, func() {
			_, r, err := l.conn.NextReader()
			if err != nil {
				t.Fatal(err)
			}
			msg, _ = readInto(msg, r)
			now = now.Add(media.Ptime)
			if end := l.take(websocket.TextMessage, msg, now); end != "" {
				t.Fatal(end)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if n := testing.AllocsPerRun(200, tt.f); n > tt.most {
				t.Errorf("allocates %v times, want at most %v", n, tt.most)
			}
		})
	}
}

// Whatever comes and when, ReadFrame gives a frame every 20 ms of our clock.
func TestReadFrameKeepsOurClock(t *testing.T) {
	type arrival struct {
		at     time.Duration
		frames int
		loud   bool
	}
	every := func(from, to, step time.Duration, loud bool) (a []arrival) {
		for at := from; at < to; at += step {
			a = append(a, arrival{at, 1, loud})
		}
		return a
	}
	ms := time.Millisecond
	tests := []struct {
		name     string
		arrivals []arrival
		least    int // frames given by the last arrival's time
		most     int
	}{
		{"steady", every(0, 10*time.Second, 20*ms, true), 498, 501},
		{"lost", append(every(0, 5*time.Second, 20*ms, true), arrival{10 * time.Second, 1, true}), 494, 502},
		{"never-begins", []arrival{{10 * time.Second, 1, true}}, 494, 502},
		{"fast-clock", every(0, 60*time.Second, 19900*time.Microsecond, false), 2998, 3002},
		{"slow-clock", every(0, 60*time.Second, 20100*time.Microsecond, false), 2992, 3002},
		{"in-tens", func() (a []arrival) {
			for at := time.Duration(0); at < 10*time.Second; at += 100 * ms {
				a = append(a, arrival{at, 5, true})
			}
			return a
		}(), 495, 506},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, _ := legOn(t)
				given := 0
				done := make(chan struct{})
				go func() {
					defer close(done)
					for {
						if _, err := l.ReadFrame(); err != nil {
							return
						}
						given++
					}
				}()
				frame := map[bool][]byte{false: make([]byte, frameBytes), true: make([]byte, frameBytes)}
				for i := range frameBytes {
					frame[true][i], frame[false][i] = byte(i%2)<<7, silence
				}
				start := time.Now()
				for _, a := range tt.arrivals {
					time.Sleep(time.Until(start.Add(a.at)))
					for range a.frames {
						l.in.push(frame[a.loud])
					}
				}
				synctest.Wait()
				if given < tt.least || given > tt.most {
					t.Errorf("gave %d frames in %v, want %d to %d", given, time.Since(start), tt.least, tt.most)
				}
				l.in.end(true)
				<-done
			})
		})
	}
}

func TestFrameQueue(t *testing.T) {
	q := newFrameQueue()
	var sent, got []byte
	for i := range 40 { // odd sizes are put together again
		piece := make([]byte, 1+i*7%331)
		for j := range piece {
			piece[j] = byte(len(sent) + j)
		}
		sent = append(sent, piece...)
		if n := q.push(piece); n != 0 {
			t.Fatalf("dropped %d frames", n)
		}
		var f [frameBytes]byte
		for ok, _ := q.pop(&f); ok; ok, _ = q.pop(&f) {
			got = append(got, f[:]...)
		}
	}
	if len(sent)-len(got) >= frameBytes || string(got) != string(sent[:len(got)]) {
		t.Errorf("%d bytes came out of %d, or others", len(got), len(sent))
	}

	q = newFrameQueue()
	if n := q.push(make([]byte, (backlogMax+3)*frameBytes)); n != 3 {
		t.Errorf("dropped %d frames of 1.06 s, want 3", n)
	}
	var f [frameBytes]byte
	q.end(false)
	for range backlogMax {
		if ok, _ := q.pop(&f); !ok {
			t.Fatal("what was there at the end is lost")
		}
	}
	if ok, over := q.pop(&f); ok || !over {
		t.Error("the queue does not end")
	}
}

func TestWriteSplits(t *testing.T) {
	l, conn := legOn(t)
	before := conn.wrote.Load()
	if err := l.Write(make([]byte, 2*maxMessage)); err != nil {
		t.Fatal(err)
	}
	n := conn.wrote.Load() - before
	_ = l.Write(make([]byte, maxMessage))
	if one := conn.wrote.Load() - before - n; n != 2*one {
		t.Errorf("400 ms took %d bytes, want two messages of %d", n, one)
	}
	if info := l.Info(); info.Rate != 8000 || info.Encoding != media.PCMU || !info.Marks || info.Screen {
		t.Errorf("info = %+v", info)
	}
}

// No sequence of messages breaks a leg.
func FuzzLegMessages(f *testing.F) {
	f.Add(mediaIn, markIn)
	f.Add([]byte(`{"event":"stop"}`), []byte(`{"event":"start","start":{}}`))
	f.Add([]byte(`{"event":"dtmf","dtmf":{"digit":"D"}}`), []byte("\x00"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		l, _ := legOn(t)
		for range 3 {
			l.handle(a)
			l.handle(b)
		}
		l.in.end(false)
		l.time.due = time.Now()
		for {
			if _, err := l.ReadFrame(); err != nil {
				return
			}
		}
	})
}

func BenchmarkLegWrite100ms(b *testing.B) {
	l, _ := legOn(b)
	audio := make([]byte, 800)
	b.ReportAllocs()
	for b.Loop() {
		_ = l.Write(audio)
	}
}

func BenchmarkLegReceive(b *testing.B) {
	l, _ := legOn(b, mediaIn)
	var msg []byte
	b.ReportAllocs()
	for b.Loop() {
		_, r, err := l.conn.NextReader()
		if err != nil {
			b.Fatal(err)
		}
		msg, _ = readInto(msg, r)
		l.handle(msg)
	}
}
