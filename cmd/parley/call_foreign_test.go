package main

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"parley/media"
)

// anothersGateway is a media socket that knows nothing of ours: it plays a long
// tone, stops when the caller is loud, answers by another and hangs up.
func anothersGateway(w http.ResponseWriter, r *http.Request) {
	ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer ws.Close()
	var in struct {
		Event     string
		StreamSid string
		Media     struct{ Payload []byte }
		Mark      struct{ Name string }
	}
	play := func(hz float64, length time.Duration, mark string) {
		pcm := make([]int16, media.Samples(length, 8000))
		for i := range pcm {
			pcm[i] = int16(8000 * math.Sin(2*math.Pi*hz*float64(i)/8000))
		}
		audio := base64.StdEncoding.EncodeToString(media.EncodePCMU(nil, pcm))
		_ = ws.WriteJSON(map[string]any{"streamSid": in.StreamSid, "event": "media", "media": map[string]any{"payload": audio}})
		_ = ws.WriteJSON(map[string]any{"streamSid": in.StreamSid, "event": "mark", "mark": map[string]any{"name": mark}})
	}
	quiet, answered := 0, false
	for ws.ReadJSON(&in) == nil {
		switch {
		case in.Event == "start":
			play(440, 20*time.Second, "greeting")
		case in.Event == "media" && loud(media.DecodePCMU(nil, in.Media.Payload)):
			if quiet = 1; !answered {
				_ = ws.WriteJSON(map[string]any{"streamSid": in.StreamSid, "event": "clear"})
			}
		case in.Event == "media" && quiet > 0 && !answered:
			if quiet++; quiet == 25 {
				answered = true
				play(660, 500*time.Millisecond, "answer")
			}
		case in.Event == "mark" && in.Mark.Name == "answer":
			_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(time.Second))
		}
		in.Media.Payload = nil
	}
}

// A script is held against another's gateway, by its media socket or its webhook.
func TestCallOnAnothersGateway(t *testing.T) {
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	media := "ws" + strings.TrimPrefix(srv.URL, "http") + "/media"
	mux.HandleFunc("/media", anothersGateway)
	mux.HandleFunc("POST /voice", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("CallSid") == "" || (r.Header.Get("X-Twilio-Signature") == "") {
			http.Error(w, "who are you?", http.StatusForbidden)
			return
		}
		_, _ = w.Write([]byte(`<Response><Connect><Stream url="` + media + `"/></Connect></Response>`))
	})
	const script = "wait-speech 5s\nwait 300ms\nsay Stop please.\nexpect-stop 1s\nexpect-answer 2s\nexpect-gaps 0\nwait-hangup 5s\n"
	tests := []struct {
		name   string
		args   []string
		script string
		status int
		says   string
	}{
		{"media socket", []string{"--url", media}, script, exitOK, "agent silent after"},
		{"webhook", []string{"--url", srv.URL + "/voice", "--twilio-auth-token", "secret1"}, script, exitOK, "answered after"},
		{"unsigned webhook", []string{"--url", srv.URL + "/voice"}, script, exitFailed, "403"},
		{"what does not hold", []string{"--url", media}, "wait-speech 5s\nsay Stop please.\nexpect-stop 1ms\nhangup\n", exitFailed, "FAILED line 3: expect-stop 1ms: it took"},
		{"no transcript there", []string{"--url", media}, "expect-said hello", exitUsage, "API key"},
		{"conditions come first", []string{"--url", media}, "wait 1s\nnoise -50dBFS", exitUsage, "before anything"},
		{"no such echo", []string{"--url", media}, "echo 20dB 1ms", exitUsage, "-60 to -1dB"},
		{"no agent", nil, script, exitUsage, "<agent>"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out syncBuffer
			args := append([]string{"call", "--data", t.TempDir(), "--api-key", "x", "--script", "-"}, tt.args...)
			status := run(t.Context(), args, stdio{strings.NewReader(tt.script), &out, &out})
			if status != tt.status || !strings.Contains(out.String(), tt.says) {
				t.Errorf("status %d, want %d, with %q:\n%s", status, tt.status, tt.says, out.String())
			}
		})
	}
	t.Run("json", func(t *testing.T) {
		var out, errs syncBuffer
		status := run(t.Context(), []string{"call", "--data", t.TempDir(), "--json", "--url", media, "--script", "../../examples/calls/any-gateway.call"},
			stdio{strings.NewReader(""), &out, &errs})
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		var last shown
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Report == nil || status != exitOK {
			t.Fatalf("status %d, %v:\n%s%s", status, err, out.String(), errs.String())
		}
		r := last.Report
		if len(r.Said) != 1 || !r.Said[0].OverAgent || r.Said[0].StoppedMS <= 0 || r.Said[0].AnsweredMS <= 0 ||
			r.Line.LeadMS < 15_000 || r.Failed != 0 {
			t.Errorf("report %+v", *r)
		}
	})
}

// testExampleScripts holds the scripts that we give away, all at once.
func testExampleScripts(t *testing.T, e *endToEnd) {
	e.localDesk(t, "desk-examples")
	scripts, err := filepath.Glob("../../examples/calls/*.call")
	if err != nil || len(scripts) < 3 {
		t.Fatalf("found %q, %v", scripts, err)
	}
	for _, path := range scripts {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			for range voiceCalls {
				var out syncBuffer
				status := run(t.Context(), []string{"call", "--data", e.data, "--via", "twilio", "--limit", "2m", "--script", path, "desk-examples"},
					stdio{strings.NewReader(""), &out, &out})
				if status == exitOK {
					return
				}
				t.Logf("exit status %d:\n%s", status, out.String())
			}
			t.Errorf("it did not hold in %d calls", voiceCalls)
		})
	}
	t.Run("bad network of a browser", func(t *testing.T) {
		t.Parallel()
		var out syncBuffer
		status := run(t.Context(), []string{"call", "--data", e.data, "--via", "webrtc", "--script", "-", "desk-examples"},
			stdio{strings.NewReader("network delay 20ms jitter 10ms loss 1%\nwait-speech 10s\nhangup\n"), &out, &out})
		if status != exitOK {
			t.Errorf("exit status %d:\n%s", status, out.String())
		}
	})
}
