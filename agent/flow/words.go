package flow

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// words splits what a person said into lower-case words without punctuation.
func words(s string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\'' && r != '’' && !unicode.IsMark(r)
	})
}

func plainWords(s string) string { return strings.Join(words(s), " ") }

// fillers say nothing of what is wanted.
var fillers = map[string]bool{
	"please": true, "um": true, "uh": true, "er": true, "erm": true, "hmm": true, "well": true, "so": true, "okay": true,
	"ok": true, "oh": true, "hi": true, "hello": true, "hey": true, "just": true, "actually": true, "thanks": true,
	"i": true, "i'd": true, "i'll": true, "i'm": true, "want": true, "would": true, "like": true, "to": true, "can": true, "could": true,
	"you": true, "me": true, "have": true, "get": true, "take": true, "need": true, "the": true, "a": true, "an": true,
	"my": true, "one": true, "option": true, "number": true, "let's": true, "it's": true, "is": true, "that": true, "go": true, "with": true, "for": true,
}

// bare drops fillers from the words, but not all of them.
func dropFillers(w []string) []string {
	out := slices.DeleteFunc(slices.Clone(w), func(s string) bool { return fillers[s] })
	if len(out) == 0 {
		return w
	}
	return out
}

// asksFor tells whether an utterance asks for phrase: the same but for
// fillers, or short and with a phrase of several words within.
func asksFor(said, phrase string) bool {
	if strings.Join(dropFillers(strings.Fields(said)), " ") == strings.Join(dropFillers(strings.Fields(phrase)), " ") {
		return true
	}
	n := strings.Count(phrase, " ") + 1
	return n > 1 && strings.Count(said, " ")+1 <= n+5 && strings.Contains(" "+said+" ", " "+phrase+" ")
}

var units = map[string]int64{
	"zero": 0, "oh": 0, "nought": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
	"ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17,
	"eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70,
	"eighty": 80, "ninety": 90, "couple": 2, "dozen": 12,
	"cero": 0, "uno": 1, "una": 1, "dos": 2, "tres": 3, "cuatro": 4, "cinco": 5, "seis": 6, "siete": 7, "ocho": 8, "nueve": 9, "diez": 10,
}

var scales = map[string]int64{"hundred": 100, "thousand": 1000, "million": 1_000_000, "billion": 1_000_000_000}

var ordinals = map[string]int{
	"first": 1, "1st": 1, "second": 2, "2nd": 2, "third": 3, "3rd": 3, "fourth": 4, "4th": 4, "fifth": 5, "5th": 5,
	"sixth": 6, "6th": 6, "seventh": 7, "7th": 7, "eighth": 8, "8th": 8, "ninth": 9, "9th": 9, "tenth": 10, "10th": 10,
	"last": -1, "primero": 1, "primera": 1, "segundo": 2, "segunda": 2, "tercero": 3, "tercera": 3,
}

// spokenNumber reads the longest number said in words, figures or both, as in
// "minus twenty five point five". It fails if there is none or more than one.
func spokenNumber(s string) (json.Number, bool) {
	var found []json.Number
	w := words(strings.ReplaceAll(strings.ReplaceAll(s, "-", " minus "), ".", " point "))
	for i := 0; i < len(w); {
		n, used := numberAt(w[i:])
		if used == 0 {
			i++
			continue
		}
		found = append(found, n)
		i += used
	}
	if len(found) != 1 {
		return "", false
	}
	return found[0], true
}

// numberAt reads a number at the start of w and tells how many words it took.
func numberAt(w []string) (json.Number, int) {
	i, sign := 0, ""
	if len(w) > 1 && (w[0] == "minus" || w[0] == "negative") {
		i, sign = 1, "-"
	}
	whole, used := wholeAt(w[i:])
	if used == 0 {
		return "", 0
	}
	i += used
	out := sign + strconv.FormatInt(whole, 10)
	if i+1 < len(w) && w[i] == "point" {
		if frac := digitWords(w[i+1:]); frac != "" {
			out += "." + frac
			i += 1 + len(frac)
			for i < len(w) && isDigits(w[i]) {
				i++
			}
		}
	}
	n, ok := number(json.Number(out))
	if !ok {
		return "", 0
	}
	return n, min(i, len(w))
}

