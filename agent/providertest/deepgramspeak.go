package providertest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"parley/media"
)

// A DeepgramSpeakScript is how a [DeepgramSpeak] stand-in speaks.
type DeepgramSpeakScript struct {
	Key    string                                   // required; "" takes any
	Speech func(text string, rate int) []int16      // default [Tone]
	Hold   func(text string) (samples int, ok bool) // stop after so many until Clear
	Deaf   bool                                     // never answers Clear
	Late   bool                                     // sends a given-up clause's Flushed after Cleared
	Manner Manner
	Delay  time.Duration // of [Slow]: before each piece
}

// DeepgramSpeak stands in for api.deepgram.com's streaming speech, /v1/speak,
// under URL.
type DeepgramSpeak struct {
	standIn

	script DeepgramSpeakScript
}

// NewDeepgramSpeak starts a stand-in. The caller must Close it.
func NewDeepgramSpeak(s DeepgramSpeakScript) *DeepgramSpeak {
	if s.Speech == nil {
		s.Speech = Tone
	}
	d := &DeepgramSpeak{script: s}
	d.start(s.Manner, map[string]http.HandlerFunc{"GET /v1/speak": d.speak})
	return d
}

func (d *DeepgramSpeak) speak(w http.ResponseWriter, r *http.Request) {
	p := d.accept(w, r, "Authorization", "Token ", d.script.Key, func(q url.Values) bool {
		e := q.Get("encoding")
		return strings.HasPrefix(q.Get("model"), "aura-") && (e == "linear16" || e == "mulaw" && q.Get("sample_rate") == "8000")
	})
	if p == nil {
		return
	}
	defer p.hangUp()
	c := &deepgramSpeaker{peer: p, d: d, rate: atoi(p.query.Get("sample_rate")), mulaw: p.query.Get("encoding") == "mulaw", in: make(chan []byte, 64)}
	d.open.Go(c.listen)
	c.run()
	p.conn.Close()
	for range c.in { // until listen has ended
	}
}

type deepgramSpeaker struct {
	*peer
	d       *DeepgramSpeak
	rate    int
	mulaw   bool
	in      chan []byte
	text    string
	flushes []time.Time
	flushed int
}

func (c *deepgramSpeaker) listen() {
	defer close(c.in)
	for {
		_, b, err := c.read()
		if err != nil {
			return
		}
		c.in <- b
	}
}

func (c *deepgramSpeaker) run() {
	c.send(object{"type": "Metadata", "request_id": requestID, "model_name": "aura-2-thalia-en", "model_version": "2025-01-01.0", "model_uuid": requestID})
	for b := range c.in {
		if !c.handle(b) {
			return
		}
	}
}

func (c *deepgramSpeaker) handle(b []byte) bool {
	var in struct{ Type, Text string }
	if json.Unmarshal(b, &in) != nil {
		return c.end(websocket.ClosePolicyViolation, "DATA-0000")
	}
	switch in.Type {
	case "Speak":
		if utf8.RuneCountInString(in.Text) > 2000 {
			return c.end(websocket.CloseMessageTooBig, "BIG-0001")
		}
		c.text += in.Text + " "
	case "Clear":
		c.clear()
	case "Flush":
		return c.flush()
	case "Close":
		return c.end(websocket.CloseNormalClosure, "")
	default:
		return c.end(websocket.ClosePolicyViolation, "DATA-0000")
	}
	return true
}

func (c *deepgramSpeaker) clear() {
	c.text = ""
	if !c.d.script.Deaf {
		c.send(object{"type": "Cleared", "sequence_id": c.flushed})
	}
}

func (c *deepgramSpeaker) flush() bool {
	for len(c.flushes) > 0 && time.Since(c.flushes[0]) > time.Minute {
		c.flushes = c.flushes[1:]
	}
	if c.flushes = append(c.flushes, time.Now()); len(c.flushes) > 20 {
		c.send(object{"type": "Warning", "code": "EXCEEDED_FLUSHES", "description": "no more flushes in this minute"})
		return true
	}
	text := strings.TrimSpace(c.text)
	c.text = ""
	switch c.manner {
	case Garbage:
		c.peer.text("<html>what?</html>")
		return true
	case Wrong:
		c.peer.text(`{"type":7,"sequence_id":"one"}`)
		return true
	}
	pcm := c.d.script.Speech(text, c.rate)
	hold, held := len(pcm), false
	if c.d.script.Hold != nil {
		hold, held = c.d.script.Hold(text)
	}
	for len(pcm) > 0 {
		n := min(len(pcm), c.rate/10+1)
		c.split(pcm[:n])
		pcm = pcm[n:]
		if c.manner == Rude {
			c.cut()
			return false
		}
		if c.manner == Slow && !c.pause(c.d.script.Delay) {
			return false
		}
		if hold -= n; !held || hold > 0 {
			continue
		}
		// What is under way when Clear comes still reaches the client.
		for b := range c.in {
			if strings.Contains(string(b), `"Clear"`) {
				c.split(pcm)
				c.clear()
				if c.d.script.Late {
					c.send(object{"type": "Flushed", "sequence_id": c.flushed})
					c.flushed++
				}
				return true
			}
		}
		return false
	}
	c.send(object{"type": "Flushed", "sequence_id": c.flushed})
	c.flushed++
	return true
}

// split sends samples in messages that split one of them.
func (c *deepgramSpeaker) split(pcm []int16) {
	var wire []byte
	if c.mulaw {
		wire = media.EncodePCMU(nil, pcm)
	} else {
		for _, v := range pcm {
			wire = append(wire, byte(v), byte(v>>8))
		}
	}
	half := len(wire)/2 | 1
	for _, b := range [][]byte{wire[:min(half, len(wire))], wire[min(half, len(wire)):]} {
		if len(b) > 0 {
			c.audio(b)
		}
	}
}

// end closes the socket, and is false.
func (c *deepgramSpeaker) end(code int, text string) bool {
	c.peer.end(code, text)
	return false
}
