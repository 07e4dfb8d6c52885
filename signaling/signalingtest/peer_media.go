package signalingtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"parley/media"
)

// speak sends what Audio gives, on the peer's clock.
func (p *Peer) speak() {
	if p.o.Audio == nil && p.o.Echo == (Echo{}) && p.o.Noise == (Noise{}) {
		return
	}
	send, release, err := p.encoder()
	if err != nil {
		return
	}
	defer release()
	pcm, silent := make([]int16, media.OpusRate/50), make([]int16, media.OpusRate/50)
	around := newRoom(p.o.Echo, p.o.Noise, media.OpusRate)
	packet := rtp.Packet{Header: rtp.Header{Version: 2, Marker: true}}
	step := p.codec().ClockRate / 50
	p.every(media.Ptime, func(time.Time) {
		packet.Timestamp += step
		speaks := p.o.Audio != nil && p.o.Audio(pcm)
		if around != nil {
			if !speaks {
				copy(pcm, silent)
			}
			p.mu.Lock()
			around.add(pcm, p.ear)
			p.mu.Unlock()
			speaks = true
		}
		if !speaks {
			packet.Marker = true
			return
		}
		packet.Payload = send(packet.Payload[:0], pcm)
		if len(packet.Payload) == 0 {
			return
		}
		packet.SequenceNumber++
		_ = p.track.WriteRTP(&packet) // a broken line is seen by its state
		packet.Marker = false
	})
}

// encoder returns how frames become payloads.
func (p *Peer) encoder() (func([]byte, []int16) []byte, func(), error) {
	if p.o.Codec == "PCMU" || p.o.Codec == "PCMA" {
		down, err := media.NewResampler(media.OpusRate, 8000)
		if err != nil {
			return nil, nil, err
		}
		law, narrow := media.EncodePCMU, []int16(nil)
		if p.o.Codec == "PCMA" {
			law = media.EncodePCMA
		}
		return func(dst []byte, pcm []int16) []byte {
			narrow = down.Process(narrow[:0], pcm)
			return law(dst, narrow)
		}, func() {}, nil
	}
	enc, err := p.opus.Encoder()
	if err != nil {
		return nil, nil, err
	}
	return func(dst []byte, pcm []int16) []byte {
		out, err := enc.Encode(dst, pcm)
		if err != nil {
			return dst[:0]
		}
		return out
	}, func() { p.opus.PutEncoder(enc) }, nil
}

// every calls f at each tick on absolute time until the peer is closed.
func (p *Peer) every(d time.Duration, f func(now time.Time)) {
	due := time.Now()
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-p.stopped.Done():
			return
		case <-t.C:
		}
		f(due)
		due = due.Add(d)
		if now := time.Now(); now.Sub(due) > 10*d {
			due = now
		}
		t.Reset(time.Until(due))
	}
}

// listen plays the agent's voice.
func (p *Peer) listen() {
	pcm := make([]int16, media.OpusRate/50)
	p.every(media.Ptime, func(now time.Time) {
		p.mu.Lock()
		p.in.Next(pcm, now)
		copy(p.ear, pcm)
		p.mu.Unlock()
		if p.o.Heard != nil {
			p.o.Heard(pcm)
		}
	})
}

// receive reads the agent's track until it ends.
func (p *Peer) receive(t *webrtc.TrackRemote) {
	var h rtp.Header
	buf := make([]byte, 1600)
	for {
		n, _, err := t.Read(buf)
		if err != nil {
			return
		}
		size, err := h.Unmarshal(buf[:n])
		if err != nil {
			continue
		}
		now := time.Now()
		p.mu.Lock()
		p.in.Push(media.RTPPacket{SSRC: h.SSRC, Seq: h.SequenceNumber, Timestamp: h.Timestamp, Payload: buf[size:n]}, now)
		p.playing, p.anchor = h, now
		p.mu.Unlock()
	}
}

// report tells the gateway what is played, as a page does: the timestamp of the
// newest packet, less what the jitter buffer holds back.
func (p *Peer) report() {
	clock := int(p.codec().ClockRate)
	p.every(200*time.Millisecond, func(now time.Time) {
		p.mu.Lock()
		known := !p.anchor.IsZero()
		behind := p.in.Stats(now).Delay - now.Sub(p.anchor)
		ts := p.playing.Timestamp
		p.mu.Unlock()
		if known && behind < time.Second && behind > -time.Minute {
			ts -= uint32(int32(media.Samples(behind, clock)))
			_ = p.Send(map[string]any{"type": "played", "rtp": ts})
		}
	})
}

