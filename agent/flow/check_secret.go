package flow

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// secretForms are tokens that must not stand in a document in clear.
var secretForms = regexp.MustCompile(`\b(sk-[A-Za-z0-9_-]{16,}|[sr]k_(live|test)_[A-Za-z0-9]{16,}|A[KS]IA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{20,}|xox[abeprs]-[A-Za-z0-9-]{10,}|AIza[0-9A-Za-z_-]{30,}|SK[0-9a-f]{32}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|parley_[A-Za-z0-9]{12}_[A-Za-z0-9_-]{40,}|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{5,})|-----BEGIN [A-Z ]*PRIVATE KEY-----`)

// credentials are headers whose value is always a secret.
var credentials = map[string]bool{
	"authorization": true, "proxy-authorization": true, "x-api-key": true, "api-key": true, "apikey": true,
	"x-auth-token": true, "x-access-token": true, "cookie": true,
}

// names of fields whose texts are identifiers, patterns or for people: no secret
// is looked for by its randomness.
var plainFields = map[string]bool{
	"id": true, "node_id": true, "target": true, "source": true, "then": true, "else": true, "entry": true, "on_hangup": true,
	"content_id": true, "flow": true, "flow_id": true, "composite_flow_id": true, "experiment": true, "pattern": true,
	"if": true, "expr": true, "expression": true, "note": true, "description": true,
}

// secrets walks the document for secrets in clear, and for references to
// secrets where they would be seen.
func (k *checker) secrets(doc any) {
	eachText(doc, "", "", "", func(s, ptr, key, parent string) bool {
		if clearSecret(s, key, parent) {
			k.add(SeverityError, ptr, "secret-in-clear", "this looks like a secret", "store it as a secret and write {secret:name}")
		}
		if parseTemplate(s, k.f.bare).secrets() && !sent(ptr) && key != "note" && key != "description" && !k.reported("secret-", ptr) {
			k.add(SeverityError, ptr, "secret-in-message", "a secret would be shown to the caller", "remove the {secret:…} reference")
		}
		return true
	})
}

// eachText calls visit with every text of a JSON value but for a flow's tests, the
// folded name of its field and of the one around that, until it returns false.
func eachText(v any, ptr, key, parent string, visit func(s, ptr, key, parent string) bool) bool {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range sortedKeys(v) {
			if ptr == "" && name == "tests" {
				continue
			}
			if !eachText(v[name], ptr+"/"+escapePointer(name), fold(name), key, visit) {
				return false
			}
		}
	case []any:
		for i, e := range v {
			if !eachText(e, ptr+"/"+strconv.Itoa(i), key, parent, visit) {
				return false
			}
		}
	case string:
		return visit(v, ptr, key, parent)
	}
	return true
}

// SecretIn returns the JSON Pointer of the first text of a document that a flow
// would not be published with, or of the first object that has a token for the
// name of a field. doc is of encoding/json.
func SecretIn(doc any) (ptr string, found bool) {
	if ptr, found = tokenName(doc, ""); found {
		return ptr, true
	}
	eachText(doc, "", "", "", func(s, at, key, parent string) bool {
		if found = clearSecret(s, key, parent); found {
			ptr = at
		}
		return !found
	})
	return ptr, found
}

// tokenName finds an object with a token among its names.
func tokenName(v any, ptr string) (string, bool) {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range sortedKeys(v) {
			if HasToken(name) {
				return ptr, true
			}
			if at, ok := tokenName(v[name], ptr+"/"+escapePointer(name)); ok {
				return at, true
			}
		}
	case []any:
		for i, e := range v {
			if at, ok := tokenName(e, ptr+"/"+strconv.Itoa(i)); ok {
				return at, true
			}
		}
	}
	return "", false
}

// sentFields are the places of a call where a secret may stand.
var sentFields = regexp.MustCompile(`^/nodes/.*/(headers|body|payload|query_params|auth|token)(/|$)`)

func sent(ptr string) bool { return sentFields.MatchString(ptr) }

func clearSecret(s, key, parent string) bool {
	bare := !strings.Contains(s, "{")
	switch {
	case secretForms.MatchString(s):
		return true
	case bare && len(s) > 20 && strings.HasPrefix(fold(s), "bearer "):
		return true
	case bare && s != "" && parent == "headers" && credentials[key]:
		return true
	case plainFields[key] || strings.HasPrefix(s, "data:"):
		return false
	}
	if u, err := url.Parse(s); err == nil && u.Host != "" { // paths are full of names that machines made up
		if pw, ok := u.User.Password(); ok && pw != "" && bare {
			return true
		}
		s = u.RawQuery
	}
	for _, word := range strings.FieldsFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("+/_=-", r)
	}) {
		if random(word) {
			return true
		}
	}
	return false
}

var uuidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)

// random tells whether a word is long and changes between small letters, capitals and
// figures as often as chance has it: a random word of all three does so at 62 of 100
// letters, one of small letters and figures at 40, words of people, CamelCase and
// dates at fewer than 35 and 20.
func random(word string) bool {
	if len(word) < 20 || uuidForm.MatchString(word) {
		return false
	}
	var count [3]int
	changes, letters, last := 0, 0, -1
	for _, r := range word {
		class := -1
		switch {
		case r >= 'a' && r <= 'z':
			class = 0
		case r >= 'A' && r <= 'Z':
			class = 1
		case r >= '0' && r <= '9':
			class = 2
		default:
			continue
		}
		if last >= 0 && class != last {
			changes++
		}
		count[class]++
		letters++
		last = class
	}
	share := float64(changes) / float64(max(letters, 1))
	switch {
	case count[2] == 0 || count[0]+count[1] == 0:
		return false
	case count[0] > 0 && count[1] > 0:
		return letters >= 20 && share >= 0.4
	}
	return letters >= 24 && count[2] >= 4 && share >= 0.25
}

// LooksSecret tells whether a text holds what looks like a token, a key or a
// password: a known form, or a word that only a machine makes up.
func LooksSecret(text string) bool { return clearSecret(text, "", "") }

// HasToken tells whether a text holds a token of a known form. Names that
// machines make up, such as those of voices, do not count.
func HasToken(text string) bool { return secretForms.MatchString(text) }
