package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// What the stand-ins keep their callers waiting for: 760 ms a turn.
const (
	endpointing    = 300 * time.Millisecond // of quiet audio, until the recognizer is sure
	finalAfter     = 50 * time.Millisecond
	firstToken     = 150 * time.Millisecond
	firstSentence  = 160 * time.Millisecond // the rest of it
	firstSpeech    = 100 * time.Millisecond
	leastWord      = 100 * time.Millisecond // of sound; less is a click
	interimAfter   = 180 * time.Millisecond // of speech
	injectedByTurn = endpointing + finalAfter + firstToken + firstSentence + firstSpeech

	speechRate = 24000 // hertz
	openingFor = 1500 * time.Millisecond
	restFor    = 2500 * time.Millisecond
	replyFor   = openingFor + restFor
	speechPace = 2 // times real time
)

// vendors stand in for a recognizer with Deepgram's protocol and for a model
// and a voice with OpenAI's, on one plain port. They note in each call what
// they truly kept it waiting for: their own timers are not the gateway's fault.
type vendors struct {
	find   func(id int) *caller
	faults faults
	server *http.Server
	addr   string
	voice  []byte // a second of speech, 16-bit at speechRate

	anybody   *caller  // who calls by browser: they are not told apart
	listening sync.Map // *listener → true
}

// faults are what is wrong with the vendors, while set.
type faults struct {
	stall atomic.Bool // the first model never answers
	mute  atomic.Bool // the first voice answers 500
}

// The first of two models and voices of the agent, which faults befall.
const firstChoice = "first"

func startVendors(find func(int) *caller) (*vendors, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	v := &vendors{find: find, addr: l.Addr().String(), anybody: &caller{name: callerName(0), tally: &tally{}}}
	for _, s := range vowels(speechRate, 0.3) {
		v.voice = append(v.voice, byte(s), byte(uint16(s)>>8))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/listen", v.listen)
	mux.HandleFunc("POST /v1/chat/completions", v.chat)
	mux.HandleFunc("POST /v1/audio/speech", v.speak)
	v.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = v.server.Serve(l) }() // ends with close
	return v, nil
}

func (v *vendors) close() { _ = v.server.Close() }

// killRecognizers breaks every recognizer's socket, without a goodbye.
func (v *vendors) killRecognizers() {
	v.listening.Range(func(l, _ any) bool {
		l.(*listener).conn.Close()
		return true
	})
}

// hangUpIdle closes connections that wait for a next request.
func (v *vendors) hangUpIdle() {
	v.server.SetKeepAlivesEnabled(false)
	v.server.SetKeepAlivesEnabled(true)
}

// listen is one recognizer's stream.
func (v *vendors) listen(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	l := &listener{vendors: v, conn: conn, size: frameBytes}
	if r.FormValue("sample_rate") == "16000" {
		l.call, l.size = v.anybody, 16000/50 // a browser's audio is resampled: no name survives that
	}
	v.listening.Store(l, true)
	defer v.listening.Delete(l)
	defer l.gone()
	var msg []byte
	var pcm []int16
	for {
		kind, in, err := conn.NextReader()
		if err != nil {
			return
		}
		if msg, err = readAll(msg[:0], in); err != nil {
			return
		}
		if kind == websocket.TextMessage {
			if strings.Contains(string(msg), "CloseStream") {
				l.write(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
			}
			continue
		}
		for i := 0; i+1 < len(msg); i += 2 {
			pcm = append(pcm, int16(uint16(msg[i])|uint16(msg[i+1])<<8))
		}
		for len(pcm) >= l.size {
			l.frame(pcm[:l.size])
			pcm = pcm[:copy(pcm, pcm[l.size:])]
		}
	}
}

func readAll(buf []byte, r io.Reader) ([]byte, error) {
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, make([]byte, 4096)...)[:len(buf)]
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

// A listener hears one call: an utterance ends with so much quiet audio.
type listener struct {
	vendors *vendors
	size    int     // samples of a frame
	call    *caller // nil until it said its name; a floor's never does
	at      time.Duration
	voiced  time.Duration // speech in this utterance; 0: none
	quiet   time.Duration

	mu   sync.Mutex // of writes
	conn *websocket.Conn
	over bool
}

const ptime = 20 * time.Millisecond

func (l *listener) frame(pcm []int16) {
	l.at += ptime
	if l.call == nil {
		if id, ok := nameIn(pcm); ok {
			l.call = l.vendors.find(id)
		}
	}
	if heard(pcm) {
		if l.voiced == 0 {
			l.write(websocket.TextMessage, fmt.Appendf(nil, `{"type":"SpeechStarted","channel":[0,1],"timestamp":%.3f}`, l.at.Seconds()))
		}
		l.quiet = 0
		l.voiced += ptime
		if l.voiced == interimAfter && l.call != nil && l.call.interrupting() {
			l.result("no wait please "+l.call.name, false)
			l.call.interimAt(time.Now())
		}
		return
	}
	if l.voiced == 0 {
		return
	}
	if l.quiet += ptime; l.quiet >= endpointing {
		word := l.voiced >= leastWord && l.call != nil
		l.voiced, l.quiet = 0, 0
		if !word {
			return
		}
		sure := time.Now()
		time.AfterFunc(finalAfter, func() { // ends by itself; a closed socket takes no words
			l.result("Please tell "+l.call.name+" more.", true)
			l.call.waited(endpointing + time.Since(sure))
		})
	}
}

// result sends a transcript, final and at the end of an utterance, or interim.
func (l *listener) result(text string, final bool) {
	at := l.at.Seconds()
	l.write(websocket.TextMessage, fmt.Appendf(nil,
		`{"type":"Results","channel_index":[0,1],"duration":1.0,"start":%.3f,"is_final":%t,"speech_final":%t,"channel":{"alternatives":[{"transcript":"%s","confidence":0.98,"words":[]}]}}`,
		max(0, at-1), final, final, text))
}

func (l *listener) write(kind int, msg []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		_ = l.conn.WriteMessage(kind, msg) // a gateway that has gone needs no words
	}
}

