package providertest

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"parley/agent"
)

// An OpenAIScript is what an [OpenAI] stand-in says. Of each list the first
// request gets the first entry and the last entry goes on.
type OpenAIScript struct {
	Key         string                             // required of requests; "" takes any
	Transcripts []string                           // of /audio/transcriptions
	Replies     []Reply                            // of /chat/completions
	Choose      func(request []byte) (Reply, bool) // goes before Replies; request is JSON
	Speech      func(text string) []int16          // of /audio/speech at 24 kHz; default [Tone]
	Sound       Sound                              // how that speech is sent
	Manner      Manner
	Delay       time.Duration // of [Slow]: before the answer and before each piece
}

// A Sound is how speech is sent by servers that are not quite the vendor's.
type Sound struct {
	Rate  int  // of default speech, said by a parameter of the media type; default 24000
	WAV   bool // said by a WAV header instead
	Piece int  // bytes of a piece; default 4801, which splits samples
}

// A Reply is one answer of the language model.
type Reply struct {
	Text  string
	Calls []agent.ToolCall
}

// OpenAI stands in for api.openai.com: chat completions (streamed),
// transcriptions and speech, under URL.
type OpenAI struct {
	standIn // URL is with /v1

	script OpenAIScript
}

// NewOpenAI starts a stand-in. The caller must Close it.
func NewOpenAI(s OpenAIScript) *OpenAI {
	s.Sound.Piece = cmp.Or(s.Sound.Piece, 4801)
	if s.Speech == nil {
		s.Speech = func(text string) []int16 { return Tone(text, cmp.Or(s.Sound.Rate, 24000)) }
	}
	o := &OpenAI{script: s}
	o.start(s.Manner, map[string]http.HandlerFunc{
		"POST /v1/chat/completions":     o.chat,
		"POST /v1/audio/transcriptions": o.transcribe,
		"POST /v1/audio/speech":         o.speak,
	})
	o.URL += "/v1"
	return o
}

// begin records the request and answers what is the same everywhere. Its
// number counts from 0 by path; ok is false when the answer was given.
func (o *OpenAI) begin(w http.ResponseWriter, r *http.Request, req Request) (m Manner, number int, ok bool) {
	req.Path = strings.TrimPrefix(r.URL.Path, "/v1")
	m, number = o.note(req)
	if o.script.Key != "" && r.Header.Get("Authorization") != "Bearer "+o.script.Key {
		m = Refuses
	}
	switch {
	case o.refuse(w, r, m):
		return m, number, false
	case m == Silent:
		o.stall(r)
		return m, number, false
	case m == Garbage:
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "data: <html>what?</html>\n\n")
		return m, number, false
	}
	return m, number, o.pause(r, m)
}

// pause waits out the delay of [Slow]; it is false when the client went.
func (o *OpenAI) pause(r *http.Request, m Manner) bool {
	if m != Slow {
		return true
	}
	t := time.NewTimer(o.script.Delay)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
	case <-o.gone:
	}
	return false
}

func pick[T any](list []T, n int) (v T) {
	if len(list) == 0 {
		return v
	}
	return list[min(n, len(list)-1)]
}

func (o *OpenAI) transcribe(w http.ResponseWriter, r *http.Request) {
	req := Request{Fields: map[string]string{}}
	if err := r.ParseMultipartForm(32 << 20); err != nil {
		http.Error(w, `{"error":{"type":"invalid_request_error"}}`, http.StatusBadRequest)
		return
	}
	for k, v := range r.MultipartForm.Value {
		req.Fields[k] = v[0]
	}
	f, _, err := r.FormFile("file")
	if err != nil || req.Fields["model"] == "" {
		http.Error(w, `{"error":{"type":"invalid_request_error"}}`, http.StatusBadRequest)
		return
	}
	defer f.Close()
	req.File, _ = io.ReadAll(f)
	m, n, ok := o.begin(w, r, req)
	switch {
	case !ok:
	case m == Rude:
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, `{"text":"he`)
		_ = http.NewResponseController(w).Flush()
		cut(w)
	case m == Wrong:
		fmt.Fprint(w, `{"text":{"is":[1]}}`)
	default:
		answer := object{"text": pick(o.script.Transcripts, n), "usage": object{"type": "duration", "seconds": 1}}
		o.answered(answer)
		writeJSON(w, answer)
	}
}

