package signaling

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
)

// maxChunk is the longest inbound payload that is taken: 1 s. Twilio sends 20 ms.
const maxChunk = 8000

// A streamMessage is what we use of a message from Twilio. Its bytes point into
// the message that was parsed.
// https://www.twilio.com/docs/voice/media-streams/websocket-messages
type streamMessage struct {
	event   []byte
	track   []byte // media; empty or "inbound" is the caller
	payload []byte // media: base64
	name    []byte // mark
	digit   []byte // dtmf
}

var errMalformed = errors.New("malformed message")

// parseStreamMessage reads a media, mark, dtmf or other message. What the fast
// scanner does not understand (escapes, odd types) encoding/json decides.
func parseStreamMessage(b []byte) (streamMessage, error) {
	s := scanner{b: b}
	if m, ok := s.message(); ok {
		return m, nil
	}
	var slow struct {
		Event string
		Media struct{ Track, Payload string }
		Mark  struct{ Name string }
		DTMF  struct{ Digit string }
	}
	if err := json.Unmarshal(b, &slow); err != nil || slow.Event == "" {
		return streamMessage{}, errMalformed
	}
	return streamMessage{
		event:   []byte(slow.Event),
		track:   []byte(slow.Media.Track),
		payload: []byte(slow.Media.Payload),
		name:    []byte(slow.Mark.Name),
		digit:   []byte(slow.DTMF.Digit),
	}, nil
}

// A scanner reads plain JSON without allocating: it gives up (ok false) at an
// escape in a string that matters, and at anything it does not expect.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) message() (m streamMessage, ok bool) {
	ok = s.object(func(s *scanner, key []byte) bool {
		switch string(key) {
		case "event":
			return s.text(&m.event)
		case "media":
			return s.object(func(s *scanner, key []byte) bool {
				switch string(key) {
				case "payload":
					return s.text(&m.payload)
				case "track":
					return s.text(&m.track)
				}
				return s.skip()
			})
		case "mark":
			return s.object(func(s *scanner, key []byte) bool {
				if string(key) == "name" {
					return s.text(&m.name)
				}
				return s.skip()
			})
		case "dtmf":
			return s.object(func(s *scanner, key []byte) bool {
				if string(key) == "digit" {
					return s.text(&m.digit)
				}
				return s.skip()
			})
		}
		return s.skip()
	})
	s.space()
	return m, ok && s.i == len(s.b) && len(m.event) > 0
}

// object reads an object and calls member at each value.
func (s *scanner) object(member func(s *scanner, key []byte) bool) bool {
	if !s.take('{') {
		return false
	}
	if s.take('}') {
		return true
	}
	for {
		var key []byte
		if !s.text(&key) || !s.take(':') || !member(s, key) {
			return false
		}
		if s.take('}') {
			return true
		}
		if !s.take(',') {
			return false
		}
	}
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

func (s *scanner) take(c byte) bool {
	s.space()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

// text reads a string that has no escapes.
func (s *scanner) text(into *[]byte) bool {
	if !s.take('"') {
		return false
	}
	start := s.i
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			*into = s.b[start:s.i]
			s.i++
			return true
		case c == '\\' || c < ' ' || c >= 0x7f:
			return false
		}
	}
	return false
}

// skip passes over a string, number or literal. Other values, which Twilio does
// not send where it matters, are left to encoding/json.
func (s *scanner) skip() bool {
	s.space()
	if s.i >= len(s.b) {
		return false
	}
	if s.b[s.i] == '"' {
		var ignored []byte
		return s.text(&ignored)
	}
	start := s.i
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ',', '}', ' ', '\t', '\n', '\r':
			return plainNumber(s.b[start:s.i])
		}
		s.i++
	}
	return false
}

// plainNumber reports whether b is a whole number in JSON.
func plainNumber(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) == 1 || len(b) > 1 && b[0] != '0'
}

// decodePayload appends the audio of a media message to dst, with or without
// padding. It fails for what is empty, broken or over [maxChunk].
func decodePayload(dst, payload []byte) ([]byte, error) {
	if len(payload) == 0 || len(payload) > base64.StdEncoding.EncodedLen(maxChunk) {
		return dst, errMalformed
	}
	enc := base64.StdEncoding
	if len(payload)%4 != 0 {
		enc = base64.RawStdEncoding
	}
	return enc.AppendDecode(dst, payload)
}

// A streamWriter builds messages to Twilio in one buffer.
type streamWriter struct {
	head []byte // ,"streamSid":"…"
	buf  []byte
}

func newStreamWriter(streamSID string) streamWriter {
	sid, _ := json.Marshal(streamSID) // of a string: does not fail
	return streamWriter{head: append([]byte(`,"streamSid":`), sid...)}
}

// media returns a media message. Its audio is padded with silence to whole
// frames: Twilio plays a fraction with a click. Valid until the next call.
func (w *streamWriter) media(audio []byte) []byte {
	w.begin("media")
	w.buf = append(w.buf, `,"media":{"payload":"`...)
	if tail := len(audio) % frameBytes; tail != 0 {
		var whole [maxMessage]byte
		n := copy(whole[:], audio)
		for ; n%frameBytes != 0; n++ {
			whole[n] = silence
		}
		w.buf = base64.StdEncoding.AppendEncode(w.buf, whole[:n])
	} else {
		w.buf = base64.StdEncoding.AppendEncode(w.buf, audio)
	}
	w.buf = append(w.buf, `"}}`...)
	return w.buf
}

func (w *streamWriter) mark(id uint64) []byte {
	w.begin("mark")
	w.buf = append(w.buf, `,"mark":{"name":"`...)
	w.buf = strconv.AppendUint(w.buf, id, 10)
	w.buf = append(w.buf, `"}}`...)
	return w.buf
}

func (w *streamWriter) clear() []byte {
	w.begin("clear")
	w.buf = append(w.buf, '}')
	return w.buf
}

func (w *streamWriter) begin(event string) {
	w.buf = append(append(append(w.buf[:0], `{"event":"`...), event...), '"')
	w.buf = append(w.buf, w.head...)
}