// Send sends one message over the data channel.
func (p *Peer) Send(message any) error {
	b, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	return p.SendRaw(string(b))
}

// SendRaw sends text over the data channel as it is.
func (p *Peer) SendRaw(text string) error {
	if err := p.dc.SendText(text); err != nil {
		return fmt.Errorf("send message: %w", err)
	}
	return nil
}

// SendText types a text.
func (p *Peer) SendText(text string) error {
	return p.Send(map[string]string{"type": "text", "text": text})
}

// SendDigit presses a key: 0-9 * # A-D.
func (p *Peer) SendDigit(digit byte) error {
	return p.Send(map[string]string{"type": "dtmf", "digit": string(rune(digit))})
}

// Stats returns how the agent's audio arrived.
func (p *Peer) Stats() media.JitterStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.in.Stats(time.Now())
}

// Hangup ends the call by DELETE. The peer must still be closed.
func (p *Peer) Hangup(ctx context.Context) error {
	res, body, err := p.do(ctx, http.MethodDelete, p.Location(), "", "", "")
	if err == nil && res.StatusCode != http.StatusOK {
		err = &StatusError{res.StatusCode, body}
	}
	return err
}

// Vanish drops the line without a word, as a lost network does: nothing more is
// sent or answered. The peer must still be closed.
func (p *Peer) Vanish() error {
	p.stop()
	if err := p.pc.SCTP().Transport().ICETransport().Stop(); err != nil {
		return fmt.Errorf("drop the line: %w", err)
	}
	return nil
}

// Stall holds back everything, both ways, for d; it then comes at once. The
// peer must be Faulty, as for Deafen and Silence.
func (p *Peer) Stall(d time.Duration) {
	p.faults.up.hold(d)
	p.faults.down.hold(d)
}

// Deafen drops all that comes from now on: half of the line is dead.
func (p *Peer) Deafen() { p.faults.deaf.Store(true) }

// Silence drops all that is sent from now on: half of the line is dead.
func (p *Peer) Silence() { p.faults.mute.Store(true) }

func (p *Peer) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		close(p.done)
	}
}

// Close ends the line and waits for all the peer started. Only one goroutine may
// call it, and Audio and Heard are not called after it.
func (p *Peer) Close() error {
	p.stop()
	p.finish()
	var err error
	if p.pc != nil {
		err = p.pc.GracefulClose()
	}
	if p.mux != nil {
		// Which of the two closes the socket depends on how far the call came.
		err = errors.Join(err, unlessClosed(p.mux.Close()), unlessClosed(p.packets.Close()))
	}
	p.tasks.Wait()
	if d, ok := p.decoder.(*media.OpusDecoder); ok {
		p.opus.PutDecoder(d)
		p.decoder = nil
	}
	if err != nil && !errors.Is(err, webrtc.ErrConnectionClosed) {
		return fmt.Errorf("close peer: %w", err)
	}
	return nil
}

func unlessClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func withoutCandidates(sdp string) string {
	var b strings.Builder
	for line := range strings.Lines(sdp) {
		if !strings.HasPrefix(line, "a=candidate:") && !strings.HasPrefix(line, "a=end-of-candidates") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// fragmentOf cuts an SDP fragment (RFC 8840 §4.4) out of a description.
func fragmentOf(sdp string) string {
	var b strings.Builder
	seen := map[string]bool{}
	for line := range strings.Lines(sdp) {
		for _, p := range []string{"a=ice-ufrag:", "a=ice-pwd:", "m=audio", "a=mid:0", "a=candidate:"} {
			if strings.HasPrefix(line, p) && !seen[line] {
				seen[line] = true
				b.WriteString(line)
			}
		}
	}
	return b.String() + "a=end-of-candidates\r\n"
}

// merge puts the ICE words and candidates of a fragment into a description.
func merge(sdp, fragment string) string {
	words := map[string]string{}
	var candidates strings.Builder
	for line := range strings.Lines(fragment) {
		key, _, _ := strings.Cut(line, ":")
		if key == "a=candidate" {
			candidates.WriteString(line)
		}
		words[key] = line
	}
	var b strings.Builder
	for line := range strings.Lines(withoutCandidates(sdp)) {
		key, _, _ := strings.Cut(line, ":")
		if key == "a=ice-ufrag" || key == "a=ice-pwd" {
			line = words[key]
		}
		b.WriteString(line)
		if strings.HasPrefix(line, "a=mid:0") {
			b.WriteString(candidates.String())
		}
	}
	return b.String()
}
