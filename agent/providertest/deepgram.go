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
	manners
	URL string // http

	script DeepgramScript
	server *httptest.Server
	open   sync.WaitGroup
	next   int   // utterance; under manners.mu
	audio  int64 // bytes; under manners.mu
}

// NewDeepgram starts a stand-in. The caller must Close it.
func NewDeepgram(s DeepgramScript) *Deepgram {
	d := &Deepgram{script: s, manners: manners{manner: s.Manner, gone: make(chan struct{})}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/listen", d.listen)
	d.server = httptest.NewServer(mux)
	d.URL = d.server.URL
	return d
}

// Close stops the stand-in and cuts what is open.
func (d *Deepgram) Close() {
	close(d.gone)
	d.server.CloseClientConnections()
	d.server.Close()
	d.open.Wait()
}

// AudioBytes returns how much audio came.
func (d *Deepgram) AudioBytes() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.audio
}

func (d *Deepgram) listen(w http.ResponseWriter, r *http.Request) {
	d.open.Add(1)
	defer d.open.Done()
	m, _ := d.note(Request{Path: r.URL.RequestURI()})
	if d.script.Key != "" && r.Header.Get("Authorization") != "Token "+d.script.Key {
		m = Refuses
	}
	if refuse(w, r, m) {
		return
	}
	q := r.URL.Query()
	if q.Get("encoding") == "" || q.Get("sample_rate") == "" || q.Get("model") == "" {
		http.Error(w, "Bad Request", http.StatusBadRequest)
		return
	}
	if m == Silent {
		d.stall(r)
		return
	}
	up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	stop := make(chan struct{})
	defer close(stop)
	d.open.Go(func() { // a hijacked socket is not the server's to close
		select {
		case <-d.gone:
			conn.Close()
		case <-stop:
		}
	})
	(&deepgramCall{d: d, conn: conn, manner: m, rate: atoi(q.Get("sample_rate"))}).run()
}

type deepgramCall struct {
	d      *Deepgram
	conn   *websocket.Conn
	manner Manner
	rate   int
	heard  int // samples so far
	from   int // sample where the utterance began
	voiced int // samples since then that are no silence
	shown  bool
}

func (c *deepgramCall) run() {
	for {
		kind, b, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		if kind == websocket.BinaryMessage {
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
		c.d.note(Request{Path: "message", Body: b})
		var in struct{ Type string }
		if json.Unmarshal(b, &in) != nil {
			return
		}
		switch in.Type {
		case "Finalize":
			c.finalize()
		case "CloseStream":
			c.send(object{"type": "Metadata", "request_id": "r", "channels": 1, "duration": float64(c.heard) / float64(c.rate)})
			_ = c.conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
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
	case Rude:
		c.send(c.results(c.words(1), false))
		_ = c.conn.NetConn().Close()
		return false
	case Garbage:
		_ = c.conn.WriteMessage(websocket.TextMessage, []byte("<html>what?</html>"))
	case Wrong:
		_ = c.conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"Results","start":"now","channel":7}`))
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

func (c *deepgramCall) finalize() {
	if c.manner == Slow {
		t := time.NewTimer(c.d.script.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.d.gone:
			return
		}
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
}

func (c *deepgramCall) results(text string, final bool) object {
	return object{
		"type": "Results", "channel_index": []int{0, 1},
		"start": float64(c.from) / float64(c.rate), "duration": float64(c.heard-c.from) / float64(c.rate),
		"is_final": final, "speech_final": false, "from_finalize": false,
		"channel":  object{"alternatives": []object{{"transcript": text, "confidence": 0.98, "words": []object{}}}},
		"metadata": object{"request_id": "r", "model_uuid": "u", "model_info": object{"name": "n", "version": "v", "arch": "a"}},
	}
}

func (c *deepgramCall) send(m object) { _ = c.conn.WriteJSON(m) }

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
