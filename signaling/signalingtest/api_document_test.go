package signalingtest

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// documentOrNote is Twilio's document, or nil with a note that what the test is
// for was left out.
func documentOrNote(t *testing.T) []byte {
	t.Helper()
	b, err := twilioDocument()
	if err != nil {
		t.Fatal(err)
	}
	if b == nil {
		t.Logf("left out: Twilio's own document is not here; %s names the folder of twilio_api_v2010.json", documentEnv)
	}
	return b
}

// What Twilio does not know is found, and what it gives as examples is fine.
func TestAPIDocumentChecks(t *testing.T) {
	b := documentOrNote(t)
	if b == nil {
		return
	}
	d, err := newAPIDocument(b)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.operations) != 5 {
		t.Errorf("it has %d operations, want 5", len(d.operations))
	}
	account, call := "AC"+strings.Repeat("0", 32), "CA"+strings.Repeat("1", 32)
	calls := "/2010-04-01/Accounts/" + account + "/Calls"
	place := "From=%2B15550100&To=%2B15550101&Url=https%3A%2F%2Fgw.example%2Fv"
	tests := []struct{ name, method, path, form, want string }{
		{"place", "POST", calls + ".json", place + "&StatusCallbackEvent=initiated&StatusCallbackEvent=ringing&Timeout=20", ""},
		{"unknown-field", "POST", calls + ".json", place + "&Machine=yes", "Machine"},
		{"not-a-number", "POST", calls + ".json", place + "&Timeout=20s", "Timeout"},
		{"no-from", "POST", calls + ".json", "To=%2B15550101&Url=https%3A%2F%2Fgw.example%2Fv", "From"},
		{"nothing-to-do", "POST", calls + ".json", "From=%2B15550100&To=%2B15550101", "url"},
		{"method", "POST", calls + ".json", place + "&Method=PUT", "Method"},
		{"local-address", "POST", calls + ".json", strings.Replace(place, "https", "gw", 1), "Url"},
		{"twice", "POST", calls + ".json", place + "&To=%2B15550102", "To is there 2 times"},
		{"words-for-a-number", "POST", calls + ".json", place + "&CallerId=x&From=desk", "From"},
		{"hang-up", "POST", calls + "/" + call + ".json", "Status=completed", ""},
		{"unknown-status", "POST", calls + "/" + call + ".json", "Status=ended", "Status"},
		{"not-a-sid", "POST", calls + "/CA1.json", "Status=completed", "Sid"},
		{"list", "GET", calls + ".json?PageSize=50&From=%2B15550100&Status=no-answer", "", ""},
		{"list-unknown", "GET", calls + ".json?Size=50", "", "Size"},
		{"list-too-many", "GET", calls + ".json?PageSize=5000", "", "PageSize"},
		{"fetch", "GET", calls + "/" + call + ".json", "", ""},
		{"account", "GET", "/2010-04-01/Accounts/" + account + ".json", "", ""},
		{"no-such-path", "POST", "/2010-04-01/Accounts/" + account + "/Messages.json", "", "knows no POST"},
		{"no-such-method", "PUT", calls + ".json", "", "knows no PUT"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequest(tt.method, tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if req.PostForm, err = url.ParseQuery(tt.form); err != nil {
				t.Fatal(err)
			}
			_, err = d.check(req)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	o, _ := d.find(&http.Request{Method: "GET", URL: &url.URL{Path: calls + "/" + call + ".json"}})
	for body, ok := range map[string]bool{
		`{"sid":"` + call + `","status":"in-progress","date_created":"Fri, 18 Oct 2019 17:00:00 +0000"}`: true,
		`{"sid":"CA1"}`: false, `{"status":"talking"}`: false, `{"state":"busy"}`: false,
		`{"date_created":"2019-10-18T17:00:00Z"}`: false, `[]`: false, `not JSON`: false,
	} {
		if err := o.checkAnswer(200, []byte(body)); (err == nil) != ok {
			t.Errorf("answer %s: %v", body, err)
		}
	}
}
