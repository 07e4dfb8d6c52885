package flow

import (
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxAnswer is the longest answer kept.
const maxAnswer = 16 << 10

// An answer is what an input came to.
type answer struct {
	value    any
	text     string   // what length and pattern are checked on
	outcomes []string // before "default"
	skip     bool     // nothing to store
}

func trimKeys(s string) string { return strings.TrimRight(strings.TrimSpace(s), "#") }

// claims tells whether the question itself takes an answer that a global would
// take too: its own option, or keys where it waits for keys.
func (t *turn) claims(n *node, in Input) bool {
	b := t.asked(n)
	if b == nil {
		return false
	}
	if t.s.System.Confirm != nil {
		if _, clear := yesNo(in.Text); clear || in.Mode == "dtmf" && (trimKeys(in.Text) == "1" || trimKeys(in.Text) == "2") {
			return true
		}
	}
	if _, ok := t.exactOption(t.choices(b), in); ok {
		return true
	}
	if in.Mode != "dtmf" {
		return false
	}
	switch b.typ {
	case "digits", "number", "phone", "date", "time", "yes_no":
		a, ok := t.read(b, in)
		return ok && t.valid(b, &a, in)
	}
	return false
}

// asked is the question that is open: the node's, or that of the slot that a
// listen node has asked for; nil if there is none.
func (t *turn) asked(n *node) *questionBody {
	switch b := n.body.(type) {
	case *questionBody:
		return b
	case *modelBody:
		if k := t.frame().Talk; k != nil && b.slot(k.Asked) != nil {
			return b.slot(k.Asked).q
		}
	}
	return nil
}

// read understands an input as the question's type.
func (t *turn) read(b *questionBody, in Input) (answer, bool) {
	s := strings.TrimSpace(in.Text)
	if len(s) > maxAnswer {
		return answer{}, false
	}
	if in.Mode == "dtmf" {
		s = trimKeys(s)
	}
	if s == "" {
		if !b.rules.optional {
			return answer{}, false
		}
		return answer{value: "", skip: b.typ != "text" && b.typ != "any"}, true
	}
	switch b.typ {
	case "choice", "buttons", "image_choice":
		return t.readChoice(b, in)
	case "multiple_choice":
		return t.readChoices(b, in)
	case "yes_no":
		return t.readYesNo(b, in)
	case "number", "slider":
		n, ok := readNumber(s, in)
		return answer{value: n, text: s}, ok
	}
	if a, i, ok := t.anyOption(b, in); ok && len(b.options) > 0 {
		return t.chosen(b, a, i), true
	}
	said, ok := readText(b.typ, s, in, t.ev.Time())
	return answer{value: said, text: said}, ok
}

var email = regexp.MustCompile(`^[^\s@<>()\[\],;:"]+@([A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}$`)

// readText checks the form of an answer that is kept as text. What was spoken
// or keyed is written as a person would type it.
func readText(typ, s string, in Input, now time.Time) (string, bool) {
	heard := in.Mode == "speech"
	switch typ {
	case "email":
		if heard || !strings.Contains(s, "@") {
			if a := spokenAddress(s); email.MatchString(a) {
				return a, true
			}
		}
		return s, email.MatchString(s) && len(s) <= 254
	case "phone":
		d, ok := spokenDigits(strings.TrimPrefix(s, "+"))
		if !ok || len(d) < 7 || len(d) > 15 {
			return s, false
		}
		if heard || in.Mode == "dtmf" {
			return d, true
		}
		return s, true
	case "url":
		return readURL(s, heard)
	case "digits":
		return spokenDigits(s)
	case "date":
		return readDate(s, in, now)
	case "time":
		return readTime(s, in)
	}
	return s, true
}

func readURL(s string, heard bool) (string, bool) {
	if heard {
		s = spokenAddress(strings.ReplaceAll(strings.ToLower(s), "slash", "/"))
	}
	full := s
	if !strings.Contains(s, "://") {
		full = "https://" + s
	}
	u, err := url.Parse(full)
	ok := err == nil && (u.Scheme == "http" || u.Scheme == "https") && strings.Contains(strings.Trim(u.Hostname(), "."), ".") && !strings.ContainsAny(s, " \t")
	return s, ok
}

// readNumber reads figures, or words if there is exactly one number in them.
func readNumber(s string, in Input) (json.Number, bool) {
	plain := s
	if grouped.MatchString(s) {
		plain = strings.ReplaceAll(s, ",", "")
	}
	if in.Mode == "dtmf" {
		plain = strings.ReplaceAll(plain, "*", ".")
	}
	plain = strings.TrimSuffix(plain, ".")
	if n, ok := parseNumber(plain); ok {
		return n, true
	}
	if isDigits(plain) {
		return parseNumber(strings.TrimLeft(plain[:len(plain)-1], "0") + plain[len(plain)-1:])
	}
	if in.Mode == "speech" {
		return spokenNumber(s)
	}
	w := words(s) // typed: nothing but the number
	if n, used := numberAt(w); used > 0 && used == len(w) && !strings.ContainsAny(s, "0123456789") {
		return n, true
	}
	return "", false
}

var grouped = regexp.MustCompile(`^-?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?$`)

// valid applies the rules. Where speech was written with blanks or a full
// stop that a pattern refuses, it tries what the caller meant.
func (t *turn) valid(b *questionBody, a *answer, in Input) bool {
	r := &b.rules
	if a.skip || a.value == "" && r.optional {
		return true
	}
	if n, ok := a.value.(json.Number); ok {
		if r.min != nil && compareNumbers(n, *r.min) < 0 || r.max != nil && compareNumbers(n, *r.max) > 0 {
			return false
		}
	} else if !inRange(b, a) {
		return false
	}
	if !r.fits(a.text) {
		s, isText := a.value.(string)
		if !isText || in.Mode != "speech" {
			return false
		}
		meant := strings.TrimRight(s, ".?!, ")
		if joined, ok := spelled(meant); ok && !r.fits(meant) {
			meant = joined
		}
		if !r.fits(meant) {
			return false
		}
		a.value, a.text = meant, meant
	}
	if r.expr == nil {
		return true
	}
	v, err := t.eval(r.expr, map[string]any{"value": a.value})
	if err != nil {
		t.warn("expression " + r.expr.source + " has no value")
	}
	return v == true
}

// fits checks length and pattern.
func (r *rules) fits(s string) bool {
	n := utf8.RuneCountInString(s)
	if r.minLen > 0 && n < r.minLen || r.maxLen > 0 && n > r.maxLen {
		return false
	}
	return r.pattern == nil || r.pattern.MatchString(s)
}

// inRange checks min and max of a date or time, and the count of a list.
func inRange(b *questionBody, a *answer) bool {
	if list, ok := a.value.([]any); ok {
		n := json.Number(strconv.Itoa(len(list)))
		return (b.rules.min == nil || compareNumbers(n, *b.rules.min) >= 0) && (b.rules.max == nil || compareNumbers(n, *b.rules.max) <= 0)
	}
	if s, ok := a.value.(string); ok && (b.typ == "date" || b.typ == "time") {
		return (b.rules.minText == "" || s >= b.rules.minText) && (b.rules.maxText == "" || s <= b.rules.maxText)
	}
	return true
}

// readChoice matches one option.
func (t *turn) readChoice(b *questionBody, in Input) (answer, bool) {
	if len(b.options) == 0 && b.dynamic == nil {
		return answer{value: in.Text, text: in.Text}, true
	}
	o, i, ok := t.anyOption(b, in)
	if !ok {
		return answer{}, false
	}
	return t.chosen(b, o, i), true
}

func (t *turn) chosen(b *questionBody, o option, i int) answer {
	a := answer{value: t.stored(b, o), text: text(o.value), outcomes: []string{"$" + strconv.Itoa(i)}}
	if s := text(o.value); s != "" {
		a.outcomes = append(a.outcomes, s)
	}
	return a
}

func (t *turn) stored(b *questionBody, o option) any {
	if b.whole {
		return o.raw
	}
	return o.value
}

// readChoices matches a list of options, parted by commas or "and".
func (t *turn) readChoices(b *questionBody, in Input) (answer, bool) {
	var parts []string
	if v, err := decodeValue([]byte(in.Text)); err == nil {
		if list, ok := v.([]any); ok {
			for _, e := range list {
				parts = append(parts, text(e))
			}
		}
	}
	if parts == nil {
		if o, i, ok := t.exactIndex(t.choices(b), in); ok {
			a := t.chosen(b, o, i)
			a.value = []any{a.value}
			return a, true
		}
		parts = listParts.Split(in.Text, -1)
	}
	if in.Mode == "dtmf" {
		parts = strings.Split(strings.Join(strings.FieldsFunc(in.Text, func(r rune) bool { return r == '*' || r == '#' }), ""), "")
	}
	list, seen := []any{}, map[int]bool{}
	for _, p := range parts {
		if strings.TrimSpace(p) == "" {
			continue
		}
		o, i, ok := t.anyOption(b, Input{Text: p, Mode: in.Mode})
		if !ok {
			return answer{}, false
		}
		if !seen[i] {
			list, seen[i] = append(list, t.stored(b, o)), true
		}
	}
	return answer{value: list, text: in.Text}, len(list) > 0
}

var listParts = regexp.MustCompile(`(?i)\s*[,;\n]\s*(?:and\s+)?|\s+(?:and|y|&)\s+`)

func (t *turn) readYesNo(b *questionBody, in Input) (answer, bool) {
	yes, ok := false, false
	if o, i, found := t.exactIndex(t.choices(b), in); found {
		yes, ok = i == 0, true
		if v, isBool := o.value.(bool); isBool {
			yes = v
		} else if y, clear := yesNo(text(o.value)); clear {
			yes = y
		}
	} else if key := trimKeys(in.Text); in.Mode == "dtmf" {
		yes, ok = key == "1", key == "1" || key == "2"
	} else {
		yes, ok = yesNo(in.Text)
	}
	a := answer{value: yes, text: in.Text, outcomes: []string{"$1", "no", "false"}}
	if yes {
		a.outcomes = []string{"$0", "yes", "true"}
	}
	return a, ok
}

func (t *turn) exactOption(list []option, in Input) (option, bool) {
	o, _, ok := t.exactIndex(list, in)
	return o, ok
}

// exactIndex finds the option that an input names in full.
func (t *turn) exactIndex(list []option, in Input) (option, int, bool) {
	if in.Mode == "dtmf" {
		key := trimKeys(in.Text)
		for i, o := range list {
			if o.dtmf != "" && o.dtmf == key {
				return o, i, true
			}
		}
		return option{}, 0, false
	}
	s := strings.TrimSpace(in.Text)
	for i, o := range list {
		if s != "" && (s == text(o.value) || s == t.local(o.label)) {
			return o, i, true
		}
	}
	said := plainWords(s)
	for i, o := range list {
		if said != "" && slices.Contains(t.names(o), said) {
			return o, i, true
		}
	}
	for i, o := range list {
		if o.dtmf != "" && o.dtmf == s {
			return o, i, true
		}
	}
	return option{}, 0, false
}

// names lists the words by which an option may be called.
func (t *turn) names(o option) []string {
	out := []string{plainWords(text(o.value)), plainWords(t.local(o.label))}
	for _, s := range o.say {
		out = append(out, plainWords(s))
	}
	return slices.DeleteFunc(out, func(s string) bool { return s == "" })
}

// anyOption finds the option that an input means: named in full, by number or
// place, but for fillers, or as the only one named within a sentence.
func (t *turn) anyOption(b *questionBody, in Input) (option, int, bool) {
	list := t.choices(b)
	if o, i, ok := t.exactIndex(list, in); ok {
		return o, i, true
	}
	if len(list) == 0 {
		return option{}, 0, false
	}
	if in.Mode == "dtmf" {
		return byPlace(list, trimKeys(in.Text))
	}
	said := dropFillers(words(in.Text))
	for i, o := range list {
		for _, name := range t.names(o) {
			if slices.Equal(dropFillers(strings.Fields(name)), said) {
				return o, i, true
			}
		}
	}
	if o, i, ok := byNumber(list, in.Text); ok {
		return o, i, true
	}
	if in.Mode == "speech" || in.Mode == "" || len(words(in.Text)) > 1 {
		return t.within(list, in.Text)
	}
	return option{}, 0, false
}

// byPlace takes the n-th option where no option has a key of its own.
func byPlace(list []option, key string) (option, int, bool) {
	if slices.ContainsFunc(list, func(o option) bool { return o.dtmf != "" }) {
		return option{}, 0, false
	}
	if n, err := strconv.Atoi(key); err == nil && n >= 1 && n <= len(list) {
		return list[n-1], n - 1, true
	}
	return option{}, 0, false
}

// byNumber finds an option by its place ("the second one"), or by a number in
// words that is its value, its key or its place.
func byNumber(list []option, said string) (option, int, bool) {
	w := words(said)
	if len(w) > 5 {
		return option{}, 0, false
	}
	for _, s := range w {
		n, ok := ordinals[s]
		if n == -1 {
			n = len(list)
		}
		if ok && n >= 1 && n <= len(list) {
			return list[n-1], n - 1, true
		}
	}
	n, ok := spokenNumber(said)
	if !ok {
		return option{}, 0, false
	}
	for i, o := range list {
		if v, ok := numeric(o.value, true); ok && compareNumbers(v, n) == 0 || o.dtmf == string(n) {
			return o, i, true
		}
	}
	if slices.ContainsFunc(list, func(o option) bool { _, ok := numeric(o.value, true); return ok }) {
		return option{}, 0, false
	}
	return byPlace(list, string(n))
}

// within finds the only option that is named in a sentence. A name within
// another ("coffee" in "iced coffee") gives way to it.
func (t *turn) within(list []option, said string) (option, int, bool) {
	sentence := " " + plainWords(said) + " "
	longest := make([]string, len(list))
	best := 0
	for i, o := range list {
		for _, name := range t.names(o) {
			if utf8.RuneCountInString(name) > 1 && len(name) > len(longest[i]) && strings.Contains(sentence, " "+name+" ") {
				longest[i] = name
			}
		}
		if len(longest[i]) > len(longest[best]) {
			best = i
		}
	}
	if longest[best] == "" {
		return option{}, 0, false
	}
	for i, name := range longest {
		if i != best && (name == longest[best] || !strings.Contains(" "+longest[best]+" ", " "+name+" ")) && name != "" {
			return option{}, 0, false
		}
	}
	return list[best], best, true
}
