package agent

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// A ClauseSplitter cuts a reply into clauses while it streams in. The first
// clause is short, so that speech starts early; later ones are sentences, so
// that it sounds well. It cuts only at white space, never inside a number, an
// address or a code fence, nor after an abbreviation, and joined clauses give
// the reply again. The zero value is ready; one goroutine may use it.
type ClauseSplitter struct {
	// Limit is the most characters of a clause, but for a single longer word.
	// Default 250.
	Limit int

	buf     string
	scanned int  // bytes of buf in which there is no place to cut
	later   bool // the first clause is out
}

const (
	clauseLimit = 250
	firstComma  = 3  // words that make a first clause worth a comma's pause
	firstWords  = 12 // words after which the first clause waits no longer
	fenceLimit  = 16 // times Limit: a code fence that never closes is cut after all
)

// Push takes the next piece of the reply and returns the clauses that are
// complete, often none. A clause keeps the white space that follows it.
func (s *ClauseSplitter) Push(text string) []string {
	s.buf += text
	var out []string
	for {
		n := s.cut()
		if n == 0 {
			return out
		}
		out = s.take(out, n)
	}
}

// Flush returns what is left, and is ready for more text of the same reply.
func (s *ClauseSplitter) Flush() []string {
	var out []string
	for utf8.RuneCountInString(s.buf) > s.limit() {
		n := s.cutLong()
		if n == 0 {
			break
		}
		out = s.take(out, n)
	}
	return s.take(out, len(s.buf))
}

func (s *ClauseSplitter) limit() int {
	if s.Limit > 0 {
		return s.Limit
	}
	return clauseLimit
}

// take moves n bytes to out; blank ones are dropped.
func (s *ClauseSplitter) take(out []string, n int) []string {
	c := s.buf[:n]
	s.buf, s.scanned = s.buf[n:], 0
	if strings.TrimSpace(c) == "" {
		return out
	}
	s.later = true
	return append(out, c)
}

// cut returns where the next clause ends, or 0 if that is not known yet.
func (s *ClauseSplitter) cut() int {
	if inFence(s.buf) && len(s.buf) < fenceLimit*s.limit() {
		return 0
	}
	words := len(strings.Fields(s.buf[:s.scanned]))
	for i := s.scanned; i < len(s.buf); {
		start := i
		for i < len(s.buf) && !isSpaceAt(s.buf, i) {
			_, n := utf8.DecodeRuneInString(s.buf[i:])
			i += n
		}
		end := i // of a token
		for i < len(s.buf) && isSpaceAt(s.buf, i) {
			_, n := utf8.DecodeRuneInString(s.buf[i:])
			i += n
		}
		if i == len(s.buf) { // the token, or what follows it, may go on
			break
		}
		if end > start {
			words++
		}
		if s.endsClause(start, end, i, words) {
			return i
		}
		s.scanned = i
	}
	if utf8.RuneCountInString(s.buf) > s.limit() {
		return s.cutLong()
	}
	return 0
}

// endsClause tells whether a clause may end after the token buf[start:end],
// whose white space ends at next and which is the given number of words in.
func (s *ClauseSplitter) endsClause(start, end, next, words int) bool {
	before, tok, gap, after := s.buf[:start], s.buf[start:end], s.buf[end:next], s.buf[next:]
	if inFence(s.buf[:end]) || openLink(s.buf[:end]) {
		return false
	}
	if strings.Contains(gap, "\n") && words > 0 {
		return true
	}
	if endsSentence(before, tok, after) {
		return true
	}
	if s.later {
		return false
	}
	if words >= firstComma && endsPhrase(tok, after) {
		return true
	}
	return words >= firstWords && mayPart(tok, after)
}

