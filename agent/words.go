package agent

import (
	"strings"
	"unicode"
)

// words splits text into lower-case words without punctuation: what two texts
// are compared by.
func words(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\'' && r != '’'
	})
}

// normal is text as words compare it.
func normal(text string) string { return strings.Join(words(text), " ") }

// Stop words end the agent's speech at once, whatever else is said.
var stopWords = phraseSet("stop", "wait", "no", "nope", "hold on", "hang on", "excuse me", "sorry", "actually",
	"pardon", "hello", "one moment", "one second", "cancel", "quiet", "enough", "repeat", "what",
	"halt", "nein", "warte", "moment", "alto", "espera", "para", "non", "attends", "arrête")

// Backchannels say that the caller listens: they never end the agent's speech.
var backchannels = phraseSet("uh-huh", "uh huh", "uhhuh", "mhm", "mm-hmm", "mm hmm", "hmm", "mm", "okay", "ok", "yeah",
	"yes yeah", "right", "sure", "i see", "got it", "aha", "ah", "oh", "great", "good", "cool", "alright", "all right",
	"genau", "ja", "vale", "sí", "oui", "d'accord")

// Open ends of a sentence: who says one of these last has more to say.
var openEnds = phraseSet("and", "or", "but", "because", "so", "if", "when", "that", "which", "who", "the", "a", "an",
	"my", "your", "our", "to", "of", "for", "with", "at", "in", "on", "from", "is", "are", "was", "i", "we", "i'm",
	"um", "uh", "er", "erm", "like", "it's", "than", "then", "about", "and then", "i mean", "let me", "let me see",
	"und", "oder", "aber", "der", "die", "das", "y", "o", "pero", "et", "ou", "mais")

func phraseSet(list ...string) map[string]bool {
	set := make(map[string]bool, len(list))
	for _, w := range list {
		set[normal(w)] = true
	}
	return set
}

// hasStopWord reports whether text begins with or consists of a stop word.
func hasStopWord(text string) bool {
	w := words(text)
	for n := min(2, len(w)); n > 0; n-- {
		if stopWords[strings.Join(w[:n], " ")] || stopWords[strings.Join(w[len(w)-n:], " ")] {
			return true
		}
	}
	return false
}

// onlyBackchannels reports whether text is nothing but signs of listening.
func onlyBackchannels(text string) bool {
	w := words(text)
	if len(w) == 0 || len(w) > 6 {
		return false
	}
	for i := 0; i < len(w); {
		switch {
		case i+1 < len(w) && backchannels[w[i]+" "+w[i+1]]:
			i += 2
		case backchannels[w[i]]:
			i++
		default:
			return false
		}
	}
	return true
}

// echoes reports whether text is at least three words of what the agent says,
// in the agent's order and without a gap: its own voice come back.
func echoes(text, agent string) bool {
	w := words(text)
	return len(w) >= 3 && strings.Contains(" "+normal(agent)+" ", " "+strings.Join(w, " ")+" ")
}

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
