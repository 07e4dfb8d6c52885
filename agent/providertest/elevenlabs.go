package providertest

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"parley/media"
)

// An ElevenLabsScript is how an [ElevenLabs] stand-in speaks.
type ElevenLabsScript struct {
	Key     string                              // required; "" takes any
	Speech  func(text string, rate int) []int16 // default [Tone]
	Unplace bool                                // sends no alignment
	Hold    func(text string) bool              // stop after a piece, and send the rest amid the next context
	Endless bool                                // never ends a context
	Manner  Manner
	Delay   time.Duration // of [Slow]: before each piece
}

// ElevenLabs stands in for api.elevenlabs.io's multi-context speech under URL.
type ElevenLabs struct {
	standIn

	script ElevenLabsScript
}

// NewElevenLabs starts a stand-in. The caller must Close it.
func NewElevenLabs(s ElevenLabsScript) *ElevenLabs {
	if s.Speech == nil {
		s.Speech = Tone
	}
	e := &ElevenLabs{script: s}
	e.start(s.Manner, map[string]http.HandlerFunc{"GET /v1/text-to-speech/{voice}/multi-stream-input": e.speak})
	return e
}

func (e *ElevenLabs) speak(w http.ResponseWriter, r *http.Request) {
	p := e.accept(w, r, "xi-api-key", "", e.script.Key, func(q url.Values) bool {
		format := q.Get("output_format")
		return q.Get("model_id") != "" && (format == "pcm_16000" || format == "ulaw_8000")
	})
	if p == nil {
		return
	}
	defer p.hangUp()
	s := &elevenSpeaker{peer: p, e: e, rate: 16000, contexts: map[string]*elevenContext{}}
	if s.mulaw = p.query.Get("output_format") == "ulaw_8000"; s.mulaw {
		s.rate = 8000
	}
	for {
		_, b, err := p.read()
		if err != nil || !s.handle(b) {
			return
		}
	}
}

type elevenSpeaker struct {
	*peer
	e        *ElevenLabs
	rate     int
	mulaw    bool
	contexts map[string]*elevenContext
	held     []func() // what is sent amid the next context
}

type elevenContext struct{ text string }

func (s *elevenSpeaker) handle(b []byte) bool {
	var in struct {
		Text         *string         `json:"text"`
		Context      string          `json:"context_id"`
		Settings     json.RawMessage `json:"voice_settings"`
		Flush        bool            `json:"flush"`
		CloseContext bool            `json:"close_context"`
		CloseSocket  bool            `json:"close_socket"`
	}
	if json.Unmarshal(b, &in) != nil {
		return s.fail("invalid_message", "not JSON")
	}
	if in.CloseSocket {
		s.end(websocket.CloseNormalClosure, "")
		return false
	}
	c := s.contexts[in.Context]
	switch {
	case c != nil && in.Settings != nil:
		return s.fail("invalid_settings", "voice_settings can only be set in the first message")
	case c == nil && in.CloseContext:
		return true
	case c == nil: // whatever comes opens a context
		if len(s.contexts) == 5 {
			return s.fail("max_active_conversations", "Maximum simultaneous contexts per WebSocket connection exceeded (5).")
		}
		if in.Text == nil || *in.Text != " " {
			return s.fail("invalid_first_message", "a context begins with a space")
		}
		c = &elevenContext{}
		s.contexts[in.Context] = c
	}
	if in.Text != nil {
		c.text += *in.Text
	}
	if (in.Flush || in.CloseContext) && strings.TrimSpace(c.text) != "" {
		text := strings.TrimSpace(c.text)
		c.text = ""
		if !s.say(in.Context, text) {
			return false
		}
	}
	if in.CloseContext && !s.e.script.Endless {
		delete(s.contexts, in.Context)
		end := func() { s.send(object{"isFinal": true, "contextId": in.Context, "audio": nil}) }
		if len(s.held) > 0 {
			s.held = append(s.held, end)
		} else {
			end()
		}
	}
	return true
}

// say sends speech in pieces of seven characters, which split words.
func (s *elevenSpeaker) say(context, text string) bool {
	switch s.manner {
	case Garbage:
		s.text("<html>what?</html>")
		return true
	case Wrong:
		s.text(`{"audio":7,"contextId":["c"]}`)
		return true
	}
	chars, pcm := strings.Split(text+" ", ""), s.e.script.Speech(text, s.rate)
	total := len(chars)
	for i := 0; len(chars) > 0; i++ {
		n := min(7, len(chars))
		part := pcm[:len(pcm)*n/len(chars)]
		piece, audio := chars[:n], part
		chars, pcm = chars[n:], pcm[len(part):]
		send := func() { s.piece(context, piece, audio) }
		if i > 0 && s.e.script.Hold != nil && s.e.script.Hold(text) {
			s.held = append(s.held, send)
			continue
		}
		send()
		if s.e.script.Hold == nil || !s.e.script.Hold(text) {
			for _, f := range s.held {
				f()
			}
			s.held = nil
		}
		if s.manner == Rude && total > n {
			s.cut()
			return false
		}
		if s.manner == Slow && !s.pause(s.e.script.Delay) {
			return false
		}
	}
	return true
}

func (s *elevenSpeaker) piece(context string, chars []string, pcm []int16) {
	var wire []byte
	if s.mulaw {
		wire = media.EncodePCMU(nil, pcm)
	} else {
		for _, v := range pcm {
			wire = append(wire, byte(v), byte(v>>8))
		}
	}
	var starts, lengths []int
	each := int(media.Duration(int64(len(pcm)), s.rate)/time.Millisecond) / len(chars)
	for i := range chars {
		starts, lengths = append(starts, i*each), append(lengths, each)
	}
	var alignment any
	if !s.e.script.Unplace {
		alignment = object{"chars": chars, "charStartTimesMs": starts, "charsDurationsMs": lengths}
	}
	s.send(object{
		"audio": base64.StdEncoding.EncodeToString(wire), "isFinal": nil, "contextId": context,
		"alignment": alignment, "normalizedAlignment": alignment,
	})
}

func (s *elevenSpeaker) fail(code, text string) bool {
	s.send(object{"message": text, "error": code, "code": websocket.ClosePolicyViolation})
	s.end(websocket.ClosePolicyViolation, text)
	return false
}
