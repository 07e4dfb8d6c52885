package signalingtest

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
)

var update = flag.String("update-document", "", "cut testdata/twilio_api.json anew from this file, Twilio's twilio_api_v2010.json")

// used are the operations that Parley asks for.
var used = map[string][]string{
	"/2010-04-01/Accounts/{Sid}.json":                    {"get"},
	"/2010-04-01/Accounts/{AccountSid}/Calls.json":       {"get", "post"},
	"/2010-04-01/Accounts/{AccountSid}/Calls/{Sid}.json": {"get", "post"},
}

// The document is what Twilio wrote of the operations that we use, and nothing
// that it did not write, but for the note of what was left out.
func TestAPIDocument(t *testing.T) {
	const file = "testdata/twilio_api.json"
	if *update != "" {
		b, err := os.ReadFile(*update)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, cut(t, b), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if again := cut(t, b); !bytes.Equal(again, b) {
		t.Error("the cut holds more, or is written otherwise, than a cut would be")
	}
	d, err := newAPIDocument(b)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.operations) != 5 {
		t.Errorf("it has %d operations, want 5", len(d.operations))
	}
}

// cut leaves of Twilio's document what is used: operations and their schemas,
// without prose and headers.
func cut(t *testing.T, doc []byte) []byte {
	t.Helper()
	var whole map[string]any
	if err := json.Unmarshal(doc, &whole); err != nil {
		t.Fatal(err)
	}
	info := object(whole["info"])
	info["x-cut"] = "Of https://github.com/twilio/twilio-oai (spec/json/twilio_api_v2010.json), cut to the operations that Parley uses; descriptions, headers and tags are left out."
	paths, schemas := map[string]any{}, map[string]any{}
	for path, methods := range used {
		kept := map[string]any{}
		for _, m := range methods {
			kept[m] = bare(object(object(whole["paths"])[path])[m], "")
		}
		paths[path] = kept
	}
	var follow func(v any)
	follow = func(v any) {
		for _, part := range bytes.Split(encode(t, v), []byte(`"#/components/schemas/`))[1:] {
			name, _, _ := strings.Cut(string(part), `"`)
			if schemas[name] == nil {
				schemas[name] = bare(object(object(whole["components"])["schemas"])[name], "")
				follow(schemas[name])
			}
		}
	}
	follow(paths)
	return append(encode(t, map[string]any{"openapi": whole["openapi"], "info": info, "servers": whole["servers"],
		"paths": paths, "components": map[string]any{"schemas": schemas}}), '\n')
}

// bare leaves out what no machine reads; under "properties" and "value" names are
// data.
func bare(v any, under string) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = bare(v[i], under)
		}
	case map[string]any:
		for k := range v {
			data := under == "properties" || under == "value"
			switch {
			case !data && (k == "description" || k == "headers" || k == "tags" || k == "summary" || k == "security"):
				delete(v, k)
			case under == "value":
				v[k] = bare(v[k], under)
			default:
				v[k] = bare(v[k], k)
			}
		}
	}
	return v
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What Twilio does not know is found, and what it gives as examples is fine.
func TestAPIDocumentChecks(t *testing.T) {
	d, err := newAPIDocument(twilioAPI)
	if err != nil {
		t.Fatal(err)
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
