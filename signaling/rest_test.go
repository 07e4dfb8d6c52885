package signaling

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/twilio/twilio-go/client"
)

// restPeer answers as Twilio's REST API would, and records what was asked.
func restPeer(t *testing.T, status int, body string) (*REST, func() (*http.Request, url.Values)) {
	t.Helper()
	var got *http.Request
	var form url.Values
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		got, form = r, r.PostForm
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(srv.Close)
	r := &REST{
		AccountSID: "AC1",
		User:       "SK1",
		Secret:     func(context.Context) (string, error) { return "s3cret", nil },
		BaseURL:    srv.URL,
		Transport:  srv.Client().Transport,
	}
	return r, func() (*http.Request, url.Values) { return got, form }
}

func TestRESTWireFormat(t *testing.T) {
	tests := []struct {
		name string
		do   func(context.Context, *REST) error
		path string
		form url.Values
	}{
		{
			"hang-up", func(ctx context.Context, r *REST) error { return r.HangUp(ctx, "CA1") },
			"/2010-04-01/Accounts/AC1/Calls/CA1.json", url.Values{"Status": {"completed"}},
		},
		{
			"redirect", func(ctx context.Context, r *REST) error {
				return r.Redirect(ctx, "CA1", "https://gw.example/twilio/next")
			},
			"/2010-04-01/Accounts/AC1/Calls/CA1.json", url.Values{"Url": {"https://gw.example/twilio/next"}, "Method": {"POST"}},
		},
		{
			"perform", func(ctx context.Context, r *REST) error { return r.Perform(ctx, "CA1", "<Response/>") },
			"/2010-04-01/Accounts/AC1/Calls/CA1.json", url.Values{"Twiml": {"<Response/>"}},
		},
		{
			"create", func(ctx context.Context, r *REST) error {
				sid, err := r.CreateCall(ctx, OutboundCall{
					From: "+15550100", To: "+15550101", Answer: "https://gw.example/twilio/voice/demo",
					Status: "https://gw.example/twilio/status", Ring: 25 * time.Second, DetectMachine: true,
				})
				if err == nil && sid != "CA9" {
					return fmt.Errorf("sid = %q, want CA9", sid)
				}
				return err
			},
			"/2010-04-01/Accounts/AC1/Calls.json", url.Values{
				"From": {"+15550100"}, "To": {"+15550101"}, "Url": {"https://gw.example/twilio/voice/demo"},
				"StatusCallback":      {"https://gw.example/twilio/status"},
				"StatusCallbackEvent": {"initiated", "ringing", "answered", "completed"},
				"Timeout":             {"25"}, "MachineDetection": {"Enable"}, "AsyncAmd": {"true"},
				"AsyncAmdStatusCallback": {"https://gw.example/twilio/status"},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, got := restPeer(t, http.StatusCreated, `{"sid":"CA9"}`)
			if err := tt.do(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			req, form := got()
			if req.Method != http.MethodPost || req.URL.Path != tt.path {
				t.Errorf("asked %s %s, want POST %s", req.Method, req.URL.Path, tt.path)
			}
			if !reflect.DeepEqual(form, tt.form) {
				t.Errorf("form = %v, want %v", form, tt.form)
			}
			if user, secret, _ := req.BasicAuth(); user != "SK1" || secret != "s3cret" {
				t.Errorf("basic auth by %q, want SK1 and its secret", user)
			}
		})
	}
}

func TestRESTErrors(t *testing.T) {
	answer := func(code, status int) string {
		return fmt.Sprintf(`{"code":%d,"message":"no","more_info":"","status":%d}`, code, status)
	}
	tests := []struct {
		name         string
		status, code int
		hangUp       bool  // nil error
		redirect     error // wrapped
	}{
		{"gone", 404, 20404, true, ErrEnded},
		{"not-in-progress", 400, 21220, true, ErrEnded},
		{"rate", 429, 20429, false, ErrBusy},
		{"key", 401, 20003, false, nil},
		{"down", 500, 20500, false, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := restPeer(t, tt.status, answer(tt.code, tt.status))
			if err := r.HangUp(t.Context(), "CA1"); (err == nil) != tt.hangUp {
				t.Errorf("HangUp = %v", err)
			}
			err := r.Redirect(t.Context(), "CA1", "https://gw.example/")
			if err == nil || tt.redirect != nil && !errors.Is(err, tt.redirect) {
				t.Errorf("Redirect = %v, want an error wrapping %v", err, tt.redirect)
			}
			var e *client.TwilioRestError
			if !errors.As(err, &e) || e.Status != tt.status {
				t.Errorf("Redirect = %v, want Twilio's own error inside", err)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the secret stands in %q", err)
			}
		})
	}
}

func TestRESTEndsWithItsContext(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-release
	}))
	defer srv.Close()
	defer close(release)
	r := &REST{
		AccountSID: "AC1", BaseURL: srv.URL, Transport: srv.Client().Transport,
		Secret: func(context.Context) (string, error) { return "x", nil },
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if err := r.HangUp(ctx, "CA1"); !errors.Is(err, context.Canceled) {
		t.Errorf("HangUp = %v, want the context's error", err)
	}
}

func TestRESTRefusesBeforeAsking(t *testing.T) {
	r := &REST{AccountSID: "AC1", Region: "ie1", Secret: func(context.Context) (string, error) { return "x", nil }}
	if err := r.HangUp(t.Context(), "CA1"); err == nil || !strings.Contains(err.Error(), "edge") {
		t.Errorf("a region without an edge: %v", err)
	}
	for _, sid := range []string{"", "../Accounts", "CA1?x=1", strings.Repeat("a", 65)} {
		if err := (&REST{}).HangUp(t.Context(), sid); err == nil {
			t.Errorf("HangUp(%q) was asked", sid)
		}
	}
}

func TestRESTRegion(t *testing.T) {
	var host string
	r := &REST{
		AccountSID: "AC1", Region: "ie1", Edge: "dublin",
		Secret: func(context.Context) (string, error) { return "x", nil },
		Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			host = req.URL.Host
			return nil, errors.New("far enough")
		}),
	}
	_ = r.HangUp(t.Context(), "CA1")
	if want := "api.dublin.ie1.twilio.com"; host != want {
		t.Errorf("asked %q, want %q", host, want)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
