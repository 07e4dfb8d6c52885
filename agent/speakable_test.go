package agent

import (
	"testing"
	"unicode/utf8"
)

func TestSpeakable(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain", "Hello, how are you?", "Hello, how are you?"},
		{"money", "It is $3.50 for 2, at 10:30.", "It is $3.50 for 2, at 10:30."},
		{"bold", "This is **very** _good_ and `fine`.", "This is very good and fine."},
		{"link", "See [our page](https://example.com/x).", "See our page."},
		{"url", "Go to https://www.example.com/path?x=1.", "Go to example dot com."},
		{"mail", "Write to ann.lee@example.com.", "Write to ann dot lee at example dot com."},
		{"heading-list", "# Menu\n- Tea\n- Coffee", "Menu. Tea. Coffee"},
		{"numbered", "1. Tea\n2. Coffee", "1. Tea. 2. Coffee"},
		{"emoji", "Great! 🎉👍 Done", "Great! Done"},
		{"emoji-only", "🎉", ""},
		{"marks-only", "** --- **", ""},
		{"fence", "Run this:\n```go\nfmt.Println()\n```\nDone.", "Run this: Done."},
		{"percent", "50% off & more", "50 percent off and more"},
		{"sum", "2 + 2 = 4", "2 plus 2 equals 4"},
		{"range", "9–5 daily", "9 to 5 daily"},
		{"degrees", "20°C or 68 °F", "20 degrees Celsius or 68 degrees Fahrenheit"},
		{"slash", "and/or", "and or or"},
		{"hash", "You are #1", "You are number 1"},
		{"table", "| a | b |\n|---|---|\n| c | d |", "a, b, c, d,"},
		{"snake", "the user_name field", "the user name field"},
		{"tags", "a<br/>b <b>c</b>", "a b c"},
		{"accents", "Café señor 日本語。", "Café señor 日本語。"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Speakable(tt.in); got != tt.want {
				t.Errorf("Speakable(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func FuzzSpeakable(f *testing.F) {
	f.Add("# a **b** [c](d) ```e")
	f.Add("\xff|~_*")
	f.Fuzz(func(t *testing.T, text string) {
		if got := Speakable(text); !utf8.ValidString(got) {
			t.Errorf("Speakable(%q) = %q is not UTF-8", text, got)
		}
	})
}