// wholeAt reads a whole number; "a" counts as one before a scale.
func wholeAt(w []string) (int64, int) {
	var total, part, last int64
	used := 0
	last = 1000 // the value of the word before: a smaller one may follow
	for i, s := range w {
		v, ok := units[s]
		if isDigits(s) && len(s) <= 15 {
			v, _ = strconv.ParseInt(s, 10, 64)
			ok = true
		}
		switch {
		case ok && i > 0 && used < i && s == "oh":
			return total + part, used
		case ok && (part == 0 && last >= 100 || last >= 20 && last < 100 && v < 10 && v > 0 || last == 100 && v < 100):
			part += v
			last = max(v, 1)
		case ok:
			return total + part, used
		case scales[s] > 0 && used > 0 && scales[s] == 100 && part < 100:
			part, last = max(part, 1)*100, 100
		case scales[s] > 0 && (used > 0 || i > 0) && part < 1_000_000 && scales[s] > 100:
			total, part, last = total+max(part, 1)*scales[s], 0, 1000
		case s == "hundred" && i == 1:
			part, last = 100, 100
		case s == "a" && i == 0 && len(w) > 1 && (scales[w[1]] > 0 || units[w[1]] > 1):
			continue
		case s == "and" && used > 0 && i+1 < len(w) && last >= 100:
			continue
		default:
			return total + part, used
		}
		used = i + 1
	}
	return total + part, used
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// digitWords joins single digits said one after another, until another word.
func digitWords(w []string) string {
	var b strings.Builder
	for _, s := range w {
		v, ok := units[s]
		switch {
		case isDigits(s):
			b.WriteString(s)
		case ok && v < 10:
			b.WriteString(strconv.FormatInt(v, 10))
		default:
			return b.String()
		}
	}
	return b.String()
}

// spokenDigits reads digits: keyed, written in groups, or said one by one with
// "double" and "triple". It fails if anything else was said but fillers.
func spokenDigits(s string) (string, bool) {
	var b strings.Builder
	times := 1
	for _, w := range words(s) {
		v, known := units[w]
		var d string
		switch {
		case isDigits(w):
			d = w
		case w == "double" || w == "triple":
			times = map[string]int{"double": 2, "triple": 3}[w]
			continue
		case w == "o":
			d = "0"
		case known:
			d = strconv.FormatInt(v, 10)
		case fillers[w] || w == "and" || w == "it's" || w == "dash":
			continue
		default:
			return "", false
		}
		b.WriteString(strings.Repeat(d, times))
		times = 1
	}
	return b.String(), b.Len() > 0
}

// spokenAddress writes "john at example dot com" as an address.
func spokenAddress(s string) string {
	s = strings.TrimRight(strings.TrimSpace(s), ".?!,")
	if strings.Contains(s, "@") && !strings.ContainsAny(s, " \t") {
		return s
	}
	signs := map[string]string{
		"at": "@", "dot": ".", "point": ".", "period": ".", "underscore": "_", "dash": "-", "hyphen": "-", "minus": "-", "plus": "+",
		"arroba": "@", "punto": ".",
	}
	var b strings.Builder
	for _, w := range strings.Fields(strings.ToLower(s)) {
		if w = strings.Trim(w, ",;"); signs[w] != "" {
			w = signs[w]
		} else if v, ok := units[w]; ok && v < 10 {
			w = strconv.FormatInt(v, 10)
		}
		b.WriteString(w)
	}
	return b.String()
}

// spelled joins single letters said one by one: "A D A" is "ADA".
func spelled(s string) (string, bool) {
	f := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '.' || r == ',' || r == '-' })
	if len(f) < 2 {
		return "", false
	}
	for _, w := range f {
		if len([]rune(w)) != 1 {
			return "", false
		}
	}
	return strings.Join(f, ""), true
}

var yesWords = []string{
	"yes", "yeah", "yep", "yup", "ya", "yes it is", "yes please", "yes i do", "yes i am", "sure", "of course", "absolutely", "definitely", "certainly",
	"correct", "that's correct", "that is correct", "right", "that's right", "that is right", "all right", "alright", "okay", "ok", "affirmative", "exactly", "true", "indeed", "go ahead", "sounds good", "please do", "y",
	"sí", "si", "sí es correcto", "claro", "correcto", "por supuesto", "vale",
	"ja", "ja bitte", "genau", "richtig", "stimmt", "das stimmt", "oui", "exact", "c'est exact", "d'accord", "sì", "esatto", "giusto", "klopt", "dat klopt", "sim", "certo", "está certo",
}

var noWords = []string{
	"no", "nope", "nah", "no thanks", "no thank you", "not really", "no way", "never", "negative", "incorrect", "that's wrong", "that is wrong",
	"wrong", "not right", "that's not right", "that is not right", "not correct", "that's not correct", "it is not", "it's not", "no it isn't", "i don't", "no i don't", "don't", "do not", "false", "n", "not", "not now",
	"claro que no", "para nada", "no gracias",
	"nein", "nein danke", "falsch", "das stimmt nicht", "non", "non merci", "ce n'est pas ça", "no grazie", "nee", "nee dank je", "não", "nao", "não obrigado",
}

// yesNo reads an agreement or a refusal. What says both is neither.
func yesNo(s string) (yes, ok bool) {
	said := plainWords(strings.ReplaceAll(s, "’", "'"))
	if slices.Contains(noWords, said) {
		return false, true
	}
	if slices.Contains(yesWords, said) {
		return true, true
	}
	w := words(said)
	if len(w) == 0 || len(w) > 8 {
		return false, false
	}
	no := slices.ContainsFunc(w, func(s string) bool {
		return s == "no" || s == "nope" || s == "nah" || s == "not" || strings.HasSuffix(s, "n't")
	})
	yea := slices.ContainsFunc(w, func(s string) bool {
		switch s {
		case "yes", "yeah", "yep", "yup", "sure", "correct", "right", "sí", "absolutely", "definitely":
			return true
		}
		return false
	})
	return yea, yea != no
}