func (o *OpenAI) speak(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var in struct{ Model, Voice, Input string }
	if json.Unmarshal(body, &in) != nil || in.Model == "" || in.Voice == "" || in.Input == "" || len([]rune(in.Input)) > 4096 {
		http.Error(w, `{"error":{"type":"invalid_request_error"}}`, http.StatusBadRequest)
		return
	}
	m, _, ok := o.begin(w, r, Request{Body: body})
	if !ok {
		return
	}
	if m == Wrong {
		writeJSON(w, map[string]any{"audio": 7})
		return
	}
	wire := o.script.Sound.begin(w.Header())
	for _, v := range o.script.Speech(in.Input) {
		wire = append(wire, byte(v), byte(v>>8))
	}
	for i := 0; len(wire) > 0; i++ {
		n := min(len(wire), o.script.Sound.Piece)
		if _, err := w.Write(wire[:n]); err != nil {
			return
		}
		wire = wire[n:]
		_ = http.NewResponseController(w).Flush()
		if m == Rude {
			cut(w)
		}
		if !o.pause(r, m) {
			return
		}
	}
}

// begin sets the header and returns what goes before the samples.
func (s Sound) begin(h http.Header) []byte {
	switch {
	case s.WAV:
		h.Set("Content-Type", "audio/wav")
		b := []byte("RIFF\xff\xff\xff\xffWAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00") // a stream knows no length
		b = binary.LittleEndian.AppendUint32(b, uint32(s.Rate))
		b = binary.LittleEndian.AppendUint32(b, uint32(2*s.Rate))
		return append(b, "\x02\x00\x10\x00data\xff\xff\xff\xff"...)
	case s.Rate > 0:
		h.Set("Content-Type", "audio/pcm;rate="+strconv.Itoa(s.Rate))
	default:
		h.Set("Content-Type", "audio/pcm")
	}
	return nil
}

func (o *OpenAI) chat(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var in struct {
		Model    string
		Stream   bool
		Messages []json.RawMessage
	}
	if json.Unmarshal(body, &in) != nil || in.Model == "" || !in.Stream || len(in.Messages) == 0 {
		http.Error(w, `{"error":{"type":"invalid_request_error"}}`, http.StatusBadRequest)
		return
	}
	m, n, ok := o.begin(w, r, Request{Body: body})
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if m == Wrong {
		fmt.Fprint(w, "data: {\"choices\":[{\"delta\":{\"content\":42}}]}\n\n")
		return
	}
	reply := pick(o.script.Replies, n)
	if o.script.Choose != nil {
		if own, ok := o.script.Choose(body); ok {
			reply = own
		}
	}
	fmt.Fprint(w, ": keepalive\n\n\n\n")
	for i, c := range chunks(in.Model, reply) {
		if !o.pause(r, m) {
			return
		}
		b := o.answered(c)
		if _, err := fmt.Fprintf(w, "data: %s\n\n", b); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		if m == Rude && i == 1 {
			cut(w)
		}
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

type object = map[string]any

// chunks is a reply as the vendor streams it: a role, words, pieces of tool
// calls by index, the finish, and the usage with no choices.
func chunks(model string, r Reply) []object {
	var out []object
	chunk := func(delta object, finish any) {
		out = append(out, object{
			"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1760000000, "model": model, "usage": nil,
			"choices": []object{{"index": 0, "delta": delta, "finish_reason": finish}},
		})
	}
	chunk(object{"role": "assistant", "content": ""}, nil)
	for _, w := range strings.SplitAfter(r.Text, " ") {
		if w != "" {
			chunk(object{"content": w}, nil)
		}
	}
	finish := "stop"
	for i, c := range r.Calls {
		finish = "tool_calls"
		chunk(object{"tool_calls": []object{{"index": i, "id": c.ID, "type": "function", "function": object{"name": c.Name, "arguments": ""}}}}, nil)
		half := len(c.Arguments) / 2
		for _, part := range []string{c.Arguments[:half], c.Arguments[half:]} {
			chunk(object{"tool_calls": []object{{"index": i, "function": object{"arguments": part}}}}, nil)
		}
	}
	chunk(object{}, finish)
	words := len(strings.Fields(r.Text))
	return append(out, object{
		"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1760000000, "model": model, "choices": []object{},
		"usage": object{"prompt_tokens": 10, "completion_tokens": words, "total_tokens": 10 + words},
	})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}
