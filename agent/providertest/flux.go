package providertest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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
	manners
	URL string // http

	script FluxScript
	server *httptest.Server
	open   sync.WaitGroup
	next   int // utterance; under manners.mu
}

// NewFlux starts a stand-in. The caller must Close it.
func NewFlux(s FluxScript) *Flux {
	f := &Flux{script: s, manners: manners{manner: s.Manner, gone: make(chan struct{})}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/listen", f.listen)
	f.server = httptest.NewServer(mux)
	f.URL = f.server.URL
	return f
}

// Close stops the stand-in and cuts what is open.
func (f *Flux) Close() {
	close(f.gone)
	f.server.CloseClientConnections()
	f.server.Close()
	f.open.Wait()
}

func (f *Flux) listen(w http.ResponseWriter, r *http.Request) {
	f.open.Add(1)
	defer f.open.Done()
	m, _ := f.note(Request{Path: r.URL.RequestURI()})
	if f.script.Key != "" && r.Header.Get("Authorization") != "Token "+f.script.Key {
		m = Refuses
	}
	if refuse(w, r, m) {
		return
	}
	q := r.URL.Query()
	if q.Get("encoding") != "linear16" || q.Get("sample_rate") == "" || !strings.HasPrefix(q.Get("model"), "flux-") ||
		q.Has("language_hint") && q.Get("model") != "flux-general-multi" || q.Has("interim_results") {
		http.Error(w, "Bad Request", http.StatusBadRequest)
		return
	}
	if m == Silent {
		f.stall(r)
		return
	}
	conn, done := serveSocket(w, r, &f.open, f.gone)
	if conn == nil {
		return
	}
	defer done()
	c := &fluxCall{f: f, conn: conn, manner: m, rate: atoi(q.Get("sample_rate")), eager: q.Has("eager_eot_threshold")}
	c.send(object{"type": "Connected"})
	c.run()
}

// serveSocket upgrades r and cuts the socket when gone closes. done must be
// called; conn is nil if there was no upgrade.
func serveSocket(w http.ResponseWriter, r *http.Request, open *sync.WaitGroup, gone <-chan struct{}) (conn *websocket.Conn, done func()) {
	up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return nil, nil
	}
	stop := make(chan struct{})
	open.Go(func() { // a hijacked socket is not the server's to close
		select {
		case <-gone:
			conn.Close()
		case <-stop:
		}
	})
	return conn, func() { close(stop); conn.Close() }
}

type fluxCall struct {
	f      *Flux
	conn   *websocket.Conn
	manner Manner
	rate   int
	eager  bool

	sequence, turn int
	heard, from    int // samples so far, and where the turn began
	loud, quiet    int // samples of sound in it, and of silence since
	shown          int // words
	told           bool
}

func (c *fluxCall) run() {
	for {
		kind, b, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		if kind == websocket.BinaryMessage {
			if len(b) == 0 || !c.listen(b) {
				return
			}
			continue
		}
		c.f.note(Request{Path: "message", Body: b})
		var in struct {
			Type     string
			Keyterms []string
		}
		if json.Unmarshal(b, &in) != nil {
			return
		}
		switch in.Type {
		case "Configure":
			c.send(object{"type": "ConfigureSuccess", "keyterms": in.Keyterms, "thresholds": object{}})
		case "ForceEndTurn": // ignored while there is no turn
			if c.loud > 0 && !c.f.script.Deaf {
				c.end("manual")
			}
		case "CloseStream": // no end of turn, no metadata, no status
			if c.loud > 0 {
				c.tell("Update", c.words(0))
			}
			_ = c.conn.WriteMessage(websocket.CloseMessage, nil)
			return
		default:
			c.send(object{"type": "Error", "code": "UNPARSABLE_CLIENT_MESSAGE", "description": "what is " + in.Type + "?"})
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
		_ = c.conn.NetConn().Close()
		return false
	case Garbage:
		_ = c.conn.WriteMessage(websocket.TextMessage, []byte("<html>what?</html>"))
	case Wrong:
		_ = c.conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"TurnInfo","event":"Update","turn_index":"first","transcript":7}`))
	default:
		c.tell("StartOfTurn", c.words(1))
	}
	return true
}

func (c *fluxCall) end(trigger string) {
	if c.manner == Slow {
		t := time.NewTimer(c.f.script.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.f.gone:
			return
		}
	}
	m := c.info("EndOfTurn", c.words(0))
	m["trigger"] = trigger
	c.send(m)
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

func (c *fluxCall) tell(event string, words []string) { c.send(c.info(event, words)) }

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

func (c *fluxCall) send(m object) {
	m["request_id"], m["sequence_id"] = "0f5a8c1e-64f1-4d3c-9c0e-1b7a54f0a002", c.sequence
	c.sequence++
	_ = c.conn.WriteJSON(m)
}
