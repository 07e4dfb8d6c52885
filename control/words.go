package control

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxWords      = 4000 // of a turn, in its index
	maxWordBytes  = 64   // longer ones are cut
	maxQueryWords = 32
	maxQueryBytes = 500
)

// A Word is a word of a text, as it is searched for, and where it stands.
type Word struct {
	Text     string // in lower case
	From, To int    // bytes of the text
}

// WordsOf returns the words of a text: runs of letters, figures and marks, in
// lower case. At most 4,000.
func WordsOf(text string) []Word {
	var out []Word
	from := -1
	end := func(to int) {
		if from >= 0 && len(out) < maxWords {
			w := strings.ToLower(text[from:to])
			if len(w) > maxWordBytes {
				cut := maxWordBytes
				for cut > 0 && !utf8.RuneStart(w[cut]) {
					cut--
				}
				w = w[:cut]
			}
			out = append(out, Word{w, from, to})
		}
		from = -1
	}
	for i, r := range text {
		switch {
		case r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)):
			if from < 0 {
				from = i
			}
		case (r == '\'' || r == '’') && from >= 0 && letterAt(text, i+utf8.RuneLen(r)): // don't
		default:
			end(i)
		}
	}
	end(len(text))
	return out
}

func letterAt(text string, i int) bool {
	r, _ := utf8.DecodeRuneInString(text[min(i, len(text)):])
	return unicode.IsLetter(r)
}

// A WordQuery is what a search asks for: all of its phrases, and none of Not. A
// phrase of several words wants them side by side.
type WordQuery struct{ All, Not [][]string }

// ParseWordQuery reads what a person typed. Words must all be said in one turn;
// "in quotes" they stand side by side; a minus before a word or a quote wants it
// not to be said. Nothing else means anything but its words: there is no text
// that cannot be read. Errors: [Invalid] for one without a word to find, or too
// long.
func ParseWordQuery(text string) (WordQuery, error) {
	var q WordQuery
	if len(text) > maxQueryBytes {
		return q, Invalidf("q", "must be at most %d bytes", maxQueryBytes)
	}
	n := 0
	add := func(not bool, piece string, whole bool) {
		words := WordsOf(piece)
		list := &q.All
		if not {
			list = &q.Not
		}
		var phrase []string
		for _, w := range words {
			n++
			if whole {
				phrase = append(phrase, w.Text)
			} else {
				*list = append(*list, []string{w.Text})
			}
		}
		if len(phrase) > 0 {
			*list = append(*list, phrase)
		}
	}
	for rest := text; rest != ""; {
		rest = strings.TrimLeftFunc(rest, unicode.IsSpace)
		not := strings.HasPrefix(rest, "-")
		rest = strings.TrimPrefix(rest, "-")
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			piece, after, _ := strings.Cut(quoted, `"`)
			add(not, piece, true)
			rest = after
			continue
		}
		at := strings.IndexFunc(rest, func(r rune) bool { return unicode.IsSpace(r) || r == '"' })
		if at < 0 {
			at = len(rest)
		}
		add(not, rest[:at], not) // what hangs together is refused together
		rest = rest[at:]
	}
	switch {
	case len(q.All) == 0:
		return q, Invalidf("q", "must hold a word to look for")
	case n > maxQueryWords:
		return q, Invalidf("q", "must hold at most %d words", maxQueryWords)
	}
	return q, nil
}

// Mark returns the words of a text that the query asks for.
func (q WordQuery) Mark(text string) []Word {
	words := WordsOf(text)
	var out []Word
	hit := make([]bool, len(words))
	for _, phrase := range q.All {
		for i := 0; i+len(phrase) <= len(words); i++ {
			same := true
			for k, p := range phrase {
				same = same && words[i+k].Text == p
			}
			for k := range phrase {
				hit[i+k] = hit[i+k] || same
			}
		}
	}
	for i, w := range words {
		if hit[i] {
			out = append(out, w)
		}
	}
	return out
}

// snippetSide is how many bytes of a snippet stand before the first match and
// after it, to whole words.
const snippetSide = 80

// A Snippet is a stretch of a turn's text around a match.
type Snippet struct {
	Text    string
	Marks   [][2]int // bytes of Text that match
	Cut     bool     // the text goes on before or behind it
	Speaker string
	Index   int
}

// Around returns the stretch of a text around the first match; false where
// there is none.
func (q WordQuery) Around(text string) (Snippet, bool) {
	marks := q.Mark(text)
	if len(marks) == 0 {
		return Snippet{}, false
	}
	from, to := marks[0].From, marks[0].To
	first, last := from, to
	for _, w := range WordsOf(text) {
		if w.To <= from && w.From >= from-snippetSide {
			first = min(first, w.From)
		}
		if w.From >= to && w.To <= to+snippetSide {
			last = max(last, w.To)
		}
	}
	s := Snippet{Text: text[first:last], Cut: first > 0 || last < len(text)}
	for _, m := range marks {
		if m.From >= first && m.To <= last {
			s.Marks = append(s.Marks, [2]int{m.From - first, m.To - first})
		}
	}
	return s, true
}
