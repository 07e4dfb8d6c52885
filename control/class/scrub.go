package class

import (
	"regexp"
	"strings"
)

// A form is how something looks that does not belong into a free text.
type form struct {
	hint    []string // one of them is in every such text; none: a long word is
	pattern *regexp.Regexp
	instead string
	holds   func(string) bool // nil: whatever the pattern finds
}

// forms, secrets first: what they leave may still be personal. Vendors' forms
// are as their pages show them.
var forms = []form{
	{[]string{"-----BEGIN"}, regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*-----|$)`), "[secret]", nil},
	{[]string{"parley_"}, regexp.MustCompile(`\bparley_[a-z0-9]+_[A-Za-z0-9_.-]{8,}`), "[secret]", nil}, // ours, whatever they are for
	{[]string{"eyJ"}, regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)?`), "[secret]", nil},
	{[]string{"earer ", "EARER ", "asic ", "ASIC ", "oken "}, regexp.MustCompile(`(?i)\b(bearer|basic|token) +[A-Za-z0-9._~+/=-]{8,}`), "${1} [secret]", nil},
	{[]string{"://"}, regexp.MustCompile(`://[^/\s@"']+@`), "://[secret]@", nil},
	{[]string{"="}, regexp.MustCompile(`(?i)([?&;, ]|^)((?:api[_-]?|access[_-]?|auth[_-]?)?(?:key|token|secret|password|passwd|signature|sig|code))=[^&\s"';,]+`), "${1}${2}=[secret]", nil},
	{[]string{"/media/", "/sessions/"}, regexp.MustCompile(`/(media|sessions)/[A-Za-z0-9_.~-]{40,}`), "/${1}/[secret]", nil},
	{[]string{"sk-", "sk_", "pk_", "rk_"}, regexp.MustCompile(`\b[spr]k[-_][A-Za-z0-9_-]{16,}`), "[secret]", nil}, // OpenAI, ElevenLabs, Stripe
	{[]string{"hvs.", "hvb.", "hvr."}, regexp.MustCompile(`\bhv[sbr]\.[A-Za-z0-9_-]{16,}`), "[secret]", nil},      // Vault
	{[]string{"AKIA", "ASIA"}, regexp.MustCompile(`\bA[KS]IA[0-9A-Z]{16}\b`), "[secret]", nil},                    // AWS
	{[]string{"gh", "xox", "gsk_", "AIza"}, regexp.MustCompile(`\b(gh[pousr]_|xox[abeprs]-|gsk_|AIza)[A-Za-z0-9_-]{16,}`), "[secret]", nil},
	{nil, regexp.MustCompile(`\b(AC|SK)?[0-9a-f]{32}\b`), "[secret]", nil}, // Twilio: SIDs of accounts and keys, tokens
	{nil, regexp.MustCompile(`\b[0-9a-f]{40,}\b`), "[secret]", nil},        // Deepgram, and hashes
	{[]string{"@"}, regexp.MustCompile(`[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}`), "[personal]", nil},
	{[]string{"+"}, regexp.MustCompile(`\+[1-9][0-9]{6,14}\b`), "[personal]", nil}, // E.164
	{nil, regexp.MustCompile(`\b[0-9](?:[ -]?[0-9]){12,18}\b`), "[personal]", luhn},
}

// longWord is the shortest run of letters and digits that forms without a hint
// begin with; digits of cards may have blanks between them.
const longWord = 13

// Scrub masks what looks like a secret or a person in a free text, such as an
// error's. It is the second wall: what is known to be either has no place there.
func Scrub(s string) string {
	if len(s) < 8 {
		return s
	}
	long := hasLong(s)
	for _, f := range forms {
		if f.hint == nil && !long || f.hint != nil && !anyIn(s, f.hint) {
			continue
		}
		if f.holds == nil {
			s = f.pattern.ReplaceAllString(s, f.instead)
			continue
		}
		s = f.pattern.ReplaceAllStringFunc(s, func(found string) string {
			if f.holds(found) {
				return f.instead
			}
			return found
		})
	}
	return s
}

func anyIn(s string, hints []string) bool {
	for _, h := range hints {
		if strings.Contains(s, h) {
			return true
		}
	}
	return false
}

// hasLong tells whether s has so many hexadecimal digits on end, but for blanks
// and dashes.
func hasLong(s string) bool {
	run := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f':
			if run++; run >= longWord {
				return true
			}
		case c == ' ', c == '-':
		default:
			run = 0
		}
	}
	return false
}

// luhn tells whether the check digit of a card's number is right (ISO/IEC
// 7812-1, annex B).
func luhn(s string) bool {
	sum, n := 0, 0
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] < '0' || s[i] > '9' {
			continue
		}
		d := int(s[i] - '0')
		if n++; n%2 == 0 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}