// cutLong returns where to cut a text that is over the limit: after the last
// comma, else the last space, before it; a longer word stays whole.
func (s *ClauseSplitter) cutLong() int {
	comma, space, count := 0, 0, 0
	start := 0
	for i := 0; i < len(s.buf); {
		r, n := utf8.DecodeRuneInString(s.buf[i:])
		if count++; count > s.limit() && (comma > 0 || space > 0) {
			break
		}
		i += n
		if !unicode.IsSpace(r) || i == len(s.buf) || isSpaceAt(s.buf, i) {
			continue
		}
		tok := strings.TrimSpace(s.buf[start:i])
		if strings.TrimSpace(s.buf[:i]) != "" && !openLink(s.buf[:i]) {
			if endsPhrase(tok, s.buf[i:]) {
				comma = i
			} else if mayPart(tok, s.buf[i:]) || space == 0 {
				space = i
			}
		}
		start = i
	}
	if comma > 0 {
		return comma
	}
	return space
}

const closers = "\"'”’)]}*_`»"

// endsSentence tells whether the token ends a sentence, given what stands
// before and after it.
func endsSentence(before, tok, after string) bool {
	bare := strings.TrimRight(tok, closers)
	last, _ := utf8.DecodeLastRuneInString(bare)
	if strings.ContainsRune("!?…。！？", last) {
		return strings.Trim(bare, "!?…。！？") != ""
	}
	if last != '.' {
		return false
	}
	word := strings.ToLower(strings.TrimLeft(strings.TrimRight(bare, "."), "\"'“‘([{*_«"))
	next, _ := utf8.DecodeRuneInString(after)
	switch {
	case word == "": // dots alone
		return false
	case strings.HasSuffix(bare, "..") || len(bare) != len(strings.TrimRight(bare, "."))+1:
		return unicode.IsUpper(next)
	case titles[word]:
		return false
	case abbreviations[word] || strings.Contains(word, ".") && len(word) <= 5: // e.g, p.m, u.s
		return unicode.IsUpper(next)
	case word == "no":
		return !unicode.IsDigit(next)
	case len(word) == 1 && unicode.IsLetter(rune(word[0])) && word != "i":
		return false // an initial
	case isNumber(word) && startsLine(before):
		return false // an item of a list
	}
	return true
}

// endsPhrase tells whether a pause after the token sounds natural.
func endsPhrase(tok, after string) bool {
	bare := strings.TrimRight(tok, closers)
	last, n := utf8.DecodeLastRuneInString(bare)
	switch last {
	case ',', '，', '、':
		prev, _ := utf8.DecodeLastRuneInString(bare[:len(bare)-n])
		next, _ := utf8.DecodeRuneInString(after)
		return !(unicode.IsDigit(prev) && unicode.IsDigit(next))
	case ';', ':', '—', '–':
		return true
	}
	return tok == "-"
}

// mayPart tells whether the token may be parted from what follows at all:
// "Dr. Smith", "5 o'clock" and "at 7" stay together.
func mayPart(tok, after string) bool {
	last, _ := utf8.DecodeLastRuneInString(tok)
	next, _ := utf8.DecodeRuneInString(after)
	return last != '.' && !unicode.IsDigit(last) && !unicode.IsDigit(next) && !strings.ContainsRune("$€£#+", last)
}

// inFence tells whether text ends inside a code fence.
func inFence(text string) bool { return strings.Count(text, "```")%2 == 1 }

// openLink tells whether text ends inside the brackets of a Markdown link.
func openLink(text string) bool {
	i := strings.LastIndexByte(text, '[')
	if i < 0 || len(text)-i > clauseLimit {
		return false
	}
	rest := text[i:]
	j := strings.IndexByte(rest, ']')
	if j < 0 {
		return true
	}
	return strings.HasPrefix(rest[j:], "](") && !strings.Contains(rest[j:], ")")
}

func isSpaceAt(s string, i int) bool {
	r, _ := utf8.DecodeRuneInString(s[i:])
	return unicode.IsSpace(r)
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

func startsLine(before string) bool {
	trimmed := strings.TrimRight(before, " \t")
	return trimmed == "" || strings.HasSuffix(trimmed, "\n")
}

// Words whose full stop does not end a sentence: ever, or unless a capital
// follows.
var (
	titles = wordSet("mr mrs ms mx dr prof st sr sra fr rev hon gen col capt lt sgt sen rep gov messrs vs")
	// Read-only.
	abbreviations = wordSet("etc approx inc ltd co corp dept est ext fig vol ave blvd rd tel min max jr am pm jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun")
)

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		set[w] = true
	}
	return set
}
