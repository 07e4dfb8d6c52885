package signaling

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"

	"parley/media"
)

// An rtcLeg is a browser's audio, both ways, and its data channel.
type rtcLeg struct {
	w     *WebRTC
	pc    *webrtc.PeerConnection
	codec webrtc.RTPCodecCapability
	in    *rtcInbound
	out   *rtcOutbound
	data  rtcChannel

	events *rtcEvents
	up     chan struct{} // closed when DTLS is up
	done   chan struct{} // closed when the leg has ended, for whatever reason
	gone   chan struct{} // closed when nothing of it is left
	tasks  sync.WaitGroup

	ticks ticks // of ReadFrame
	frame []int16

	who string // has it; set before the offer is answered

	teardownOnce sync.Once

	mu     sync.Mutex // guards what follows
	ended  bool
	isUp   bool
	away   bool
	why    string
	flood  flood         // of the data channel
	played bool          // the page reports what it plays
	trip   time.Duration // half the round trip that RTCP measured, 0 before
}

var _ media.Leg = (*rtcLeg)(nil)

// newRTCLeg prepares pc, which it then owns.
func newRTCLeg(w *WebRTC, pc *webrtc.PeerConnection, codec webrtc.RTPCodecCapability) (*rtcLeg, error) {
	l := &rtcLeg{
		w: w, pc: pc, codec: codec, events: newRTCEvents(),
		up: make(chan struct{}), done: make(chan struct{}), gone: make(chan struct{}),
		frame: make([]int16, media.OpusRate/50),
		flood: rtcFlood(),
	}
	in, err := newRTCInbound(codec, &w.opus)
	if err != nil {
		return nil, err
	}
	l.in = in
	track, err := webrtc.NewTrackLocalStaticRTP(codec, "audio", "agent")
	if err != nil {
		return nil, fmt.Errorf("new track: %w", err)
	}
	l.out = newRTCOutbound(track, codec, &w.opus)
	sender, err := pc.AddTrack(track)
	if err != nil {
		return nil, fmt.Errorf("add track: %w", err)
	}
	for _, t := range pc.GetTransceivers() {
		if err := t.SetCodecPreferences(rtcPrefer(codec)); err != nil {
			return nil, fmt.Errorf("prefer codec: %w", err)
		}
	}
	go l.events.run() // teardown waits for it
	pc.OnTrack(func(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
		l.task(func() { l.receive(t, r) })
		l.task(func() { pass(r) })
	})
	pc.OnDataChannel(l.onDataChannel)
	pc.OnConnectionStateChange(l.onState)
	l.task(func() { l.reports(sender) })
	return l, nil
}

// task runs f as one of the leg's own, unless that has ended.
func (l *rtcLeg) task(f func()) {
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return
	}
	l.tasks.Add(1)
	l.mu.Unlock()
	go func() {
		defer l.tasks.Done()
		f()
	}()
}

// Info implements [media.Leg].
func (l *rtcLeg) Info() media.LegInfo {
	return media.LegInfo{Carrier: carrierWebRTC, Rate: media.OpusRate, Encoding: media.L16, Screen: true}
}

// Events implements [media.Leg].
func (l *rtcLeg) Events() <-chan media.LegEvent { return l.events.out }

// ReadFrame implements [media.Leg].
func (l *rtcLeg) ReadFrame() (media.Frame, error) {
	due, skipped, ok := l.ticks.wait(l.done)
	if !ok {
		return media.Frame{}, io.EOF
	}
	l.in.next(l.frame, due)
	l.out.rest(due)
	return media.Frame{Rate: media.OpusRate, PCM: l.frame, Skipped: skipped}, nil
}

// Write implements [media.Leg].
func (l *rtcLeg) Write(audio []byte) error {
	if l.over() {
		return media.ErrClosed
	}
	return l.out.write(audio, time.Now())
}

// Mark implements [media.Leg]: there are none.
func (l *rtcLeg) Mark(uint64) error {
	if l.over() {
		return media.ErrClosed
	}
	return nil
}

// Flush implements [media.Leg]: what was written is on the wire already.
func (l *rtcLeg) Flush() error { return l.Mark(0) }

// Notify implements [media.Leg].
func (l *rtcLeg) Notify(event []byte) {
	if !l.over() && !l.data.send(event) {
		l.drop("notify")
	}
}

// Close implements [media.Leg].
func (l *rtcLeg) Close(reason string) error {
	l.end(reason)
	return l.teardown()
}

// end closes the leg without waiting; it may be called from the library's own
// goroutines.
func (l *rtcLeg) end(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.ended, l.why = true, reason
	l.events.put(media.LegEvent{Kind: media.HungUp, At: time.Now(), Reason: reason})
	close(l.done)
}

// teardown waits, for at most 2 s, until nothing of an ended leg runs.
func (l *rtcLeg) teardown() error {
	ctx, cancel := context.WithTimeout(context.Background(), rtcTeardown)
	defer cancel()
	l.teardownOnce.Do(func() {
		go func() { // events.closed tells of its end
			l.data.flush(rtcLastWords)
			_ = l.pc.GracefulClose() // its errors are of transports that are going anyway
			l.tasks.Wait()
			l.in.close()
			l.out.close()
			l.events.close()
		}()
	})
	select {
	case <-l.events.closed:
	case <-ctx.Done():
		return fmt.Errorf("close webrtc leg: %w", ctx.Err())
	}
	return nil
}

func (l *rtcLeg) over() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

func (l *rtcLeg) reason() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

func (l *rtcLeg) drop(what string) {
	if l.w.o.Metrics.Dropped != nil {
		l.w.o.Metrics.Dropped(what)
	}
}

// onState follows the connection.
func (l *rtcLeg) onState(state webrtc.PeerConnectionState) {
	switch state {
	case webrtc.PeerConnectionStateConnected:
		l.connected()
	case webrtc.PeerConnectionStateDisconnected:
		l.mu.Lock()
		tell := l.isUp && !l.away && !l.ended
		l.away = true
		l.mu.Unlock()
		if tell {
			l.events.put(media.LegEvent{Kind: media.Away, At: time.Now()})
		}
	case webrtc.PeerConnectionStateFailed:
		l.end("network")
	case webrtc.PeerConnectionStateClosed:
		l.end("caller") // by DTLS close_notify; our own close has ended the leg before
	}
}

func (l *rtcLeg) connected() {
	l.mu.Lock()
	first, back := !l.isUp && !l.ended, l.away && l.isUp && !l.ended
	l.isUp, l.away = l.isUp || first, false
	if first {
		close(l.up)
	}
	l.mu.Unlock()
	if back {
		l.events.put(media.LegEvent{Kind: media.Back, At: time.Now()})
	}
}