func (l *listener) gone() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
}

// named finds the caller that a request is for, by the name in its text.
func (v *vendors) named(text string) *caller {
	for _, name := range calledQ.FindAllString(text, -1) {
		if name == v.anybody.name {
			return v.anybody
		}
		if c := v.find(nameNumber(name)); c != nil {
			return c
		}
	}
	return nil
}

var calledQ = regexp.MustCompile(`\bQ[a-j]+\b`)

// callerName is a word for a number, which nothing on the way changes.
func callerName(id int) string {
	name := []byte("Q")
	for _, d := range fmt.Sprint(id) {
		name = append(name, 'a'+byte(d-'0'))
	}
	return string(name)
}

func nameNumber(name string) (id int) {
	for _, c := range name[1:] {
		id = id*10 + int(c-'a')
	}
	return id
}

// chat is a model: it takes its time for the first word and for the rest of
// the first sentence. It goes on for long to a caller who means to interrupt.
func (v *vendors) chat(w http.ResponseWriter, r *http.Request) {
	asked := time.Now()
	var req struct {
		Model    string
		Messages []struct{ Role, Content string }
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil || len(req.Messages) == 0 {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body) // to its end, so that the server notices a client who leaves
	c := v.named(req.Messages[len(req.Messages)-1].Content)
	if c == nil {
		http.Error(w, "who calls?", http.StatusBadRequest)
		return
	}
	defer c.request(r.Context())()
	if v.faults.stall.Load() && req.Model == firstChoice {
		<-r.Context().Done()
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	say := func(text string) bool {
		fmt.Fprintf(w, `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}`+"\n\n", text)
		return out.Flush() == nil
	}
	if !until(r, asked.Add(firstToken)) || !say("Well "+c.name+" ") || !until(r, asked.Add(firstToken+firstSentence)) ||
		!say("here is more about that for you. And") {
		return
	}
	c.waited(time.Since(asked))
	say(" " + c.name + " this is the rest of what I have to say about it.")
	if c.script.interrupts() {
		for range 30 {
			if !until(r, time.Now().Add(100*time.Millisecond)) || !say(" and") {
				return
			}
		}
	}
	fmt.Fprint(w, `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+"\n\n"+
		`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":50,"completion_tokens":20,"total_tokens":70}}`+"\n\ndata: [DONE]\n\n")
}

// speak is a voice: 4 s a reply in two clauses, faster than real time.
func (v *vendors) speak(w http.ResponseWriter, r *http.Request) {
	asked := time.Now()
	var req struct{ Model, Input string }
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	if v.faults.mute.Load() && req.Model == firstChoice {
		http.Error(w, `{"error":{"message":"out of order"}}`, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "audio/pcm")
	c := v.named(req.Input)
	first := strings.HasPrefix(req.Input, "Well")
	length := restFor
	if first {
		length = openingFor
	}
	if c != nil {
		defer c.request(r.Context())()
	}
	if !until(r, asked.Add(firstSpeech)) {
		return
	}
	out := http.NewResponseController(w)
	const chunk = 100 * time.Millisecond
	bytes := speechRate / 10 * 2
	for sent := time.Duration(0); sent < length; sent += chunk {
		at := int(sent/chunk) * bytes % len(v.voice)
		if _, err := w.Write(v.voice[at : at+bytes]); err != nil || out.Flush() != nil {
			return
		}
		if sent == 0 && first && c != nil {
			c.waited(time.Since(asked))
		}
		if !until(r, asked.Add(firstSpeech+(sent+chunk)/speechPace)) {
			return
		}
	}
}

// until waits; it returns false when the client has left.
func until(r *http.Request, at time.Time) bool {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}
