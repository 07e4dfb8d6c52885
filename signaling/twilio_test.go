package signaling

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"

	"parley/media"
)

// frontDesk admits everybody and notes what it was told.
type frontDesk struct {
	mu       sync.Mutex
	arrivals []Arrival
	statuses []CarrierStatus
	err      error
	served   chan string
}

func (d *frontDesk) Arrive(_ context.Context, a Arrival) (Admitted, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.arrivals = append(d.arrivals, a)
	return Admitted{CallID: "call-1", Agent: "demo"}, d.err
}

func (d *frontDesk) Serve(_ context.Context, callID string, leg media.Leg) error {
	d.served <- callID
	return leg.Close("done")
}

func (d *frontDesk) Next(context.Context, string, string) (Next, error) {
	return Next{Do: "dial", Dial: "client:a<b", CallerID: "+1"}, d.err
}

func (d *frontDesk) TransferEnded(_ context.Context, _, _, outcome string) (Next, error) {
	return Next{Do: "connect", CallID: "call-" + outcome}, d.err
}

func (d *frontDesk) Status(_ context.Context, s CarrierStatus) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.statuses = append(d.statuses, s)
	return d.err
}

type fixture struct {
	*Twilio
	desk    *frontDesk
	log     *bytes.Buffer
	refused map[string]int
	mux     *http.ServeMux
}

func newFixture() *fixture {
	f := &fixture{desk: &frontDesk{served: make(chan string, 8)}, log: new(bytes.Buffer), refused: map[string]int{}, mux: http.NewServeMux()}
	var mu sync.Mutex
	f.Twilio = &Twilio{
		Desk:       f.desk,
		Tokens:     testTokens(),
		PublicURL:  "https://gw.example/",
		AccountSID: "AC1",
		AuthTokens: func(context.Context) ([]string, error) { return []string{"new", testToken}, nil },
		Logger:     slog.New(slog.NewTextHandler(f.log, nil)),
		Metrics: TwilioMetrics{Refused: func(route, reason string) {
			mu.Lock()
			defer mu.Unlock()
			f.refused[route+" "+reason]++
		}},
	}
	for _, r := range f.Routes() {
		f.mux.HandleFunc(r.Pattern, r.Handler)
	}
	return f
}

// post sends a webhook as Twilio would; edit may spoil it.
func (f *fixture) post(path, form string, edit func(*http.Request)) *httptest.ResponseRecorder {
	values, _ := url.ParseQuery(form)
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	r.Header.Set(signatureHeader, TwilioSignature(testToken, "https://gw.example"+path, values))
	if edit != nil {
		edit(r)
	}
	w := httptest.NewRecorder()
	f.mux.ServeHTTP(w, r)
	return w
}

const voiceForm = "CallSid=CA1&AccountSid=AC1&From=%2B15550100&To=%2B15550101&Direction=inbound"

func TestVoiceAnswersWithStream(t *testing.T) {
	f := newFixture()
	w := f.post("/twilio/voice/demo", voiceForm, nil)
	var doc struct {
		Connect struct {
			Action string `xml:"action,attr"`
			Stream struct {
				URL            string `xml:"url,attr"`
				StatusCallback string `xml:"statusCallback,attr"`
			}
		}
	}
	if err := xml.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	const tail = "#ct=1000&rc=5&rp=ct,5xx"
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/xml") ||
		doc.Connect.Action != "https://gw.example/twilio/next"+tail ||
		doc.Connect.Stream.StatusCallback != "https://gw.example/twilio/status"+tail {
		t.Errorf("answer %d %v: %s", w.Code, w.Header(), w.Body)
	}
	token, ok := strings.CutPrefix(doc.Connect.Stream.URL, "wss://gw.example/twilio/media/")
	if !ok {
		t.Fatalf("stream at %s", doc.Connect.Stream.URL)
	}
	claim, err := f.Tokens.Redeem(t.Context(), token)
	if err != nil || claim.CallID != "call-1" || !claim.For("CA1") {
		t.Errorf("the token says %+v, %v", claim, err)
	}
	want := Arrival{Carrier: "twilio", CarrierCallID: "CA1", From: "+15550100", To: "+15550101", Agent: "demo", Direction: "inbound"}
	if f.desk.arrivals[0] != want {
		t.Errorf("arrival = %+v, want %+v", f.desk.arrivals[0], want)
	}
	if again := f.post("/twilio/voice/demo", voiceForm, nil); again.Code != 200 || again.Body.String() == w.Body.String() {
		t.Error("a repeated webhook does not get a token of its own")
	}
}

