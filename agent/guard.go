package agent

import "unicode/utf8"

// A guard watches one answer of a model as it streams, and ends one that goes
// on too long or in circles. It is pure.
type guard struct {
	limit int // characters
	chars int
	split ClauseSplitter
	said  map[string]int // sentences, and how often
}

const (
	// charsPerToken is more than a token has in most languages, so that our
	// limit is met by models only that do not keep theirs.
	charsPerToken = 6
	// sameSentence is how often a sentence of sameWords or more may be begun.
	sameSentence = 2
	sameWords    = 4
)

// push takes the next piece of the answer. It returns why the answer ends
// before that piece, "" if it goes on.
func (g *guard) push(text string) (fault string) {
	if g.chars += utf8.RuneCountInString(text); g.chars > g.limit {
		return "length"
	}
	for _, s := range g.split.Push(text) {
		w := words(s)
		if len(w) < sameWords {
			continue
		}
		if g.said == nil {
			g.said = map[string]int{}
		}
		key := normal(s)
		if g.said[key]++; g.said[key] > sameSentence {
			return "repetition"
		}
	}
	return ""
}

// tokens estimates what a text of so many bytes costs where the vendor does not
// tell: about four to a token in English.
func tokens(bytes int) int { return (bytes + 3) / 4 }

// tokensOf estimates the tokens of a prompt.
func tokensOf(p Prompt) int {
	n := len(p.System)
	for _, m := range p.Messages {
		n += len(m.Text)
		for _, c := range m.Calls {
			n += len(c.Name) + len(c.Arguments)
		}
	}
	for _, t := range p.Tools {
		n += len(t.Name) + len(t.Description) + len(t.Parameters)
	}
	return tokens(n)
}
