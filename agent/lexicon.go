package agent

import (
	"strings"
	"unicode"
)

// A lexicon holds the words of one language that decide over an interruption,
// whatever else the caller says. It is read-only.
type lexicon struct {
	stop      map[string]bool // end the agent's speech at once
	listening map[string]bool // say that the caller listens, and never end it
	begun     map[string]bool // the first words of such
}

// longestPhrase is the number of words in the longest entry of any lexicon.
const longestPhrase = 3

// lexiconOf returns the lexicon of a BCP 47 language; English where there is
// none.
func lexiconOf(language string) *lexicon {
	primary, _, _ := strings.Cut(strings.ToLower(language), "-")
	if l, ok := lexicons[primary]; ok {
		return l
	}
	return lexicons["en"]
}

// hums are heard in every language. Recognizers write them in many ways.
const hums = "uh huh|uhhuh|uh-huh|mhm|mm hmm|mm-hmm|hmm|hm|mm|mmm|aha|ah|oh|okay|ok|o.k."

// hesitations hold nothing, and are what a recognizer makes of noise.
var hesitations = phraseSet("uh", "um", "er", "erm", "uhm", "äh", "ähm", "öh", "öhm", "euh", "ehm", "eh")

// hesitates reports whether text is nothing but hesitations.
func hesitates(text string) bool {
	for _, w := range words(text) {
		if !hesitations[w] {
			return false
		}
	}
	return true
}

// lexicons by primary language. Entries are separated by "|", as recognizers
// write them or without punctuation.
var lexicons = map[string]*lexicon{
	"en": newLexicon("stop|wait|no|nope|hold on|hang on|excuse me|sorry|actually|pardon|hello|one moment|one second|"+
		"just a moment|just a second|wait a minute|cancel|quiet|be quiet|shut up|enough|repeat|what|halt|pause|never mind|listen",
		"yeah|yep|yup|yes yeah|right|sure|i see|got it|great|good|cool|alright|all right|i understand|of course|exactly|makes sense|go on"),
	"de": newLexicon("stopp|stop|halt|warte|warten|warten sie|nein|nee|moment|einen moment|eine sekunde|sekunde|entschuldigung|"+
		"entschuldigen sie|sorry|wie bitte|hallo|abbrechen|genug|ruhe|wiederholen|was|eigentlich|aufhören|hör auf|hören sie auf|schluss|pause",
		"ja|jaja|genau|gut|klar|verstehe|ich verstehe|stimmt|alles klar|ach|ach so|achso|richtig|super|schön|in ordnung|natürlich|aber ja"),
	"fr": newLexicon("stop|arrête|arrêtez|attends|attendez|non|pardon|excusez-moi|excuse-moi|un moment|un instant|une seconde|"+
		"une minute|allô|bonjour|annuler|annulez|silence|assez|ça suffit|répétez|répète|quoi|comment|en fait|pause",
		"oui|ouais|d'accord|bien|très bien|bien sûr|je vois|je comprends|c'est ça|exactement|voilà|entendu|parfait"),
	"es": newLexicon("para|pare|alto|espera|espere|espérate|no|un momento|un segundo|perdón|perdona|perdone|disculpa|disculpe|"+
		"oye|oiga|hola|basta|ya basta|cancela|cancelar|silencio|suficiente|repite|repita|qué|cómo|en realidad|pausa|stop",
		"sí|vale|claro|bien|muy bien|entiendo|ya|ya veo|de acuerdo|exacto|perfecto|bueno|ajá|por supuesto"),
	"it": newLexicon("stop|ferma|fermati|si fermi|fermo|aspetta|aspetti|no|un momento|un attimo|un secondo|scusa|scusi|mi scusi|"+
		"pronto|ciao|annulla|basta|silenzio|zitto|ripeti|ripeta|cosa|come|in realtà|alt|pausa",
		"sì|va bene|certo|bene|capisco|ho capito|d'accordo|esatto|giusto|perfetto|ecco|già|bravo"),
	"nl": newLexicon("stop|wacht|wacht even|wachten|nee|nee hoor|moment|een moment|momentje|een seconde|sorry|pardon|hallo|"+
		"annuleer|annuleren|stil|genoeg|herhaal|herhalen|wat|wat zegt u|eigenlijk|ho|hou op|pauze",
		"ja|jazeker|precies|goed|prima|klopt|ik begrijp het|begrepen|natuurlijk|inderdaad|juist|oké|zeker"),
	"pt": newLexicon("para|pare|espera|espere|espera aí|não|um momento|um segundo|um instante|desculpa|desculpe|com licença|"+
		"alô|olá|oi|chega|basta|cancela|cancelar|silêncio|repete|repita|o quê|quê|como|na verdade|pausa|stop",
		"sim|certo|claro|tá|tá bom|está bem|bem|muito bem|entendi|entendo|pois|pois é|exato|perfeito|isso|beleza"),
}

