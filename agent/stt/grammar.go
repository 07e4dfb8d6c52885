package stt

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"parley/agent"
)

// Each meaning has few words: near-homophones such as yep and nope cost more
// than they bring, and are heard as yes and no.
const (
	yesWords = "yes|yeah|sure|correct|right|absolutely|definitely|of course|that's right|that's correct|yes please|yes i do|yes it is|i do"
	noWords  = "no|no thanks|no thank you|not really|no i don't|no it's not|not at all|incorrect|wrong"
	stops    = "stop|wait|hold on|no|cancel|help|repeat|repeat that|say that again|sorry|pardon|what|operator|agent|goodbye|bye|start over|go back"
	channels = "uh|um|uh huh|mm hmm|hmm|okay|ok|right|yeah|i see|got it|hello|hi|thanks|thank you"
	digits   = "zero|oh|one|two|three|four|five|six|seven|eight|nine|double"
	tens     = "ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|half|point|and|minus"
	ordinals = "first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|thirteenth|fourteenth|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth|thirtieth"
	dates    = "january|february|march|april|may|june|july|august|september|october|november|december|monday|tuesday|wednesday|thursday|friday|saturday|sunday|today|tomorrow|tonight|next|this|week|the|of|on|at|in|o'clock|a m|p m|noon|midnight|morning|afternoon|evening|past|quarter|to|night"
	mail     = "at|dot|dash|underscore|hyphen|com|net|org|mail|gmail|outlook|hotmail|yahoo|example"
	before   = "i want|i want to|i'd like|i'd like to|i would like|i would like to|i need|i need to|it's|it is|i think|my name is|this is|i am|um|uh|well|please|can i|can i have|could i have|my number is|yes"
	after    = "please|thanks|thank you|i think"
)

// numberRule takes numbers as they are said in full, up to 9,999, or digit by
// digit. A loop of number words would hear "six people" as "sixty twelve".
func numberRule() string {
	or := func(list string) string { return "( " + strings.ReplaceAll(list, "|", " | ") + " )" }
	unit := or("one|two|three|four|five|six|seven|eight|nine")
	teen := or("ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen")
	ten := or("twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety")
	small := fmt.Sprintf("( %s | %s | %s [ %s ] )", unit, teen, ten, unit)
	hundreds := fmt.Sprintf("( a | %s | %s ) hundred [ [ and ] %s ]", unit, teen, small)
	thousands := fmt.Sprintf("( a | %s ) thousand [ ( %s hundred [ [ and ] %s ] | [ and ] %s ) ]", unit, unit, small, small)
	return fmt.Sprintf("[ for | make it | we are | there are | a table for ] ( %s | zero | half | [ minus ] %s | %s | <digit> <digit>+ | %s point <digit>+ ) [ people | persons | guests | of us ]", small, small, hundreds+" | "+thousands, small)
}

// letters are spelled as the dictionary has them: "a." and so on.
const letters = "a.|b.|c.|d.|e.|f.|g.|h.|i.|j.|k.|l.|m.|n.|o.|p.|q.|r.|s.|t.|u.|v.|w.|x.|y.|z."

// A grammar is what PocketSphinx is given to listen for. An empty jsgf means
// open speech by the vendor's own language model. There is no rule for speech
// outside the grammar: a loop of phones, tried, took coded and telephone speech
// away from true answers. Such speech is heard as the nearest phrase, so a flow
// had better read back what matters.
type grammar struct {
	jsgf    string // JSGF V1.0
	dict    string // of the words of jsgf only: loads ten times faster
	unknown []string
}

// newGrammar makes the grammar of e. Words are looked up in the dictionary at
// path lexicon; a phrase with a word that it lacks keeps its other words.
func newGrammar(e agent.Expectation, lexicon string) (grammar, error) {
	answer := answers(e)
	if len(answer) == 0 {
		return grammar{}, nil
	}
	rules := map[string][]string{
		"answer": answer,
		"before": alternatives(before), "after": alternatives(after),
		"stop": alternatives(stops), "channel": alternatives(channels),
		"digit": alternatives(digits), "letter": alternatives(letters),
	}
	want := map[string]bool{}
	for _, phrases := range rules {
		for _, p := range phrases {
			for w := range strings.FieldsSeq(p) {
				if w = strings.Trim(w, "()+*[]|"); w != "" && w[0] != '<' {
					want[w] = true
				}
			}
		}
	}
	found, err := pronounce(want, lexicon)
	if err != nil {
		return grammar{}, err
	}
	g := grammar{}
	for _, w := range slices.Sorted(maps.Keys(want)) {
		if len(found[w]) == 0 {
			g.unknown = append(g.unknown, w)
		}
	}
	var b strings.Builder
	b.WriteString("#JSGF V1.0;\ngrammar utterance;\n")
	b.WriteString("public <utterance> = [<before>] [<before>] <answer> [<after>] | <stop> | <channel>;\n")
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		phrases := speakable(rules[name], found)
		if len(phrases) == 0 {
			phrases = []string{"<VOID>"}
		}
		fmt.Fprintf(&b, "<%s> = %s;\n", name, strings.Join(phrases, " | "))
	}
	g.jsgf, g.dict = b.String(), dictionary(found)
	return g, nil
}

