package agent

import (
	"strings"
	"unicode"
)

// Open ends of a sentence: who says one of these last has more to say.
var openEnds = phraseSet("and", "or", "but", "because", "so", "if", "when", "that", "which", "who", "the", "a", "an",
	"my", "your", "our", "to", "of", "for", "with", "at", "in", "on", "from", "is", "are", "was", "i", "we", "i'm",
	"um", "uh", "er", "erm", "like", "it's", "than", "then", "about", "and then", "i mean", "let me", "let me see",
	"und", "oder", "aber", "der", "die", "das", "y", "o", "pero", "et", "ou", "mais")

// closure tells how finished a text sounds.
type closure int

const (
	open    closure = iota // more will come: "and then …"
	neutral                // could be all
	closed                 // a full sentence
)

// closureOf judges text by its last mark or word.
func closureOf(text string) closure {
	t := strings.TrimRightFunc(text, unicode.IsSpace)
	w := words(t)
	switch {
	case len(w) == 0:
		return open
	case strings.HasSuffix(t, "…"), strings.HasSuffix(t, "..."), strings.HasSuffix(t, ","), strings.HasSuffix(t, "-"):
		return open
	}
	last := w[len(w)-1]
	if openEnds[last] || len(w) > 1 && openEnds[w[len(w)-2]+" "+last] {
		return open // recognizers put a full stop behind any pause
	}
	if strings.ContainsAny(t[len(t)-1:], ".?!") {
		return closed
	}
	return neutral
}

// digitsIn counts the digits in text, spoken ones included.
func digitsIn(text string) int {
	n := 0
	for _, w := range words(text) {
		switch w {
		case "zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine":
			n++
			continue
		}
		for _, r := range w {
			if unicode.IsDigit(r) {
				n++
			}
		}
	}
	return n
}
