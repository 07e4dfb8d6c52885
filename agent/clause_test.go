package agent

import (
	"slices"
	"strings"
	"testing"
)

func TestClauseSplitter(t *testing.T) {
	tests := []struct {
		name, in string
		want     []string
	}{
		{"sentence", "Hello there. How can I help you today?", []string{"Hello there. ", "How can I help you today?"}},
		{"first-comma", "Sure, I can certainly do that, just give me a moment.", []string{"Sure, I can certainly do that, ", "just give me a moment."}},
		{"comma-later-stays", "Yes. I looked, and I found it.", []string{"Yes. ", "I looked, and I found it."}},
		{"first-long", "one two three four five six seven eight nine ten eleven twelve thirteen fourteen.", []string{"one two three four five six seven eight nine ten eleven twelve ", "thirteen fourteen."}},
		{"decimal", "Yes. It costs 3.50 today. Good.", []string{"Yes. ", "It costs 3.50 today. ", "Good."}},
		{"title", "Yes. Dr. Smith is in. Come at 5 p.m. today. Or e.g. tomorrow.", []string{"Yes. ", "Dr. Smith is in. ", "Come at 5 p.m. today. ", "Or e.g. tomorrow."}},
		{"end-after-pm", "Ok. We close at 5 p.m. Come early.", []string{"Ok. ", "We close at 5 p.m. ", "Come early."}},
		{"url", "Ok. See https://example.com/a.b?c=d. Then call.", []string{"Ok. ", "See https://example.com/a.b?c=d. ", "Then call."}},
		{"mail", "Ok. Write to ann.lee@example.com or call.", []string{"Ok. ", "Write to ann.lee@example.com or call."}},
		{"time", "Ok. At 10:30 it opens.", []string{"Ok. ", "At 10:30 it opens."}},
		{"initial", "Ok. J. R. Tolkien wrote it. Yes.", []string{"Ok. ", "J. R. Tolkien wrote it. ", "Yes."}},
		{"thousands", "We have 1,000, 2,000, 3,000 of them.", []string{"We have 1,000, 2,000, 3,000 of them."}},
		{"no-number", "Ok. It is no. 5 there. No. Not that.", []string{"Ok. ", "It is no. 5 there. ", "No. ", "Not that."}},
		{"list", "Ok. We have:\n1. Tea\n2. Coffee\n", []string{"Ok. ", "We have:\n", "1. Tea\n", "2. Coffee\n"}},
		{"quote", "Ok. He said \"stop.\" Then he left.", []string{"Ok. ", "He said \"stop.\" ", "Then he left."}},
		{"fence", "Ok. ```\na. b\n\nc. d\n``` Done.", []string{"Ok. ", "```\na. b\n\nc. d\n``` Done."}},
		{"link", "Ok. See [our site. It is new](https://example.com) now. Bye.", []string{"Ok. ", "See [our site. It is new](https://example.com) now. ", "Bye."}},
		{"ellipsis", "Ok. Well... maybe so. Fine.", []string{"Ok. ", "Well... maybe so. ", "Fine."}},
		{"blank", "  \n ", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for size := 1; size < 9; size++ {
				var s ClauseSplitter
				var got []string
				for chunk := range slices.Chunk([]byte(tt.in), size) {
					got = append(got, s.Push(string(chunk))...)
				}
				got = append(got, s.Flush()...)
				if !slices.Equal(got, tt.want) {
					t.Errorf("in pieces of %d: got %q, want %q", size, got, tt.want)
				}
			}
		})
	}
}

func TestClauseSplitterKeepsTheLimit(t *testing.T) {
	s := ClauseSplitter{Limit: 60}
	long := strings.Repeat("and then we went on to the next place, ", 20)
	got := append(s.Push(long), s.Flush()...)
	for _, c := range got {
		if len(c) > 60 {
			t.Errorf("clause of %d characters, want at most 60: %q", len(c), c)
		}
	}
	if strings.Join(got, "") != long {
		t.Error("joined clauses differ from the text")
	}
}

func FuzzClauseSplitter(f *testing.F) {
	f.Add("Hello there, Dr. Smith. It is 3.50.\n\n- one\n- two", 3, 20)
	f.Add("```x", 1, 5)
	f.Add("[a](b. c", 2, 1)
	f.Fuzz(func(t *testing.T, text string, size, limit int) {
		s := ClauseSplitter{Limit: limit % 500}
		var got []string
		for chunk := range slices.Chunk([]byte(text), min(max(size, 1), 50)) {
			got = append(got, s.Push(string(chunk))...)
		}
		got = append(got, s.Flush()...)
		if want := strings.Fields(text); !slices.Equal(strings.Fields(strings.Join(got, "")), want) {
			t.Errorf("clauses %q lose words of %q", got, text)
		}
	})
}
