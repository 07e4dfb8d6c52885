package signaling

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

var (
	mediaIn = []byte(`{"event":"media","sequenceNumber":"2","streamSid":"MZ00000000000000000000000000000001","media":{"track":"inbound","chunk":"1","timestamp":"20","payload":"` +
		base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x55}, frameBytes)) + `"}}`)
	markIn = []byte(`{"event":"mark","sequenceNumber":"10","streamSid":"MZ1","mark":{"name":"7"}}`)
)

func TestParseStreamMessage(t *testing.T) {
	tests := []struct {
		name, in                   string
		event, payload, mark, dtmf string
		bad                        bool
	}{
		{name: "media", in: `{"event":"media","media":{"track":"inbound","payload":"//8="}}`, event: "media", payload: "//8="},
		{name: "order", in: `{"media":{"payload":"//8=","chunk":"1"},"sequenceNumber":"2","event":"media"}`, event: "media", payload: "//8="},
		{name: "spaces", in: " {\n\t\"event\" : \"media\" , \"media\" : { \"payload\" : \"//8=\" } } \r\n", event: "media", payload: "//8="},
		{name: "escapes", in: `{"event":"med\u0069a","media":{"payload":"\/\/8="}}`, event: "media", payload: "//8="},
		{name: "unknown-fields", in: `{"new":{"a":[1,{"b":null}]},"event":"media","media":{"x":1.5e3,"payload":"//8="}}`, event: "media", payload: "//8="},
		{name: "mark", in: string(markIn), event: "mark", mark: "7"},
		{name: "dtmf", in: `{"event":"dtmf","streamSid":"MZ1","dtmf":{"track":"inbound_track","digit":"5"}}`, event: "dtmf", dtmf: "5"},
		{name: "stop", in: `{"event":"stop","stop":{"callSid":"CA1"}}`, event: "stop"},
		{name: "unknown-event", in: `{"event":"new thing","thing":[]}`, event: "new thing"},
		{name: "cut", in: `{"event":"media","media":{"payload":"//8=`, bad: true},
		{name: "two", in: `{"event":"stop"}{"event":"stop"}`, bad: true},
		{name: "no-event", in: `{}`, bad: true},
		{name: "list", in: `[]`, bad: true},
		{name: "event-is-number", in: `{"event":1}`, bad: true},
		{name: "media-is-text", in: `{"event":"media","media":"x"}`, bad: true},
		{name: "bare-word", in: `{"event":"media","x":nul}`, bad: true},
		{name: "octal", in: `{"event":"media","x":012}`, bad: true},
		{name: "empty", in: ``, bad: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := parseStreamMessage([]byte(tt.in))
			if (err != nil) != tt.bad {
				t.Fatalf("error = %v, want bad %v", err, tt.bad)
			}
			if string(m.event) != tt.event || string(m.payload) != tt.payload || string(m.name) != tt.mark || string(m.digit) != tt.dtmf {
				t.Errorf("got %s %s %s %s", m.event, m.payload, m.name, m.digit)
			}
		})
	}
}

func TestDecodePayload(t *testing.T) {
	for _, in := range []string{"//8=", "//8"} {
		if b, err := decodePayload(nil, []byte(in)); err != nil || !bytes.Equal(b, []byte{0xff, 0xff}) {
			t.Errorf("decodePayload(%s) = %x, %v", in, b, err)
		}
	}
	for _, in := range []string{"", "?", "//8==", strings.Repeat("A", 4*maxChunk)} {
		if _, err := decodePayload(nil, []byte(in)); err == nil {
			t.Errorf("decodePayload(%.10q) is good", in)
		}
	}
}

func TestStreamWriter(t *testing.T) {
	w := newStreamWriter(`MZ"1`)
	var got struct {
		Event     string
		StreamSID string `json:"streamSid"`
		Media     struct{ Payload []byte }
		Mark      struct{ Name string }
	}
	for _, n := range []int{1, 159, 160, 161, 480, 800, maxMessage - 1, maxMessage} {
		audio := bytes.Repeat([]byte{0x12}, n)
		if err := json.Unmarshal(w.media(audio), &got); err != nil {
			t.Fatal(err)
		}
		b := got.Media.Payload
		if got.Event != "media" || got.StreamSID != `MZ"1` || len(b)%frameBytes != 0 || len(b)-n >= frameBytes ||
			!bytes.Equal(b[:n], audio) || len(bytes.Trim(b[n:], "\xff")) != 0 {
			t.Errorf("%d bytes became %d in a message %q of %q", n, len(b), got.Event, got.StreamSID)
		}
	}
	if err := json.Unmarshal(w.mark(1<<64-1), &got); err != nil || got.Event != "mark" || got.Mark.Name != "18446744073709551615" {
		t.Errorf("mark: %v, %+v", err, got)
	}
	if err := json.Unmarshal(w.clear(), &got); err != nil || got.Event != "clear" || got.StreamSID != `MZ"1` {
		t.Errorf("clear: %v, %+v", err, got)
	}
}

func TestStreamMessagesDoNotAllocate(t *testing.T) {
	w := newStreamWriter("MZ1")
	audio := make([]byte, 800)
	part := make([]byte, 790)
	buf := make([]byte, 0, frameBytes)
	q := newFrameQueue()
	w.media(audio)
	tests := []struct {
		name string
		f    func()
	}{
		{"media-in", func() {
			m, _ := parseStreamMessage(mediaIn)
			buf, _ = decodePayload(buf[:0], m.payload)
			q.push(buf)
		}},
		{"mark-in", func() { _, _ = parseStreamMessage(markIn) }},
		{"media-out", func() { w.media(audio) }},
		{"padded-out", func() { w.media(part) }},
		{"mark-out", func() { w.mark(12345) }},
		{"clear-out", func() { w.clear() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if n := testing.AllocsPerRun(200, tt.f); n != 0 {
				t.Errorf("allocates %v times, want 0", n)
			}
		})
	}
}

// Whatever the fast scanner takes, encoding/json reads the same way.
func FuzzParseStreamMessage(f *testing.F) {
	f.Add(mediaIn)
	f.Add(markIn)
	f.Add([]byte(`{"event":"media","media":{"payload":"\/\/8="}}`))
	f.Add([]byte(`{"event":"start","start":{"tracks":["inbound"]},"n":-1.5e3,"t":true}`))
	f.Add([]byte(`{"event":"dtmf","dtmf":{"digit":"#"}}`))
	f.Add([]byte(`{"event":"media","event":"mark","mark":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := scanner{b: b}
		fast, ok := s.message()
		if !ok {
			_, _ = parseStreamMessage(b)
			return
		}
		var slow map[string]any
		if err := json.Unmarshal(b, &slow); err != nil {
			t.Fatalf("%q is not JSON, yet taken: %v", b, err)
		}
		if slow["event"] != string(fast.event) {
			t.Errorf("event of %q = %q, want %q", b, fast.event, slow["event"])
		}
		buf, _ := decodePayload(nil, fast.payload)
		newFrameQueue().push(buf)
	})
}

func BenchmarkMediaIn(b *testing.B) {
	q, buf := newFrameQueue(), make([]byte, 0, frameBytes)
	b.ReportAllocs()
	for b.Loop() {
		m, _ := parseStreamMessage(mediaIn)
		buf, _ = decodePayload(buf[:0], m.payload)
		q.push(buf)
	}
}

func BenchmarkMediaOut100ms(b *testing.B) {
	w, audio := newStreamWriter("MZ00000000000000000000000000000001"), make([]byte, 800)
	b.ReportAllocs()
	for b.Loop() {
		w.media(audio)
	}
}
