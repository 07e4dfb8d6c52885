package agent

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// closure tells how finished a text sounds.
type closure int

const (
	open    closure = iota // more will come: "and then …"
	neutral                // could be all
	closed                 // a full sentence
)

// Words after which more comes whatever mark stands behind them: recognizers
// put a full stop behind any pause. English, German, Spanish, French, Italian,
// Portuguese and Dutch; words that are whole answers in one of them are left out.
var goesOn = phraseSet(
	"um", "uh", "er", "erm", "uhm", "hmm", "äh", "ähm", "öh", "hm", "euh", "este", "ehm", "cioè", "então",
	"and", "or", "but", "because", "if", "although", "unless", "whether", "while", "plus", "nor",
	"the", "a", "an", "my", "your", "our", "his", "their", "its", "every",
	"of", "with", "for", "from", "into", "between", "without", "during", "than", "as", "i'm", "i've", "i'd", "i'll",
	"we're", "we'd", "it's", "there's", "that's", "you're", "they're", "very", "really", "maybe", "actually",
	"und", "oder", "aber", "weil", "dass", "wenn", "der", "das", "ein", "eine", "einen", "einem", "mein", "meine", "für", "mit", "von", "zum", "zur",
	"y", "pero", "porque", "que", "el", "los", "las", "un", "una", "mi", "del", "con", "por", "para el", "para la",
	"et", "ou", "mais", "parce que", "le", "les", "une", "mon", "mes", "de", "du", "avec", "pour", "chez",
	"ed", "però", "perché", "il", "gli", "di", "della", "dello", "mas", "uma", "meu", "minha",
	"en", "maar", "omdat", "het", "een", "mijn", "voor",
)

// Words after which more comes unless a mark ends the sentence: "turn it on."
// is all, "turn it on" may not be.
var mayGoOn = phraseSet(
	"so", "when", "that", "which", "who", "where", "what", "how", "why", "also", "just", "like", "about", "to",
	"at", "in", "on", "by", "is", "are", "was", "were", "am", "be", "been", "have", "has", "had", "do", "does", "did",
	"can", "could", "would", "should", "will", "may", "might", "must", "not", "i", "we", "he", "she", "they", "you",
	"some", "any", "this", "these", "those", "and then", "ich", "wir", "ist", "sind", "je", "suis", "ik",
)

// Beginnings that want an end, however they are marked.
var wantsMore = phraseSet(
	"my name is", "name is", "number is", "address is", "birthday is", "code is", "email is", "it is", "this is", "here is",
	"i am", "i want", "i need", "i'd like", "i would like", "i'd like to", "i want to", "i need to", "i have to", "i'm looking for",
	"i was wondering", "i wanted to", "i mean", "you know", "let me see", "let me think", "let me", "let's see", "give me",
	"can i", "can you", "could i", "could you", "do you have", "would you", "is there", "are there", "the thing is",
	"going to", "want to", "need to", "have to", "able to", "trying to", "like to", "kind of", "sort of", "a bit of", "one more thing",
	"ich möchte", "ich heiße", "ich hätte gern", "mein name ist", "ich bin", "me llamo", "mi nombre es", "quiero", "quisiera", "me gustaría",
	"je m'appelle", "je voudrais", "je suis", "j'aimerais", "mi chiamo", "vorrei", "meu nome é", "eu quero", "ik wil", "mijn naam is",
)

// Whole answers, and ends of them, that need no mark.
var isAll = phraseSet(
	"yes", "yeah", "yep", "yup", "nope", "no", "okay", "ok", "sure", "correct", "right", "exactly", "absolutely", "please", "thanks",
	"thank you", "bye", "goodbye", "bye bye", "that's all", "that's it", "that is all", "that's right", "nothing else", "no thanks",
	"of course", "hello", "hi", "never mind", "i don't know", "not really", "cancel", "stop", "help", "operator",
	"ja", "nein", "danke", "bitte", "tschüss", "sí", "gracias", "por favor", "adiós", "oui", "non", "merci", "s'il vous plaît", "au revoir",
	"sì", "grazie", "sim", "não", "obrigado", "obrigada", "nee", "dank u", "bedankt",
)

// closureOf judges text by its last mark and words.
func closureOf(text string) closure {
	t := strings.TrimRightFunc(strings.TrimRightFunc(text, unicode.IsSpace), func(r rune) bool { return strings.ContainsRune(closers, r) })
	w := words(t)
	if len(w) == 0 || hangs(t) {
		return open
	}
	mark, _ := utf8.DecodeLastRuneInString(t)
	ends := strings.ContainsRune(".?!。？！؟।", mark)
	asks := strings.ContainsRune("?？؟", mark)
	switch {
	case endsIn(w, isAll):
		return closed
	case asks && !endsIn(w, goesOn), asks && len(w) > 3 && prepositions[w[len(w)-1]]:
		return closed // "what is it for?"
	case endsIn(w, goesOn), endsIn(w, wantsMore), grouped(w):
		return open
	case ends && (titles[w[len(w)-1]] || w[len(w)-1] == "i"):
		return open // "Dr."
	case spelled(w):
		return neutral
	case ends:
		return closed
	case endsIn(w, mayGoOn):
		return open
	}
	return neutral
}