// answers returns the phrases that the question takes, none for open speech.
func answers(e agent.Expectation) []string {
	out := normalize(e.Phrases)
	switch e.Kind {
	case "yes_no", "boolean", "confirm":
		out = append(out, alternatives(yesWords+"|"+noWords)...)
	case "digits", "phone":
		out = append(out, "<digit>+")
	case "number", "currency":
		out = append(out, numberRule())
	case "date", "time", "datetime":
		all := strings.ReplaceAll(digits+"|"+tens+"|"+ordinals+"|"+dates, "a m|p m", "a.|p.|m.")
		out = append(out, "("+strings.ReplaceAll(all, "|", " | ")+")+")
	case "email":
		out = append(out, "("+strings.ReplaceAll(digits+"|"+mail+"|"+letters, "|", " | ")+")+")
	case "text", "":
		if len(out) > 0 {
			out = append(out, "<letter>+")
		}
	}
	return out
}

func alternatives(s string) []string { return strings.Split(s, "|") }

// normalize brings phrases to the dictionary's form: lower case words of
// letters and apostrophes, digits spelled.
func normalize(phrases []string) []string {
	names := strings.Fields("zero one two three four five six seven eight nine")
	var out []string
	for _, p := range phrases {
		var b strings.Builder
		for _, r := range strings.ToLower(p) {
			switch {
			case r >= 'a' && r <= 'z', r == '\'':
				b.WriteRune(r)
			case r >= '0' && r <= '9':
				b.WriteString(" " + names[r-'0'] + " ")
			case r == '’':
				b.WriteByte('\'')
			case r == '&':
				b.WriteString(" and ")
			default:
				b.WriteByte(' ')
			}
		}
		if s := strings.Join(strings.Fields(b.String()), " "); s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// speakable drops the words without a pronunciation, and phrases left empty.
func speakable(phrases []string, found map[string][]string) []string {
	var out []string
	for _, p := range phrases {
		var keep []string
		for w := range strings.FieldsSeq(p) {
			bare := strings.Trim(w, "()+*[]")
			if bare == "" || bare == "|" || bare[0] == '<' || len(found[bare]) > 0 {
				keep = append(keep, w)
			}
		}
		if len(keep) > 0 {
			out = append(out, strings.Join(keep, " "))
		}
	}
	return out
}

// pronounce looks words up in a dictionary of the CMU form: a line a
// pronunciation, further ones as "word(2)".
func pronounce(want map[string]bool, lexicon string) (map[string][]string, error) {
	f, err := os.Open(lexicon)
	if err != nil {
		return nil, fmt.Errorf("open dictionary: %w", err)
	}
	defer f.Close()
	found := make(map[string][]string, len(want))
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		line := sc.Text()
		word, sounds, ok := strings.Cut(line, " ")
		base, _, _ := strings.Cut(word, "(")
		if ok && want[base] {
			found[base] = append(found[base], sounds)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read dictionary: %w", err)
	}
	return found, nil
}

// dictionary writes found in the CMU form.
func dictionary(found map[string][]string) string {
	var b strings.Builder
	for _, w := range slices.Sorted(maps.Keys(found)) {
		for i, sounds := range found[w] {
			if i == 0 {
				fmt.Fprintf(&b, "%s %s\n", w, sounds)
				continue
			}
			fmt.Fprintf(&b, "%s(%d) %s\n", w, i+1, sounds)
		}
	}
	return b.String()
}

// spell joins words, with spelled letters run together: "j. o." gives "jo".
func spell(words []string) string {
	var b strings.Builder
	letter := false
	for _, w := range words {
		isLetter := len(w) == 2 && w[1] == '.'
		if b.Len() > 0 && !(letter && isLetter) {
			b.WriteByte(' ')
		}
		b.WriteString(strings.TrimSuffix(w, "."))
		letter = isLetter
	}
	return b.String()
}
