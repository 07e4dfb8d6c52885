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
	ok = s.take('{')
	for n := 0; ok; n++ {
		key, more, good := s.member(n)
		if !more {
			s.space()
			return m, good && s.i == len(s.b) && len(m.event) > 0
		}
		switch string(key) {
		case "event":
			m.event, ok = s.text()
		case "media":
			m.payload, m.track, ok = s.fields("payload", "track")
		case "mark":
			m.name, _, ok = s.fields("name", "")
		case "dtmf":
			m.digit, _, ok = s.fields("digit", "")
		default:
			ok = s.skip()
		}
	}
	return m, false
}

// fields reads an object, of which two texts matter.
func (s *scanner) fields(first, second string) (a, b []byte, ok bool) {
	ok = s.take('{')
	for n := 0; ok; n++ {
		key, more, good := s.member(n)
		if !more {
			return a, b, good
		}
		switch string(key) {
		case first:
			a, ok = s.text()
		case second:
			b, ok = s.text()
		default:
			ok = s.skip()
		}
	}
	return a, b, false
}

// member goes to the value of an object's nth member; more is false at the
// object's end (ok true) and at what is no member (ok false).
func (s *scanner) member(n int) (key []byte, more, ok bool) {
	if s.take('}') {
		return nil, false, true
	}
	if n > 0 && !s.take(',') {
		return nil, false, false
	}
	key, ok = s.text()
	ok = ok && s.take(':')
	return key, ok, ok
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
func (s *scanner) text() (t []byte, ok bool) {
	if !s.take('"') {
		return nil, false
	}
	start := s.i
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			t = s.b[start:s.i]
			s.i++
			return t, true
		case c == '\\' || c < ' ' || c >= 0x7f:
			return nil, false
		}
	}
	return nil, false
}

// skip passes over a string, number or literal. Other values, which Twilio does
// not send where it matters, are left to encoding/json.
func (s *scanner) skip() bool {
	s.space()
	if s.i >= len(s.b) {
		return false
	}
	if s.b[s.i] == '"' {
		_, ok := s.text()
		return ok
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

// warning returns a mark whose name is a warning; text is plain ASCII.
func (w *streamWriter) warning(text string) []byte {
	w.begin("mark")
	w.buf = append(append(append(w.buf, `,"mark":{"name":"warning: `...), text...), `"}}`...)
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
