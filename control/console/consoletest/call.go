package consoletest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"testing"
	"time"
)

// An Item is one turn in the written conversation.
type Item struct {
	Speaker string `json:"speaker"` // caller, agent
	State   string `json:"state"`   // interim, final, speaking, heard, cut
	Text    string `json:"text"`    // what was said: for a turn cut off, what was heard of it
	Unheard string `json:"unheard"` // agent: the words that nobody heard, in state cut
	Coming  string `json:"coming"`  // agent: the words still to be heard, in state speaking
}

const readLog = `[...document.querySelectorAll('[role=log] [data-speaker]')].map((e) => {
  const of = (name) => [...e.querySelectorAll('.' + name)].map((s) => s.textContent).join('');
  const agent = e.dataset.speaker === 'agent';
  return { speaker: e.dataset.speaker, state: e.dataset.state,
    text: (agent ? of('heard') : e.querySelector('p').textContent).trim(),
    unheard: of('unheard').trim(), coming: of('coming').trim() };
})`

// Log returns the written conversation.
func (p *Page) Log() []Item {
	p.t.Helper()
	var items []Item
	p.Eval(readLog, &items)
	return items
}

// WaitLog waits until the written conversation satisfies met, and returns it.
func (p *Page) WaitLog(what string, limit time.Duration, met func([]Item) bool) []Item {
	p.t.Helper()
	var items []Item
	p.Wait(what, limit, func() bool {
		items = nil
		return p.eval(readLog, &items) == nil && met(items)
	})
	return items
}

// A Status is the call's state as the page tells it.
type Status struct {
	State     string `json:"state"`   // idle, connecting, connected, listening, …, ended, failed
	Words     string `json:"words"`   // the same for people
	LatencyMS int    `json:"latency"` // of the last turn; 0: none yet
	Notice    string `json:"notice"`  // what went wrong, in words; empty: nothing
}

const readStatus = `(() => {
  const status = document.querySelector('[role=status]');
  const notice = document.querySelector('[role=alert]:not([hidden]) p');
  return { state: status.dataset.state, words: status.firstElementChild.textContent,
    latency: Number(status.dataset.latencyMs || 0), notice: notice ? notice.textContent : '' };
})()`

// Status returns the call's state.
func (p *Page) Status() Status {
	p.t.Helper()
	var s Status
	p.Eval(readStatus, &s)
	return s
}

// WaitStatus waits until the call's state satisfies met, and returns it.
func (p *Page) WaitStatus(what string, limit time.Duration, met func(Status) bool) Status {
	p.t.Helper()
	var s Status
	p.Wait(what, limit, func() bool {
		s = Status{}
		return p.eval(readStatus, &s) == nil && met(s)
	})
	return s
}

// RecordRate is the sampling rate of recordings in hertz.
const RecordRate = 16000

const startRecording = `(() => {
  const sound = document.querySelector('audio');
  const tap = (window.consoleTestTap = { chunks: [], stream: null });
  const context = new AudioContext({ sampleRate: 16000 });
  const attach = () => {
    const stream = sound.srcObject;
    if (!stream || stream === tap.stream || !stream.getAudioTracks().length) return;
    tap.stream = stream;
    const node = context.createScriptProcessor(2048, 1, 1);
    node.onaudioprocess = (e) => tap.chunks.push(Int16Array.from(e.inputBuffer.getChannelData(0),
      (s) => Math.max(-1, Math.min(1, s)) * 32767));
    tap.nodes = [context.createMediaStreamSource(stream), node];
    tap.nodes[0].connect(node).connect(context.destination);
  };
  sound.addEventListener('loadedmetadata', attach);
  sound.addEventListener('playing', attach);
  attach();
  return context.resume();
})()`

const readRecording = `(() => {
  const bytes = (window.consoleTestTap?.chunks || []).flatMap((c) => [...new Uint8Array(c.buffer)]);
  let text = '';
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.slice(i, i + 8192));
  return btoa(text);
})()`

// Record begins to record the agent's audio as this page plays it, now or from
// when it first arrives. Call it before the call for all of it.
func (p *Page) Record() {
	p.t.Helper()
	p.Eval(startRecording, nil)
}

// Recording returns what was recorded so far: mono samples at [RecordRate],
// gaps where the page played nothing left out.
func (p *Page) Recording() []int16 {
	p.t.Helper()
	var text string
	p.Eval(readRecording, &text)
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		p.t.Fatalf("read recording: %v", err)
	}
	pcm := make([]int16, len(data)/2)
	if err := binary.Read(bytes.NewReader(data), binary.LittleEndian, pcm); err != nil {
		p.t.Fatalf("read recording: %v", err)
	}
	return pcm
}

// WAV returns mono 16-bit samples as a RIFF file.
func WAV(t testing.TB, rate int, pcm []int16) []byte {
	t.Helper()
	size := uint32(2 * len(pcm))
	var b bytes.Buffer
	for _, v := range []any{
		[]byte("RIFF"), 36 + size, []byte("WAVEfmt "), uint32(16),
		uint16(1), uint16(1), uint32(rate), uint32(2 * rate), uint16(2), uint16(16),
		[]byte("data"), size, pcm,
	} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatalf("write wav: %v", err)
		}
	}
	return b.Bytes()
}
