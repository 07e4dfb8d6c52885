package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/control"
	"parley/media"
)

// saidCanary is what a caller says, or types.
const saidCanary = "saidCanary-canary-51c9"

// echoFlow remembers an answer, says it again, and tells of it.
const echoFlow = `{"schema": "flow/1", "id": "echo", "version": "1.0.0", "entry": "ask", "nodes": [
	{"id": "ask", "type": "question", "content": {"question": "What is it?", "input_type": "text", "variable": "said"}, "connections": {"default": "say"}},
	{"id": "say", "type": "message", "content": {"text": "You said {said}."}, "connections": {"default": "@end"}}]}`

// holds returns what of the database, one "table.column" each, and what files of
// the data folder hold a text.
func (w *wired) holds(text string) (columns, files []string) {
	w.t.Helper()
	for _, line := range strings.Split(dump(w.t, w.db), "\n") {
		table, row, ok := strings.Cut(line, ": ")
		if !ok || !strings.Contains(row, text) {
			continue
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal([]byte(row), &m); err != nil {
			w.t.Fatal(err)
		}
		for column, v := range m {
			if name := strings.TrimPrefix(table, "public.") + "." + column; bytes.Contains(v, []byte(text)) && !slices.Contains(columns, name) {
				columns = append(columns, name)
			}
		}
	}
	err := filepath.WalkDir(w.settings.Data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(text)) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Sort(columns)
	return columns, files
}

// A chat and a call leave what was said in no table and no file but where
// docs/encryption.md says so; who may read it reads it; once the keys are
// destroyed nobody does.
func TestWhatIsSaidIsSealedAtRest(t *testing.T) {
	w := newWired(t)
	made := w.tenant("owner@example.com")
	ask := func(method, path, body string) told {
		t.Helper()
		w.forgive()
		got := w.ask(sending{method: method, path: path, bearer: made.APIKey, body: body})
		if got.status >= 300 && got.status != http.StatusGone {
			t.Fatalf("%s %s: %d %s", method, path, got.status, got.body)
		}
		return got
	}
	field := func(a told, name string) string {
		t.Helper()
		var m map[string]any
		_ = json.Unmarshal([]byte(a.body), &m)
		s, _ := m[name].(string)
		return s
	}
	flow := made.Agents[0].Settings.FlowID.String()
	ask("POST", "/v1/flows/"+flow+"/versions", `{"document":`+echoFlow+`}`)
	ask("POST", "/v1/flows/"+flow+"/publish", `{"number":2}`)
	chat := ask("POST", "/chat/start", `{"flow_id":"`+flow+`"}`)
	session := field(chat, "session_id")
	ask("POST", "/chat/sessions/"+field(chat, "session_token")+"/interact", `{"input":"`+saidCanary+`"}`)

	call := w.callThatSays(made.Agents[0].ID)
	wav := w.recorded(call)

	columns, files := w.holds(saidCanary)
	if want := []string{"conversations.state"}; !slices.Equal(columns, want) || len(files) > 0 {
		t.Errorf("what was said stands in %v and in %v, want %v alone", columns, files, want)
	}
	reads := []string{"/v1/calls/" + call.ID.String() + "/transcript", "/v1/calls/" + call.ID.String() + "/turns", "/v1/sessions/" + session + "/history"}
	for _, path := range reads {
		if got := ask("GET", path, ""); !strings.Contains(got.body, saidCanary) {
			t.Errorf("GET %s: %d %s", path, got.status, got.body)
		}
	}
	if got := ask("POST", "/v1/sessions/"+session+"/replay", "{}"); field(got, "verdict") != "equal" {
		t.Errorf("replay: %s", got.body)
	}
	recording := "/v1/calls/" + call.ID.String() + "/recording"
	got := w.ask(sending{method: "GET", path: recording, bearer: made.APIKey, header: http.Header{"Range": {"bytes=70000-139999"}}})
	if got.status != http.StatusPartialContent || got.body != string(wav[70000:140000]) {
		t.Errorf("a range of the recording: %d, %d bytes", got.status, len(got.body))
	}

	ctx := control.WithTenant(t.Context(), call.Tenant)
	if _, err := w.keyring.Shred(ctx, w.blobs); err != nil {
		t.Fatal(err)
	}
	if columns, files := w.holds(saidCanary); len(columns)+len(files) > 0 {
		t.Errorf("once destroyed it stands in %v and %v", columns, files)
	}
	for _, path := range reads {
		if got := ask("GET", path, ""); got.status != http.StatusGone || got.code != "erased" {
			t.Errorf("GET %s, once destroyed: %d %s", path, got.status, got.body)
		}
	}
	w.forgive()
	if got := w.ask(sending{method: "GET", path: recording, bearer: made.APIKey}); got.status != http.StatusNotFound {
		t.Errorf("the recording, once destroyed: %d", got.status)
	}
}

// callThatSays serves a call in which the caller says the canary, and records it.
func (w *wired) callThatSays(agentID uuid.UUID) control.Call {
	w.t.Helper()
	call, err := w.calls.Arrive(w.t.Context(), control.Arrival{Carrier: "webrtc", Agent: agentID.String()})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, v, err := w.calls.Begin(w.t.Context(), call.ID.String(), func(string) {})
	if err != nil {
		w.t.Fatal(err)
	}
	v.Agent.Settings.Record = true
	v.Journal.Turn(ctx, agent.Turn{Index: 0, Speaker: "caller", Heard: saidCanary, Input: "speech"})
	v.Journal.Turn(ctx, agent.Turn{Index: 1, Speaker: "agent", Generated: saidCanary, Sent: saidCanary, Heard: saidCanary})
	rec := w.desk.record(ctx, v, 8000, 0, w.log)
	if rec == nil {
		w.t.Fatal("the call is not recorded")
	}
	// Samples whose bytes are the canary, where they stood in clear.
	pcm := media.DecodePCMU(nil, []byte(strings.Repeat(saidCanary, 160)))
	for i := 0; i+160 <= len(pcm); i += 160 {
		for range 30 {
			if err := rec.wav.Write(pcm[i:i+160], pcm[i:i+160]); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	key := rec.close(w.log)
	if err := w.calls.Finish(ctx, v, agent.Ending{Reason: "goodbye"}, key); err != nil {
		w.t.Fatal(err)
	}
	return v.Call
}

// recorded reads a call's recording, and checks that it is one.
func (w *wired) recorded(c control.Call) []byte {
	w.t.Helper()
	got := w.recordingOf(control.BlobKey(c))
	if rate, channels, _, err := media.ReadWAV(bytes.NewReader(got)); err != nil || rate != 8000 || channels != 2 {
		w.t.Fatalf("the recording: %d Hz, %d channels, %v", rate, channels, err)
	}
	return got
}

func (w *wired) recordingOf(key string) []byte {
	w.t.Helper()
	r, err := w.recordings.Open(w.t.Context(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		w.t.Fatal(err)
	}
	return b.Bytes()
}

// A call that came back goes on in its recording: after its first leg was put
// away, and after its process died with the file half written.
func TestRecordingGoesOn(t *testing.T) {
	w := newWired(t)
	made := w.tenant("owner@example.com")
	call := w.callThatSays(made.Agents[0].ID)
	before := len(w.recorded(call))
	v := &control.Serving{Call: call, Agent: made.Agents[0], Elapsed: time.Minute}
	v.Agent.Settings.Record = true
	frame := make([]int16, 160)
	talk := func(r *recording, seconds int) {
		t.Helper()
		for range 50 * seconds {
			if err := r.wav.Write(frame, frame); err != nil {
				t.Fatal(err)
			}
		}
	}
	second := w.desk.record(t.Context(), v, 8000, 0, w.log)
	talk(second, 20)
	if key := second.close(w.log); key == "" {
		t.Fatal("the second leg is lost")
	}
	after := w.recorded(call)
	if want := 58 + 80*16000; len(after) != want || before >= want {
		t.Errorf("%d bytes after %d, want a minute and 20 s: %d", len(after), before, want)
	}

	// Its process dies: what was written is there, but for the chunk in hand.
	if err := w.recordings.Delete(t.Context(), control.BlobKey(call)); err != nil {
		t.Fatal(err)
	}
	v.Elapsed = 0
	dead := w.desk.record(t.Context(), v, 8000, 0, w.log)
	talk(dead, 20)
	v.Elapsed = 15 * time.Second
	third := w.desk.record(t.Context(), v, 8000, 0, w.log)
	third.close(w.log)
	pcm, err := w.desk.recordedBefore(t.Context(), control.BlobKey(call), 8000)
	if seconds := len(pcm) / 16000; err != nil || seconds < 15 || seconds > 20 {
		t.Errorf("%d s of 20 are left, %v", seconds, err)
	}
}

func TestKeysCommand(t *testing.T) {
	w := newWired(t)
	made := w.tenant("owner@example.com")
	call := w.callThatSays(made.Agents[0].ID)
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyFile, []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	tenant := call.Tenant.String()
	keys := func(want int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		args = append([]string{"keys"}, append(args, "--database-url", w.db.AppURL, "--key-file", keyFile, "--data", w.settings.Data)...)
		if status := run(t.Context(), args, stdio{strings.NewReader(""), &out, &errs}); status != want {
			t.Fatalf("parley %s: exit %d, want %d\n%s%s", strings.Join(args, " "), status, want, &out, &errs)
		}
		return out.String()
	}
	shows := func(got, pattern string) {
		t.Helper()
		if !regexp.MustCompile(pattern).MatchString(got) {
			t.Errorf("it prints %q, want %s", got, pattern)
		}
	}
	shows(keys(exitOK, "list", "--tenant", tenant), `^\S{36}  current    .* local\n$`)
	shows(keys(exitOK, "rotate", "--tenant", tenant), `^data key \S{36} is the current one\n$`)
	shows(keys(exitOK, "list", "--tenant", tenant, "--json"), `(?s)"state":\s*"current".*"state":\s*"retired"`)
	shows(keys(exitOK, "rewrap"), `^2 data keys are wrapped by local\n$`)
	shows(keys(exitOK, "seal"), `^0 rows and 0 recordings are sealed`)
	w.recorded(call)
	keys(exitUsage, "destroy", "--tenant", tenant)
	shows(keys(exitOK, "destroy", "--tenant", tenant, "--yes"), `^2 data keys are destroyed, \d+ rows erased\n$`)
	if _, err := os.Stat(filepath.Join(w.settings.Data, "recordings", control.BlobKey(call))); !os.IsNotExist(err) {
		t.Errorf("the recording's file is still there: %v", err)
	}
	keys(exitUsage, "list", "--tenant", "me")
	keys(exitUsage, "list", "--tenant", tenant, "--key-provider", "paper")
}
