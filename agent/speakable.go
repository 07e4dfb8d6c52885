package agent

import (
	"regexp"
	"strings"
	"unicode"
)

// Patterns of written text that does not read aloud. Read-only.
var (
	fences      = regexp.MustCompile("(?s)```.*?(```|$)")
	images      = regexp.MustCompile(`!\[([^\]]*)\]\([^)]*\)`)
	links       = regexp.MustCompile(`\[([^\]]+)\]\(([^)]*)\)`)
	tags        = regexp.MustCompile(`</?[a-zA-Z][a-zA-Z0-9]*(\s[^<>]*)?/?>`)
	addresses   = regexp.MustCompile(`[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+`)
	urls        = regexp.MustCompile(`(?i)<?\b(?:https?://|www\.)[^\s<>"')\]]+>?`)
	rules       = regexp.MustCompile(`(?m)^[ \t]*([-*_=][ \t]*){3,}$`)
	headings    = regexp.MustCompile(`(?m)^[ \t]{0,3}#{1,6}[ \t]+`)
	quotes      = regexp.MustCompile(`(?m)^[ \t]*>+[ \t]?`)
	bullets     = regexp.MustCompile(`(?m)^[ \t]*[-*+•–][ \t]+(\[[ xX]\][ \t]+)?`)
	tableRules  = regexp.MustCompile(`(?m)^[ \t|:-]*\|[ \t|:-]*-[ \t|:-]*$\n?`)
	tableBars   = regexp.MustCompile(`[ \t]*\|[ \t]*`)
	emphasis    = regexp.MustCompile("\\*+|`+|~~|(^|[^\\pL\\pN])_+|_+($|[^\\pL\\pN])")
	lineEnds    = regexp.MustCompile(`([^\s.!?:;,…])[ \t]*\n\s*`)
	hashNumber  = regexp.MustCompile(`#(\d)`)
	between     = regexp.MustCompile(`(\d)\s*([+×*=])\s*(\d)`)
	ranges      = regexp.MustCompile(`(\d)\s*–\s*(\d)`)
	temperature = regexp.MustCompile(`°\s*([CF])\b`)
	orSlash     = regexp.MustCompile(`(\pL)/(\pL)`)
	gaps        = regexp.MustCompile(`\s+`)
	loneCommas  = regexp.MustCompile(`\s+([,.!?;:])`)
	manyCommas  = regexp.MustCompile(`,(\s*,)+`)
)

// signs are the symbols that voices skip or spell wrongly. Read-only.
var signs = strings.NewReplacer(
	"&amp;", " and ", "&lt;", " less than ", "&gt;", " greater than ", "&nbsp;", " ", "&", " and ", "%", " percent", "→", " to ", "⇒", " to ", "≥", " at least ", "≤", " at most ",
	"≈", " about ", "±", " plus or minus ", "×", " times ", "÷", " divided by ", "°", " degrees", "@", " at ", "=", " equals ",
	"™", "", "®", "", "©", "", "…", "...", "\u00a0", " ", "\u200b", "", "\ufeff", "", "\\", "",
)

// Speakable turns written text, as a model or an author makes it, into text
// that a voice can read: Markdown marks, links and emoji go, addresses and
// symbols become words, a line's end becomes a pause, code is left out. It
// keeps numbers, money and dates as they are, for the voice to read by
// language. Text that is speakable already comes back as it is, and text
// without anything to say gives "".
func Speakable(text string) string {
	s := strings.ToValidUTF8(text, "")
	s = strings.ReplaceAll(s, "\r\n", "\n")
	s = fences.ReplaceAllString(s, " ")
	s = images.ReplaceAllString(s, "$1")
	s = links.ReplaceAllString(s, "$1")
	s = addresses.ReplaceAllStringFunc(s, spokenMail)
	s = urls.ReplaceAllStringFunc(s, spokenURL)
	s = tags.ReplaceAllString(s, " ")
	s = rules.ReplaceAllString(s, "")
	s = tableRules.ReplaceAllString(s, "")
	s = headings.ReplaceAllString(s, "")
	s = quotes.ReplaceAllString(s, "")
	s = bullets.ReplaceAllString(s, "")
	s = tableBars.ReplaceAllString(s, ", ")
	s = lineEnds.ReplaceAllString(strings.TrimSpace(s), "$1. ")
	s = between.ReplaceAllStringFunc(s, func(m string) string {
		return strings.NewReplacer("+", " plus ", "×", " times ", "*", " times ", "=", " equals ").Replace(m)
	})
	s = emphasis.ReplaceAllString(s, "$1$2")
	s = strings.ReplaceAll(s, "_", " ")
	s = hashNumber.ReplaceAllString(s, "number $1")
	s = ranges.ReplaceAllString(s, "$1 to $2")
	s = temperature.ReplaceAllStringFunc(s, func(m string) string {
		if strings.HasSuffix(m, "C") {
			return " degrees Celsius"
		}
		return " degrees Fahrenheit"
	})
	s = orSlash.ReplaceAllString(s, "$1 or $2")
	s = signs.Replace(s)
	s = strings.Map(keepSpoken, s)
	s = manyCommas.ReplaceAllString(s, ",")
	s = loneCommas.ReplaceAllString(gaps.ReplaceAllString(s, " "), "$1")
	s = strings.TrimLeft(strings.TrimSpace(s), ",;. ")
	if !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) {
		return ""
	}
	return s
}

// keepSpoken drops emoji and other pictures, and what has no sound.
func keepSpoken(r rune) rune {
	switch {
	case r == '$' || r == '€' || r == '£' || r == '¥' || r == '+' || r == '<' || r == '>':
		return r
	case unicode.IsSpace(r):
		return ' '
	case unicode.Is(unicode.So, r), unicode.Is(unicode.Sk, r), unicode.Is(unicode.Sm, r),
		unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Co, r), r >= 0xfe00 && r <= 0xfe0f:
		return -1
	case strings.ContainsRune("#|[]{}^~`*", r):
		return -1
	}
	return r
}

// spokenMail reads an e-mail address: "ann.lee@example.com" gives
// "ann dot lee at example dot com".
func spokenMail(m string) string {
	return strings.NewReplacer("@", " at ", ".", " dot ", "_", " underscore ", "-", " dash ", "+", " plus ", "%", " percent ").Replace(m)
}

// spokenURL reads the host of a URL: the rest is for eyes.
func spokenURL(m string) string {
	m = strings.Trim(m, "<>")
	tail := ""
	if t := strings.TrimRight(m, ".,!?;:"); t != m {
		m, tail = t, m[len(t):]
	}
	if i := strings.Index(m, "://"); i >= 0 {
		m = m[i+3:]
	}
	if i := strings.IndexAny(m, "/?#"); i >= 0 {
		m = m[:i]
	}
	if i := strings.LastIndexByte(m, '@'); i >= 0 {
		m = m[i+1:]
	}
	m = strings.TrimPrefix(strings.ToLower(m), "www.")
	return strings.NewReplacer(".", " dot ", "-", " dash ", ":", " port ").Replace(m) + tail
}