func TestWebhookRefusals(t *testing.T) {
	tests := []struct {
		name, path, form string
		edit             func(*http.Request)
		code             int
		counted          string
	}{
		{"unsigned", "/twilio/voice", voiceForm, func(r *http.Request) { r.Header.Del(signatureHeader) }, 403, "voice signature"},
		{"wrong", "/twilio/next", voiceForm, func(r *http.Request) { r.Header.Set(signatureHeader, "AAAA") }, 403, "next signature"},
		{"forwarded-host", "/twilio/voice", voiceForm, func(r *http.Request) {
			r.Header.Set("X-Forwarded-Host", "other.example")
			v, _ := url.ParseQuery(voiceForm)
			r.Header.Set(signatureHeader, TwilioSignature(testToken, "https://other.example/twilio/voice", v))
		}, 403, "voice signature"},
		{"other-account", "/twilio/status", "CallSid=CA1&AccountSid=AC2", nil, 403, "status account"},
		{"no-call", "/twilio/voice", "AccountSid=AC1", nil, 400, "voice request"},
		{"too-large", "/twilio/voice", "AccountSid=AC1&CallSid=" + strings.Repeat("x", maxBody), nil, 413, "voice request"},
		{"multipart", "/twilio/voice", voiceForm, func(r *http.Request) { r.Header.Set("Content-Type", "multipart/form-data") }, 415, "voice request"},
		{"bad-form", "/twilio/voice", "CallSid=%zz", nil, 415, "voice request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture()
			w := f.post(tt.path, tt.form, tt.edit)
			if w.Code != tt.code || f.refused[tt.counted] != 1 {
				t.Errorf("answer %d, counted %v; want %d and %s", w.Code, f.refused, tt.code, tt.counted)
			}
			if len(f.desk.arrivals)+len(f.desk.statuses) != 0 {
				t.Error("the desk heard of it")
			}
			if strings.Contains(f.log.String(), testToken) {
				t.Errorf("the auth token is in the log: %s", f.log)
			}
		})
	}
}

func TestUnsignedRules(t *testing.T) {
	local := func(r *http.Request) { r.RemoteAddr, r.Host = "127.0.0.1:9", "localhost:8080" }
	proxied := func(r *http.Request) { local(r); r.Header.Set("X-Forwarded-For", "192.0.2.1") }
	far := func(r *http.Request) { r.RemoteAddr = "192.0.2.1:9" }
	tests := []struct {
		name          string
		allow, tunnel bool
		edit          func(*http.Request)
		code          int
	}{
		{"local", true, false, local, 200},
		{"local-not-allowed", false, false, local, 403},
		{"proxied", true, false, proxied, 403},
		{"far", true, false, far, 403},
		{"tunnel", false, true, proxied, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture()
			f.AuthTokens, f.AllowUnsigned, f.TunnelWithoutSignature = nil, tt.allow, tt.tunnel
			w := f.post("/twilio/voice", voiceForm, func(r *http.Request) { r.Header.Del(signatureHeader); tt.edit(r) })
			if w.Code != tt.code {
				t.Errorf("answer %d, want %d", w.Code, tt.code)
			}
		})
	}
	t.Run("address-of-this-machine", func(t *testing.T) {
		f := newFixture()
		f.AuthTokens, f.AllowUnsigned, f.PublicURL = nil, true, ""
		if w := f.post("/twilio/voice", voiceForm, local); !strings.Contains(w.Body.String(), `url="ws://localhost:8080/twilio/media/`) {
			t.Errorf("answer %s", w.Body)
		}
	})
}

func TestNext(t *testing.T) {
	f := newFixture()
	w := f.post("/twilio/next", voiceForm, nil)
	want := `<Dial action="https://gw.example/twilio/next#ct=1000&amp;rc=5&amp;rp=ct,5xx" timeout="30" callerId="+1"><Client>a&lt;b</Client></Dial>`
	if !strings.Contains(w.Body.String(), want) {
		t.Errorf("answer %s, want %s", w.Body, want)
	}
	w = f.post("/twilio/next", voiceForm+"&DialCallStatus=no-answer", nil)
	_, rest, _ := strings.Cut(w.Body.String(), "/twilio/media/")
	token, _, _ := strings.Cut(rest, `"`)
	if c, err := f.Tokens.Redeem(t.Context(), token); err != nil || c.CallID != "call-no-answer" {
		t.Errorf("after a transfer: %s", w.Body)
	}
	f.desk.err = ErrEnded
	if w = f.post("/twilio/next", voiceForm, nil); !strings.Contains(w.Body.String(), "<Response><Hangup></Hangup></Response>") {
		t.Errorf("after the end: %s", w.Body)
	}
	f.desk.err = errors.New("database away")
	if w = f.post("/twilio/next", voiceForm, nil); w.Code != 503 || strings.Contains(w.Body.String(), "database") {
		t.Errorf("at a fault: %d %s", w.Code, w.Body)
	}
}

