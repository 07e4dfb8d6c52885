package signalingtest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"parley/media"
)

const (
	frameBytes = 160  // 20 ms of µ-law
	silence    = 0xff // µ-law
)

// event queues a message: its event and what follows.
func (s *stream) event(rest string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin()
	s.out = append(s.out, `,"event":`...)
	s.out = append(s.out, rest...)
	s.send()
}

// begin begins a message, up to the stream's id; s.mu is held.
func (s *stream) begin() {
	s.sequence++
	s.out = append(s.out[:0], `{"sequenceNumber":"`...)
	s.out = strconv.AppendInt(s.out, int64(s.sequence), 10)
	s.out = append(s.out, `","streamSid":"`...)
	s.out = append(s.out, s.sid...)
	s.out = append(s.out, '"')
}

// send ends a message and queues it; s.mu is held.
func (s *stream) send() {
	s.out = append(s.out, '}')
	s.up.push(s.out)
}

// media queues 20 ms of the caller's audio.
func (s *stream) media(chunk int, audio []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin()
	s.out = append(s.out, `,"event":"media","media":{"track":"inbound","chunk":"`...)
	s.out = strconv.AppendInt(s.out, int64(chunk), 10)
	s.out = append(s.out, `","timestamp":"`...)
	s.out = strconv.AppendInt(s.out, int64(chunk)*int64(media.Ptime/time.Millisecond), 10)
	s.out = append(s.out, `","payload":"`...)
	s.out = base64.StdEncoding.AppendEncode(s.out, audio)
	s.out = append(s.out, `"}`...)
	s.send()
}

func (s *stream) returnMark(name string) {
	s.call.note("mark", name)
	quoted, err := json.Marshal(name)
	if err == nil { // always, for a string
		s.event(fmt.Sprintf(`"mark","mark":{"name":%s}`, quoted))
	}
}

// take is the downward line's end: a message has reached the carrier.
func (s *stream) take(b []byte) {
	if audio, ok := plainMedia(b, s.sid); ok {
		s.audio(audio)
		return
	}
	var m struct {
		Event     string `json:"event"`
		StreamSID string `json:"streamSid"`
		Media     struct {
			Payload []byte `json:"payload"`
		} `json:"media"`
		Mark struct {
			Name string `json:"name"`
		} `json:"mark"`
	}
	if err := json.Unmarshal(b, &m); err != nil || m.StreamSID != s.sid {
		s.call.note("error", fmt.Sprintf("31924: not a message of this stream: %.80s", b))
		return
	}
	switch m.Event {
	case "media":
		if len(m.Media.Payload) == 0 {
			s.call.note("error", "media without audio")
			return
		}
		s.mu.Lock()
		s.push(m.Media.Payload)
		s.mu.Unlock()
	case "mark":
		s.mu.Lock()
		waits := s.play.mark(m.Mark.Name)
		s.mu.Unlock()
		if !waits {
			s.returnMark(m.Mark.Name)
		}
	case "clear":
		s.call.note("clear", "")
		s.mu.Lock()
		s.meter.cleared()
		pending := s.play.clear()
		s.mu.Unlock()
		for _, p := range pending {
			s.returnMark(p.name)
		}
	default:
		s.call.note("error", "31924: unknown event "+strconv.Quote(m.Event))
	}
}

// audio takes a payload in base64.
func (s *stream) audio(payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.in, err = base64.StdEncoding.AppendDecode(s.in[:0], payload); err == nil {
		s.push(s.in)
	}
}

// push puts audio behind what waits to be heard; s.mu is held.
func (s *stream) push(audio []byte) {
	s.meter.took(len(audio), s.play.ahead(), time.Now())
	s.play.push(audio)
}

// plainMedia finds the payload of a media message in its usual form, without
// reading it as JSON. What is otherwise good but looks otherwise is not ok.
func plainMedia(b []byte, sid string) (payload []byte, ok bool) {
	if !bytes.Contains(b, []byte(`"event":"media"`)) || !bytes.Contains(b, []byte(sid)) {
		return nil, false
	}
	_, rest, ok := bytes.Cut(b, []byte(`"payload":"`))
	if !ok {
		return nil, false
	}
	payload, rest, ok = bytes.Cut(rest, []byte(`"`))
	if !ok || len(payload) == 0 || len(payload)%4 != 0 || bytes.IndexByte(payload, '\\') >= 0 || !json.Valid(b) {
		return nil, false
	}
	return payload, len(rest) > 0
}

// readInto reads a message into buf, which it grows and returns.
func readInto(buf []byte, r io.Reader) ([]byte, error) {
	if cap(buf) == 0 || cap(buf) > 64<<10 {
		buf = make([]byte, 0, 2<<10)
	}
	buf = buf[:0]
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}

// tick is the carrier's clock: every 20 ms it plays and records 20 ms.
func (s *stream) tick() {
	t := time.NewTicker(media.Ptime)
	defer t.Stop()
	said, heard := make([]byte, frameBytes), make([]byte, frameBytes)
	around := newRoom(s.call.o.Echo, s.call.o.Noise, 8000)
	for chunk := 1; ; chunk++ {
		select {
		case <-s.over:
			return
		case <-t.C:
		}
		s.hear(heard)
		s.say(said, heard, around)
		if !s.mute.Load() && !s.left.Load() && !s.dumb.Load() {
			s.media(chunk, said)
		}
	}
}

// say fills 20 ms of what the caller's microphone takes up.
func (s *stream) say(said, heard []byte, around *room) {
	for i := range said {
		said[i] = silence
	}
	if s.call.o.Source != nil {
		s.call.o.Source(said)
	}
	if around != nil {
		around.voice = media.DecodePCMU(around.voice[:0], said)
		around.ear = media.DecodePCMU(around.ear[:0], heard)
		around.add(around.voice, around.ear)
		media.EncodePCMU(said[:0], around.voice)
	}
	if s.up.lost() {
		for i := range said {
			said[i] = silence
		}
	}
}

// hear returns the marks that the last 20 ms passed, and starts the next 20 ms.
func (s *stream) hear(frame []byte) {
	s.mu.Lock()
	n, back := s.play.next(frame)
	s.meter.sounded(n)
	s.mu.Unlock()
	if s.down.lost() {
		for i := range frame {
			frame[i] = silence
		}
	}
	if s.call.o.Heard != nil {
		s.call.o.Heard(time.Now(), frame, n)
	}
	for _, p := range back {
		s.returnMark(p.name)
	}
}