var prepositions = phraseSet("of", "with", "for", "from", "than", "as", "into", "without", "de", "von", "mit", "para")

// hangs reports that text ends with a mark after which more comes.
func hangs(t string) bool {
	return slices.ContainsFunc([]string{"…", "...", ",", "-", "–", "—", ":", ";", "，", "、"}, func(s string) bool { return strings.HasSuffix(t, s) })
}

// endsIn reports whether the last one to three words are a phrase of set.
func endsIn(w []string, set map[string]bool) bool {
	for n := min(3, len(w)); n > 0; n-- {
		if set[strings.Join(w[len(w)-n:], " ")] {
			return true
		}
	}
	return false
}

// grouped reports that a number said in groups is not complete: three digits
// said one by one, or one that is called a number and is shorter than any. Four
// and six are codes, ten and more a telephone's.
func grouped(w []string) bool {
	digits, tokens := 0, 0
	for _, t := range slices.Backward(w) {
		n := digitsIn(t)
		if n == 0 {
			break
		}
		digits, tokens = digits+n, tokens+1
	}
	switch {
	case tokens == 0:
		return false
	case slices.Contains(w, "number") || slices.Contains(w, "phone"):
		return digits < 4 || digits == 5 || digits > 6 && digits < 10
	}
	return tokens > 2 && (digits == 3 || digits == 5 || digits > 6 && digits < 10)
}

// spelled reports that text ends in letters said one by one.
func spelled(w []string) bool {
	n := len(w)
	return n > 1 && utf8.RuneCountInString(w[n-1]) == 1 && utf8.RuneCountInString(w[n-2]) == 1 &&
		digitsIn(w[n-1]) == 0
}

// digitsIn counts the digits in text, spoken ones included: "double five" is two.
func digitsIn(text string) int {
	n, times := 0, 1
	for _, w := range words(text) {
		switch w {
		case "double":
			times = 2
			continue
		case "triple":
			times = 3
			continue
		}
		if digitWords[w] {
			n += times
		}
		for _, r := range w {
			if unicode.IsDigit(r) {
				n += times
			}
		}
		times = 1
	}
	return n
}

// Digits by their words, in the languages whose words are no other word.
var digitWords = phraseSet("zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "nought",
	"null", "eins", "zwei", "zwo", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun",
	"cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve",
	"zéro", "deux", "trois", "quatre", "cinq", "sept", "huit", "neuf",
	"due", "quattro", "cinque", "sei", "sette", "otto", "nove", "dois", "sete", "oito", "twee", "drie", "vijf", "zes", "zeven", "negen")

// addressed reports how far a spoken or spelled e-mail address has got: whole
// means that a name, an at and a domain with its ending are there.
func addressed(text string) (begun, whole bool) {
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		domain := strings.TrimRight(text[i+1:], " .,")
		dot := strings.LastIndexByte(domain, '.')
		return true, dot > 0 && len(domain)-dot > 2 || spokenEnd(words(domain))
	}
	w := words(text)
	at := slices.Index(w, "at")
	if at < 0 {
		return slices.Contains(w, "dot"), false
	}
	return true, spokenEnd(w[at+1:]) || strings.Contains(strings.TrimRight(text, ". "), ".") && len(w) > at+2
}

// spokenEnd reports that a domain's words hold a dot with something behind it.
func spokenEnd(domain []string) bool {
	for _, dot := range []string{"dot", "point", "punkt", "punto"} {
		if i := slices.Index(domain, dot); i > 0 && i < len(domain)-1 {
			return true
		}
	}
	return false
}

var months = phraseSet("january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
	"november", "december", "januar", "februar", "märz", "mai", "juni", "juli", "oktober", "dezember")

var ordinals = phraseSet("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
	"twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth", "twentieth", "thirtieth")

// halfDate reports that text names a month without a day, or a day without a
// month, such as people pause behind.
func halfDate(text string) bool {
	month, day := false, false
	for _, w := range words(text) {
		month = month || months[w]
		day = day || ordinals[w] || strings.ContainsAny(w, "0123456789") || digitWords[w]
	}
	return month != day && !strings.ContainsAny(strings.TrimRight(text, ". "), "/-.")
}