func TestStatusKinds(t *testing.T) {
	const call = "AccountSid=AC1&CallSid=CA1&"
	tests := []struct{ form, kind, status string }{
		{"CallStatus=completed&CallDuration=3&CallbackSource=call-progress-events&AnsweredBy=human", "call", "completed"},
		{"StreamSid=MZ1&StreamEvent=stream-error&StreamError=x", "stream", "stream-error"},
		{"RecordingSid=RE1&RecordingStatus=completed", "recording", "completed"},
		{"AnsweredBy=machine_start&MachineDetectionDuration=2100", "amd", "machine_start"},
	}
	for _, tt := range tests {
		f := newFixture()
		if w := f.post("/twilio/status", call+tt.form, nil); w.Code != http.StatusNoContent {
			t.Errorf("%s: answer %d", tt.form, w.Code)
			continue
		}
		if s := f.desk.statuses[0]; s.Kind != tt.kind || s.Status != tt.status || s.CarrierCallID != "CA1" || s.Detail["AccountSid"] != "AC1" {
			t.Errorf("%s became %+v", tt.form, s)
		}
	}
}

func TestStatusAsJSON(t *testing.T) {
	const body = `{"CallSid":"CA1","AccountSid":"AC1","CallStatus":"busy"}`
	const uri = "/twilio/status?bodySHA256=5ec4f7e8f4597e1e9fae6ca7b8f9c84b4403ba573f4489ec6d1003ec1fcad030"
	for _, tt := range []struct {
		body string
		code int
	}{
		{body, http.StatusNoContent},
		{strings.Replace(body, "busy", "completed", 1), http.StatusForbidden},
	} {
		f := newFixture()
		w := f.post(uri, tt.body, func(r *http.Request) {
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set(signatureHeader, TwilioSignature(testToken, "https://gw.example"+uri, nil))
		})
		if w.Code != tt.code {
			t.Errorf("%s: answer %d, want %d", tt.body, w.Code, tt.code)
		}
	}
}

// dialMedia opens the media socket of a token.
func dialMedia(t *testing.T, srv *httptest.Server, token, signature string) (*websocket.Conn, int) {
	t.Helper()
	h := http.Header{}
	if signature != "" {
		h.Set(signatureHeader, signature)
	}
	ws, res, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(srv.URL, "http")+"/twilio/media/"+token, h)
	if err != nil {
		if res == nil {
			t.Fatal(err)
		}
		return nil, res.StatusCode
	}
	t.Cleanup(func() { ws.Close() })
	return ws, res.StatusCode
}

func TestMediaSocketRefusals(t *testing.T) {
	f := newFixture()
	srv := httptest.NewServer(f.mux)
	defer srv.Close()
	if _, code := dialMedia(t, srv, "made-up", ""); code != 403 || f.refused["media token"] != 1 {
		t.Errorf("a made-up token: %d, %v", code, f.refused)
	}
	token, _ := f.Tokens.Mint("CA1", "call-1")
	if _, code := dialMedia(t, srv, token, "AAAA"); code != 403 || f.refused["media signature"] != 1 {
		t.Errorf("a wrong signature: %d, %v", code, f.refused)
	}
	if res, err := http.Get(srv.URL + "/twilio/media/" + token); err != nil || res.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("no websocket: %v, %v", res.StatusCode, err)
	} else {
		res.Body.Close()
	}
	good := TwilioSignature(testToken, "wss://gw.example:443/twilio/media/"+token, nil)
	ws, code := dialMedia(t, srv, token, good)
	if code != http.StatusSwitchingProtocols {
		t.Fatalf("a good token and signature: %d", code)
	}
	if _, code := dialMedia(t, srv, token, good); code != 403 {
		t.Errorf("a used token: %d", code)
	}
	start := `{"event":"start","streamSid":"MZ1","start":{"callSid":"CA1","mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}}}`
	_ = ws.WriteMessage(websocket.TextMessage, []byte(`{"event":"connected"}`))
	_ = ws.WriteMessage(websocket.TextMessage, []byte(start))
	if got := <-f.desk.served; got != "call-1" {
		t.Errorf("served %q, want call-1", got)
	}
	if strings.Contains(f.log.String(), token) {
		t.Errorf("the token is in the log: %s", f.log)
	}
}

func TestMediaSocketWrongStart(t *testing.T) {
	media := `{"event":"media","media":{"payload":"//8="}}`
	tests := []struct{ name, messages string }{
		{"other-call", `{"event":"start","streamSid":"MZ1","start":{"callSid":"CA2"}}`},
		{"no-stream", `{"event":"start","start":{"callSid":"CA1"}}`},
		{"other-format", `{"event":"start","streamSid":"MZ1","start":{"callSid":"CA1","mediaFormat":{"encoding":"audio/l16","sampleRate":16000}}}`},
		{"media-for-ever", strings.Repeat(media+"\n", startTries)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture()
			srv := httptest.NewServer(f.mux)
			defer srv.Close()
			token, _ := f.Tokens.Mint("CA1", "call-1")
			ws, _ := dialMedia(t, srv, token, "")
			for m := range strings.Lines(tt.messages) {
				_ = ws.WriteMessage(websocket.TextMessage, []byte(m))
			}
			_, _, err := ws.ReadMessage()
			if !websocket.IsCloseError(err, websocket.ClosePolicyViolation) {
				t.Errorf("closed with %v, want 1008", err)
			}
			if len(f.desk.served) != 0 {
				t.Error("a session began")
			}
		})
	}
}
