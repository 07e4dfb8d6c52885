package providertest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// A FluxScript is what a [Flux] stand-in hears: the next utterance each time
// that sound begins.
type FluxScript struct {
	Key        string // required; "" takes any
	Utterances []string
	Deaf       bool // never ends a turn, whatever it is asked
	Manner     Manner
	Delay      time.Duration // of [Slow]: before the end of a turn
}

// Flux stands in for api.deepgram.com's turn-taking listening, /v2/listen,
// under URL. Like the vendor it knows no time but that of the audio: a turn
// goes on until it has heard half a second of silence or is told to end it.
type Flux struct {
	standIn

	script FluxScript
	next   int // utterance; under manners.mu
}

// NewFlux starts a stand-in. The caller must Close it.
func NewFlux(s FluxScript) *Flux {
	f := &Flux{script: s}
	f.start(s.Manner, map[string]http.HandlerFunc{"GET /v2/listen": f.listen})
	return f
}

func (f *Flux) listen(w http.ResponseWriter, r *http.Request) {
	p := f.accept(w, r, "Authorization", "Token ", f.script.Key, func(q url.Values) bool {
		return q.Get("encoding") == "linear16" && q.Get("sample_rate") != "" && strings.HasPrefix(q.Get("model"), "flux-") &&
			(!q.Has("language_hint") || q.Get("model") == "flux-general-multi") && !q.Has("interim_results")
	})
	if p == nil {
		return
	}
	defer p.hangUp()
	c := &fluxCall{peer: p, f: f, rate: atoi(p.query.Get("sample_rate")), eager: p.query.Has("eager_eot_threshold")}
	c.number(object{"type": "Connected"})
	c.run()
}

type fluxCall struct {
	*peer
	f     *Flux
	rate  int
	eager bool

	sequence, turn int
	heard, from    int // samples so far, and where the turn began
	loud, quiet    int // samples of sound in it, and of silence since
	shown          int // words
	told           bool
}

func (c *fluxCall) run() {
	for {
		binary, b, err := c.read()
		if err != nil {
			return
		}
		if binary {
			if len(b) == 0 || c.manner != Deaf && !c.listen(b) {
				return
			}
			continue
		}
		var in struct {
			Type     string
			Keyterms []string
		}
		if json.Unmarshal(b, &in) != nil {
			return
		}
		switch in.Type {
		case "Configure":
			c.number(object{"type": "ConfigureSuccess", "keyterms": in.Keyterms, "thresholds": object{}})
		case "ForceEndTurn": // ignored while there is no turn
			if c.loud > 0 && !c.f.script.Deaf {
				c.end("manual")
			}
		case "CloseStream": // no end of turn, no metadata, no status
			if c.loud > 0 {
				c.tell("Update", c.words(0))
			}
			c.peer.end(websocket.CloseNoStatusReceived, "")
			return
		default:
			c.number(object{"type": "Error", "code": "UNPARSABLE_CLIENT_MESSAGE", "description": "what is " + in.Type + "?"})
			return
		}
	}
}

// listen follows sound and silence; it is false when the call is over.
func (c *fluxCall) listen(b []byte) bool {
	for i := 0; i+1 < len(b); i += 2 {
		c.heard++
		if v := int16(uint16(b[i]) | uint16(b[i+1])<<8); v > 500 || v < -500 {
			if c.loud == 0 {
				c.from, c.shown = c.heard, 0
			}
			if c.told {
				c.told = false
				c.tell("TurnResumed", c.words(c.shown))
			}
			c.loud++
			c.quiet = 0
		} else if c.loud > 0 {
			c.quiet++
		}
		if !c.progress() {
			return false
		}
	}
	return true
}

func (c *fluxCall) progress() bool {
	switch {
	case c.loud == 0:
	case c.shown == 0 && c.loud >= c.rate/4:
		c.shown = 1
		return c.begin()
	case c.quiet == 0 && c.shown > 0 && c.loud >= (c.shown+1)*c.rate/4:
		c.shown++
		c.tell("Update", c.words(c.shown))
	case c.quiet == c.rate/4 && c.eager && !c.told:
		c.told = true
		c.tell("EagerEndOfTurn", c.words(0))
	case c.quiet >= c.rate/2 && !c.f.script.Deaf:
		c.end("model")
	}
	return true
}

func (c *fluxCall) begin() bool {
	switch c.manner {
	case Rude:
		c.tell("StartOfTurn", c.words(1))
		c.cut()
		return false
	case Garbage:
		c.text("<html>what?</html>")
	case Wrong:
		c.text(`{"type":"TurnInfo","event":"Update","turn_index":"first","transcript":7}`)
	default:
		c.tell("StartOfTurn", c.words(1))
	}
	return true
}

func (c *fluxCall) end(trigger string) {
	if c.manner == Slow && !c.pause(c.f.script.Delay) {
		return
	}
	m := c.info("EndOfTurn", c.words(0))
	m["trigger"] = trigger
	c.number(m)
	c.f.mu.Lock()
	c.f.next++
	c.f.mu.Unlock()
	c.turn++
	c.loud, c.quiet, c.shown, c.told = 0, 0, 0, false
}

// words returns the first n words of the utterance being heard; 0 means all.
func (c *fluxCall) words(n int) []string {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	w := strings.Fields(pick(c.f.script.Utterances, c.f.next))
	if n > 0 {
		w = w[:min(n, len(w))]
	}
	return w
}

func (c *fluxCall) tell(event string, words []string) { c.number(c.info(event, words)) }

func (c *fluxCall) info(event string, words []string) object {
	list := []object{}
	for _, w := range words {
		list = append(list, object{"word": w, "confidence": 0.97})
	}
	return object{
		"type": "TurnInfo", "event": event, "turn_index": c.turn,
		"audio_window_start": float64(c.from) / float64(c.rate), "audio_window_end": float64(c.heard) / float64(c.rate),
		"transcript": strings.Join(words, " "), "words": list, "end_of_turn_confidence": 0.5,
	}
}

// number sends a message in its place.
func (c *fluxCall) number(m object) {
	m["request_id"], m["sequence_id"] = requestID, c.sequence
	c.sequence++
	c.send(m)
}
