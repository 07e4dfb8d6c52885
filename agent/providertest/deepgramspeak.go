package providertest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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
	manners
	URL string // http

	script DeepgramSpeakScript
	server *httptest.Server
	open   sync.WaitGroup
	conns  map[*websocket.Conn]bool // under manners.mu
}

// NewDeepgramSpeak starts a stand-in. The caller must Close it.
func NewDeepgramSpeak(s DeepgramSpeakScript) *DeepgramSpeak {
	if s.Speech == nil {
		s.Speech = Tone
	}
	d := &DeepgramSpeak{script: s, manners: manners{manner: s.Manner, gone: make(chan struct{})}, conns: map[*websocket.Conn]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/speak", d.speak)
	d.server = httptest.NewServer(mux)
	d.URL = d.server.URL
	return d
}

// Close stops the stand-in and cuts what is open.
func (d *DeepgramSpeak) Close() {
	close(d.gone)
	d.server.CloseClientConnections()
	d.server.Close()
	d.open.Wait()
}

// Cut breaks every open socket without a word.
func (d *DeepgramSpeak) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		_ = c.NetConn().Close()
	}
}

func (d *DeepgramSpeak) speak(w http.ResponseWriter, r *http.Request) {
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
	e, rate := q.Get("encoding"), atoi(q.Get("sample_rate"))
	if !strings.HasPrefix(q.Get("model"), "aura-") || e != "linear16" && !(e == "mulaw" && rate == 8000) {
		http.Error(w, "Bad Request", http.StatusBadRequest)
		return
	}
	if m == Silent {
		d.stall(r)
		return
	}
	conn, done := serveSocket(w, r, &d.open, d.gone)
	if conn == nil {
		return
	}
	defer done()
	d.mu.Lock()
	d.conns[conn] = true
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.conns, conn)
	}()
	c := &deepgramSpeaker{d: d, conn: conn, manner: m, rate: rate, mulaw: e == "mulaw", in: make(chan []byte, 64)}
	d.open.Go(c.read)
	c.run()
	conn.Close()
	for range c.in { // until read has ended
	}
}

type deepgramSpeaker struct {
	d       *DeepgramSpeak
	conn    *websocket.Conn
	manner  Manner
	rate    int
	mulaw   bool
	in      chan []byte
	text    string
	flushes []time.Time
	flushed int
}

func (c *deepgramSpeaker) read() {
	defer close(c.in)
	for {
		_, b, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		c.d.note(Request{Path: "message", Body: b})
		c.in <- b
	}
}

func (c *deepgramSpeaker) run() {
	const id = "0f5a8c1e-64f1-4d3c-9c0e-1b7a54f0a003"
	c.send(object{"type": "Metadata", "request_id": id, "model_name": "aura-2-thalia-en", "model_version": "2025-01-01.0", "model_uuid": id})
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
		_ = c.conn.WriteMessage(websocket.TextMessage, []byte("<html>what?</html>"))
		return true
	case Wrong:
		_ = c.conn.WriteMessage(websocket.TextMessage, []byte(`{"type":7,"sequence_id":"one"}`))
		return true
	}
	pcm := c.d.script.Speech(text, c.rate)
	hold, held := len(pcm), false
	if c.d.script.Hold != nil {
		hold, held = c.d.script.Hold(text)
	}
	for len(pcm) > 0 {
		n := min(len(pcm), c.rate/10+1)
		c.audio(pcm[:n])
		pcm = pcm[n:]
		if c.manner == Rude {
			_ = c.conn.NetConn().Close()
			return false
		}
		if c.manner == Slow && !c.pause() {
			return false
		}
		if hold -= n; !held || hold > 0 {
			continue
		}
		// What is under way when Clear comes still reaches the client.
		for b := range c.in {
			if strings.Contains(string(b), `"Clear"`) {
				c.audio(pcm)
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

func (c *deepgramSpeaker) pause() bool {
	t := time.NewTimer(c.d.script.Delay)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.d.gone:
		return false
	}
}

// audio sends samples in messages that split one of them.
func (c *deepgramSpeaker) audio(pcm []int16) {
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
			_ = c.conn.WriteMessage(websocket.BinaryMessage, b)
		}
	}
}

func (c *deepgramSpeaker) send(m object) { _ = c.conn.WriteJSON(m) }

func (c *deepgramSpeaker) end(code int, text string) bool {
	_ = c.conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(code, text))
	return false
}
