package providertest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// A DeepgramScript is what a [Deepgram] stand-in hears: the next utterance
// each time that it is asked to finalize after audio.
type DeepgramScript struct {
	Key        string // required; "" takes any
	Utterances []string
	Manner     Manner
	Delay      time.Duration // of [Slow]: before a final transcript
}

// Deepgram stands in for api.deepgram.com's live listening, under URL.
type Deepgram struct {
	standIn

	script DeepgramScript
	next   int   // utterance; under manners.mu
	audio  int64 // bytes; under manners.mu
}

// NewDeepgram starts a stand-in. The caller must Close it.
func NewDeepgram(s DeepgramScript) *Deepgram {
	d := &Deepgram{script: s}
	d.start(s.Manner, map[string]http.HandlerFunc{"GET /v1/listen": d.listen})
	return d
}

// AudioBytes returns how much audio came.
func (d *Deepgram) AudioBytes() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.audio
}

func (d *Deepgram) listen(w http.ResponseWriter, r *http.Request) {
	p := d.accept(w, r, "Authorization", "Token ", d.script.Key, func(q url.Values) bool {
		return q.Get("encoding") != "" && q.Get("sample_rate") != "" && q.Get("model") != ""
	})
	if p == nil {
		return
	}
	defer p.hangUp()
	(&deepgramCall{d: d, peer: p, rate: atoi(p.query.Get("sample_rate"))}).run()
}

type deepgramCall struct {
	*peer
	d      *Deepgram
	rate   int
	heard  int // samples so far
	from   int // sample where the utterance began
	voiced int // samples since then that are no silence
	shown  bool
}

func (c *deepgramCall) run() {
	for {
		binary, b, err := c.read()
		if err != nil {
			return
		}
		if binary {
			if len(b) == 0 { // as the vendor does
				return
			}
			c.d.mu.Lock()
			c.d.audio += int64(len(b))
			c.d.mu.Unlock()
			c.heard += len(b) / 2
			if audible(b) {
				c.voiced += len(b) / 2
			}
			if !c.listen() {
				return
			}
			continue
		}
		var in struct{ Type string }
		if json.Unmarshal(b, &in) != nil {
			return
		}
		if c.manner == Deaf {
			continue
		}
		switch in.Type {
		case "Finalize":
			if !c.finalize() {
				return
			}
		case "CloseStream":
			c.send(object{"type": "Metadata", "transaction_key": "deprecated", "request_id": requestID, "sha256": strings.Repeat("0", 64),
				"created": "2026-01-01T00:00:00.000Z", "channels": 1, "duration": float64(c.heard) / float64(c.rate)})
			c.end(websocket.CloseNormalClosure, "")
			return
		}
	}
}

// audible tells audio from silence, which has no words.
func audible(wire []byte) bool {
	for i := 0; i+1 < len(wire); i += 2 {
		if v := int16(uint16(wire[i]) | uint16(wire[i+1])<<8); v > 300 || v < -300 {
			return true
		}
	}
	return false
}

// listen sends an interim transcript after a quarter of a second of sound, or
// misbehaves; it is false when the call is over.
func (c *deepgramCall) listen() bool {
	if c.shown || c.voiced < c.rate/4 {
		return true
	}
	c.shown = true
	switch c.manner {
	case Deaf:
	case Rude:
		c.send(c.results(c.words(1), false))
		c.cut()
		return false
	case Garbage:
		c.text("<html>what?</html>")
	case Wrong:
		c.text(`{"type":"Results","start":"now","channel":7}`)
	default:
		c.send(object{"type": "SpeechStarted", "channel": []int{0}, "timestamp": float64(c.from) / float64(c.rate)})
		c.send(c.results(c.words(1), false))
	}
	return true
}

// words returns the first n words of the utterance being heard; 0 means all.
func (c *deepgramCall) words(n int) string {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	f := strings.Fields(pick(c.d.script.Utterances, c.d.next))
	if n > 0 {
		f = f[:min(n, len(f))]
	}
	return strings.Join(f, " ")
}

// finalize answers; it is false when the stand-in is gone.
func (c *deepgramCall) finalize() bool {
	if c.manner == Slow && !c.pause(c.d.script.Delay) {
		return false
	}
	text := ""
	if c.shown {
		text = c.words(0)
		c.d.mu.Lock()
		c.d.next++
		c.d.mu.Unlock()
	}
	m := c.results(text, true)
	m["from_finalize"], m["speech_final"] = true, text != ""
	c.send(m)
	c.from, c.voiced, c.shown = c.heard, 0, false
	return true
}

func (c *deepgramCall) results(text string, final bool) object {
	return object{
		"type": "Results", "channel_index": []int{0, 1},
		"start": float64(c.from) / float64(c.rate), "duration": float64(c.heard-c.from) / float64(c.rate),
		"is_final": final, "speech_final": false, "from_finalize": false,
		"channel":  object{"alternatives": []object{{"transcript": text, "confidence": 0.98, "words": []object{}}}},
		"metadata": object{"request_id": requestID, "model_uuid": requestID, "model_info": object{"name": "n", "version": "v", "arch": "a"}},
	}
}

// requestID is a name as vendors give to a request.
const requestID = "0f5a8c1e-64f1-4d3c-9c0e-1b7a54f0a001"

func atoi(s string) int {
	n := 0
	for _, r := range s {
		if r < '0' || r > '9' || n > 1e6 {
			return 8000
		}
		n = 10*n + int(r-'0')
	}
	return max(n, 1)
}
