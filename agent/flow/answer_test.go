package flow

import (
	"encoding/json"
	"fmt"
	"testing"
)

const drinks = `"options": [{"label": "Green tea", "value": "tea", "dtmf": "1", "say": ["a cuppa"]}, {"label": "Coffee", "value": "coffee", "dtmf": "2"}, {"label": "Iced coffee", "value": "iced", "dtmf": "3"}]`

func TestAnswers(t *testing.T) {
	const refused = "refused"
	tests := []struct{ content, mode, in, want string }{
		{`"input_type": "text"`, "text", "  as said ", `"as said"`},
		{`"input_type": "any"`, "speech", "Well, hello.", `"Well, hello."`},
		{`"input_type": "text"`, "text", "   ", refused},
		{`"input_type": "text", "validation": {"required": false}`, "text", "", `""`},
		{`"input_type": "text", "validation": {"pattern": "^[A-Za-z]{2,50}$"}`, "speech", "A D A", `"ADA"`},
		{`"input_type": "text", "validation": {"pattern": "^[A-Za-z]{2,50}$"}`, "speech", "Ada.", `"Ada"`},
		{`"input_type": "text", "validation": {"min_length": 3, "max_length": 4}`, "text", "ab", refused},
		{`"input_type": "text", "validation": {"min_length": 3, "max_length": 4}`, "text", "ähö", `"ähö"`},
		{`"input_type": "text", "validation": {"min_length": 3, "max_length": 4}`, "text", "abcde", refused},
		{`"input_type": "text", "validation": {"expr": "value.startsWith('x')"}`, "text", "xy", `"xy"`},
		{`"input_type": "text", "validation": {"expr": "value.startsWith('x')"}`, "text", "yx", refused},
		{`"input_type": "number"`, "text", "12", `12`}, {`"input_type": "number"`, "text", "-3.50", `-3.50`},
		{`"input_type": "number"`, "text", "1,234.5", `1234.5`}, {`"input_type": "number"`, "text", "twelve", `12`},
		{`"input_type": "number"`, "text", "twenty-five", `25`}, {`"input_type": "number"`, "text", "007", `7`},
		{`"input_type": "number"`, "text", "12abc", refused}, {`"input_type": "number"`, "text", "many", refused},
		{`"input_type": "number"`, "speech", "one hundred and five", `105`}, {`"input_type": "number"`, "speech", "there are four of us.", `4`},
		{`"input_type": "number"`, "speech", "two thousand three hundred twenty one", `2321`}, {`"input_type": "number"`, "speech", "minus two point five", `-2.5`},
		{`"input_type": "number"`, "speech", "four or five", refused}, {`"input_type": "number"`, "speech", "A hundred", `100`},
		{`"input_type": "number"`, "dtmf", "42#", `42`},
		{`"input_type": "number", "validation": {"min": 1, "max": 12}`, "text", "13", refused},
		{`"input_type": "number", "validation": {"min": 1, "max": 12}`, "text", "12", `12`},
		{`"input_type": "slider", "validation": {"min": 0, "max": 10}`, "text", "5", `5`},
		{`"input_type": "email"`, "text", "john@example.com", `"john@example.com"`},
		{`"input_type": "email"`, "text", "john@example", refused}, {`"input_type": "email"`, "text", "john smith@example.com", refused},
		{`"input_type": "email"`, "speech", "john at example dot com", `"john@example.com"`},
		{`"input_type": "email"`, "speech", "John underscore Smith at gmail dot com.", `"john_smith@gmail.com"`},
		{`"input_type": "phone"`, "text", "+1 (555) 010-9999", `"+1 (555) 010-9999"`}, {`"input_type": "phone"`, "text", "12345", refused},
		{`"input_type": "phone"`, "speech", "five five five oh one double nine", `"5550199"`},
		{`"input_type": "url"`, "text", "https://example.com/x", `"https://example.com/x"`}, {`"input_type": "url"`, "text", "not a url", refused},
		{`"input_type": "url"`, "text", "ftp://example.com", refused},
		{`"input_type": "digits"`, "dtmf", "1234#", `"1234"`}, {`"input_type": "digits"`, "speech", "one two three", `"123"`},
		{`"input_type": "digits"`, "text", "12a", refused}, {`"input_type": "digits", "validation": {"min_length": 4}`, "dtmf", "123#", refused},
		{`"input_type": "date"`, "text", "2026-03-09", `"2026-03-09"`}, {`"input_type": "date"`, "text", "2026-02-30", refused},
		{`"input_type": "date"`, "speech", "tomorrow", `"2026-03-03"`}, {`"input_type": "date"`, "speech", "next friday", `"2026-03-06"`},
		{`"input_type": "date"`, "speech", "March 3rd, 2026", `"2026-03-03"`}, {`"input_type": "date"`, "text", "soon", refused},
		{`"input_type": "time"`, "text", "14:30", `"14:30"`}, {`"input_type": "time"`, "text", "25:00", refused},
		{`"input_type": "time"`, "speech", "half past three p.m.", `"15:30"`}, {`"input_type": "time"`, "speech", "seven thirty pm", `"19:30"`},
		{`"input_type": "yes_no"`, "text", "Yes", `true`}, {`"input_type": "yes_no"`, "speech", "no thank you.", `false`},
		{`"input_type": "yes_no"`, "speech", "yeah that's right", `true`}, {`"input_type": "yes_no"`, "dtmf", "1", `true`},
		{`"input_type": "yes_no"`, "dtmf", "2", `false`}, {`"input_type": "yes_no"`, "text", "maybe", refused},
		{`"input_type": "yes_no"`, "speech", "that's not right", `false`}, {`"input_type": "yes_no"`, "speech", "yes no", refused},
		{`"input_type": "file"`, "text", "https://example.com/a.pdf", `"https://example.com/a.pdf"`},
		{`"input_type": "choice", "store": "value", ` + drinks, "text", "tea", `"tea"`},
		{`"input_type": "choice", "store": "value", ` + drinks, "text", "GREEN TEA", `"tea"`},
		{`"input_type": "choice", "store": "value", ` + drinks, "speech", "a cuppa please", `"tea"`},
		{`"input_type": "choice", "store": "value", ` + drinks, "dtmf", "2", `"coffee"`}, {`"input_type": "choice", "store": "value", ` + drinks, "dtmf", "9", refused},
		{`"input_type": "choice", "store": "value", ` + drinks, "speech", "the second one", `"coffee"`},
		{`"input_type": "choice", "store": "value", ` + drinks, "speech", "two", `"coffee"`}, {`"input_type": "choice", "store": "value", ` + drinks, "speech", "the last one", `"iced"`},
		{`"input_type": "choice", "store": "value", ` + drinks, "speech", "could I perhaps have green tea", `"tea"`},
		{`"input_type": "choice", "store": "value", ` + drinks, "speech", "an iced coffee would be nice", `"iced"`},
		{`"input_type": "choice", "store": "value", ` + drinks, "text", "beer", refused},
		{`"input_type": "buttons", "options": ["Red", "Blue"]`, "text", "red", `"Red"`},
		{`"input_type": "choice", ` + drinks, "text", "coffee", `{"dtmf":"2","label":"Coffee","value":"coffee"}`},
		{`"input_type": "choice", "store": "value", "options": [{"label": "2 people", "value": 2}, {"label": "4 people", "value": 4}]`, "speech", "four", `4`},
		{`"input_type": "multiple_choice", ` + drinks, "text", "tea, coffee", `["tea","coffee"]`},
		{`"input_type": "multiple_choice", ` + drinks, "speech", "green tea and coffee", `["tea","coffee"]`},
		{`"input_type": "multiple_choice", ` + drinks, "text", `["iced","tea"]`, `["iced","tea"]`},
		{`"input_type": "multiple_choice", ` + drinks, "text", "tea, beer", refused},
		{`"input_type": "choice", "store": "value", "options": "{menu}"`, "text", "soup", `"soup"`},
	}
	for _, tt := range tests {
		t.Run(tt.content+" "+tt.mode+" "+tt.in, func(t *testing.T) {
			f := mustParse(t, fmt.Sprintf(`{"nodes": [{"id": "q", "type": "question", "content": {"question": "?", "variable": "x", %s}}]}`, tt.content))
			k := newTalk(t, f, Init{Variables: map[string]any{"menu": []any{"soup", "salad"}}})
			k.step(Input{epoch, tt.in, tt.mode, 0})
			v, stored := k.s.Variables["x"]
			if tt.want == refused {
				if stored || k.s.Session.Status != Active {
					t.Errorf("%q stored %s, want it refused", tt.in, text(v))
				}
				return
			}
			if got := string(appendCanonical(nil, v)); got != tt.want || k.s.Session.Status != Completed {
				t.Errorf("%q stored %s, %s, want %s", tt.in, got, k.s.Session.Status, tt.want)
			}
		})
	}
}

func TestNumbersKeepTheirDigits(t *testing.T) {
	tests := []struct{ in, want string }{
		{"9007199254740993", "9007199254740993"}, {"0.10", "0.10"}, {"1e3", "1000"}, {"1.5e-3", "0.0015"}, {"-0", "0"}, {"-0.0", "0.0"},
		{"12.34e1", "123.4"}, {"1E+2", "100"}, {"123e-2", "1.23"},
	}
	for _, tt := range tests {
		if got, ok := number(json.Number(tt.in)); !ok || string(got) != tt.want {
			t.Errorf("number(%s) = %s, want %s", tt.in, got, tt.want)
		}
	}
	if _, ok := number("1e100000"); ok {
		t.Error("1e100000 is taken, want it refused")
	}
}