func newLexicon(stop, listening string) *lexicon {
	l := &lexicon{stop: phraseSet(strings.Split(stop, "|")...), listening: phraseSet(strings.Split(listening+"|"+hums, "|")...),
		begun: map[string]bool{}}
	for phrase := range l.listening {
		w := strings.Fields(phrase)
		for n := 1; n < len(w); n++ {
			l.begun[strings.Join(w[:n], " ")] = true
		}
	}
	return l
}

func phraseSet(list ...string) map[string]bool {
	set := make(map[string]bool, len(list))
	for _, w := range list {
		set[normal(w)] = true
	}
	return set
}

// stops reports whether text begins or ends with a stop word.
func (l *lexicon) stops(text string) bool {
	w := words(text)
	for n := min(longestPhrase, len(w)); n > 0; n-- {
		if l.stop[strings.Join(w[:n], " ")] || l.stop[strings.Join(w[len(w)-n:], " ")] {
			return true
		}
	}
	return false
}

// mostBackchannels is how many words a sign of listening may have.
const mostBackchannels = 6

// listens reports whether text is nothing but signs of listening.
func (l *lexicon) listens(text string) bool {
	rest, some := l.signs(text)
	return some && len(rest) == 0
}

// mayListen reports whether text is one word or two short of that: a recognizer
// gives "uh huh" word by word.
func (l *lexicon) mayListen(text string) bool {
	rest, _ := l.signs(text)
	return l.begun[strings.Join(rest, " ")]
}

// signs returns the words behind the signs of listening that text begins with.
func (l *lexicon) signs(text string) (rest []string, some bool) {
	w := words(text)
	if len(w) > mostBackchannels {
		return w, false
	}
next:
	for len(w) > 0 {
		for n := min(longestPhrase, len(w)); n > 0; n-- {
			if l.listening[strings.Join(w[:n], " ")] {
				w, some = w[n:], true
				continue next
			}
		}
		break
	}
	return w, some
}

// words splits text into lower-case words without punctuation: what two texts
// are compared by.
func words(text string) []string {
	text = strings.ReplaceAll(strings.ToLower(text), "’", "'")
	return strings.FieldsFunc(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) && r != '\''
	})
}

// normal is text as words compare it.
func normal(text string) string { return strings.Join(words(text), " ") }

const (
	// echoWords is how many words in the agent's own order are its own voice
	// come back, if they are no louder than that; echoWordsLow the same for words
	// that are louder than the line's echo was so far.
	echoWords    = 3
	echoWordsLow = 5
	// echoMemory is how many of the agent's latest words those may be among, and
	// echoLately fewer than that: what comes back was said just now.
	echoMemory = 80
	echoLately = 12
)

// ownVoice returns how many words at the beginning of text, heard so loud, are
// the agent's own voice come back: its latest words, in its order. Of fewer than
// echoWords nobody knows; doubtful is true then. Of the words behind them, fewer
// than echoWords may be misheard, more are somebody else's.
func ownVoice(text, agent string, loud loudness) (own int, doubtful bool) {
	if loud == aloud {
		return 0, false
	}
	t, a := words(text), words(agent)
	before := max(0, len(t)-echoMemory)
	t, a = t[before:], a[max(0, len(a)-echoMemory):]
	least := echoWords
	if loud == low {
		least = echoWordsLow
	}
	switch {
	case len(t) == 0:
		return 0, false
	case len(t) >= least:
		if own = ownWords(t, a, least); own > 0 {
			own += before
		}
		return own, false
	case loud == faint:
		return 0, ownWords(t, a[max(0, len(a)-echoLately):], len(t)) == len(t)
	}
	return 0, false
}

// ownWords returns how many words at the beginning of t are those of a come
// back: at least so many of them, and two thirds of all, are in the order of a.
func ownWords(t, a []string, least int) (own int) {
	before := 0
	inOrder(t, a, func(i, n int) {
		if n > before && n >= least && 3*n >= 2*(i+1) {
			own = i + 1
		}
		before = n
	})
	return own
}

// inOrder tells, behind each word i of t, the length of the longest sequence of
// words that t[:i+1] and a share, in order, gaps allowed: a recognizer mishears
// some of an echo.
func inOrder(t, a []string, tell func(i, length int)) {
	longest := make([]int, len(a)+1) // of the words of t so far and a[:j]
	for i, w := range t {
		diagonal := 0 // longest[j] before w
		for j, said := range a {
			up := longest[j+1]
			switch {
			case w == said:
				longest[j+1] = diagonal + 1
			case longest[j] > up:
				longest[j+1] = longest[j]
			}
			diagonal = up
		}
		tell(i, longest[len(a)])
	}
}

// without returns text behind its first n words, as it was written.
func without(text string, n int) string {
	fields := strings.Fields(text)
	for n > 0 && len(fields) > 0 {
		n -= len(words(fields[0]))
		fields = fields[1:]
	}
	return strings.Join(fields, " ")
}
