package flow

import (
	"regexp"
	"slices"
	"strings"
)

// A localText is one text, or one a locale.
type localText struct {
	any    template
	locale map[string]template
}

// localeTag is a language with an optional script and region (BCP 47).
var localeTag = regexp.MustCompile(`^[A-Za-z]{2}(-[A-Za-z0-9]{2,8})*$`)

// isLocales tells whether v is one text a locale: {"en-US": "…", "es": "…"}.
func isLocales(v any) bool {
	m, ok := v.(map[string]any)
	for k, e := range m {
		if _, text := e.(string); !text || !localeTag.MatchString(k) {
			return false
		}
	}
	return ok && len(m) > 0
}

func (c *compiler) localText(v any) localText {
	switch v := v.(type) {
	case string:
		return localText{any: parseTemplate(v, c.flow.bare)}
	case map[string]any:
		l := localText{locale: map[string]template{}}
		for _, k := range sortedKeys(v) {
			if s, ok := v[k].(string); ok {
				l.locale[k] = parseTemplate(s, c.flow.bare)
			}
		}
		return l
	}
	return localText{}
}

// localTexts reads a text, a text by locale, or a list of either.
func (c *compiler) localTexts(v any) []localText {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	var out []localText
	for _, e := range list {
		if l := c.localText(e); !l.empty() {
			out = append(out, l)
		}
	}
	return out
}

func (l localText) empty() bool { return l.any == nil && len(l.locale) == 0 }

// and returns l with more behind it.
func (l localText) and(more template) localText {
	if l.any != nil {
		return localText{any: append(slices.Clone(l.any), more...)}
	}
	out := localText{locale: map[string]template{}}
	for k, t := range l.locale {
		out.locale[k] = append(slices.Clone(t), more...)
	}
	return out
}

// each calls do for every template of l.
func (l localText) each(do func(template)) {
	if l.any != nil {
		do(l.any)
	}
	for _, k := range sortedKeys(l.locale) {
		do(l.locale[k])
	}
}

// in returns the text for a locale: exact, then its language, then any; nil if
// there is none.
func (l localText) in(locale, def string) template {
	if l.any != nil {
		return l.any
	}
	for _, want := range []string{locale, def} {
		for _, k := range sortedKeys(l.locale) {
			if strings.EqualFold(k, want) {
				return l.locale[k]
			}
		}
		lang, _, _ := strings.Cut(want, "-")
		for _, k := range sortedKeys(l.locale) {
			if kl, _, _ := strings.Cut(k, "-"); want != "" && strings.EqualFold(kl, lang) {
				return l.locale[k]
			}
		}
	}
	for _, k := range sortedKeys(l.locale) {
		return l.locale[k]
	}
	return nil
}

// locale is the language that the caller is spoken to in.
func (t *turn) locale() string { return text(t.s.Context["locale"]) }

// local fills in a text in the caller's language.
func (t *turn) local(l localText) string {
	if l.any != nil {
		return t.render(l.any)
	}
	return t.render(l.in(t.locale(), t.f.locale))
}

// phrasebook holds what the engine says of itself, where a document does not.
type phrasebook struct {
	sorry   string // an answer was not understood
	unsaid  string // the flow failed
	goodbye string
	confirm string // with {} for what was understood
}

// phrasebooks are by language. Read-only.
var phrasebooks = map[string]phrasebook{
	"en": {"Sorry, I didn't get that.", "Sorry, something went wrong.", "Goodbye.", "I heard {}. Is that right?"},
	"de": {"Entschuldigung, das habe ich nicht verstanden.", "Entschuldigung, da ist etwas schiefgegangen.", "Auf Wiederhören.", "Ich habe {} verstanden. Ist das richtig?"},
	"es": {"Perdón, no le he entendido.", "Lo siento, algo ha ido mal.", "Adiós.", "He entendido {}. ¿Es correcto?"},
	"fr": {"Désolé, je n'ai pas compris.", "Désolé, une erreur s'est produite.", "Au revoir.", "J'ai compris {}. Est-ce exact ?"},
	"it": {"Scusi, non ho capito.", "Mi dispiace, qualcosa è andato storto.", "Arrivederci.", "Ho capito {}. È giusto?"},
	"nl": {"Sorry, dat heb ik niet begrepen.", "Sorry, er ging iets mis.", "Tot ziens.", "Ik heb {} verstaan. Klopt dat?"},
	"pt": {"Desculpe, não entendi.", "Desculpe, algo correu mal.", "Adeus.", "Entendi {}. Está certo?"},
}

// phrasebook is that of the caller's language, else English.
func (t *turn) phrasebook() phrasebook {
	lang, _, _ := strings.Cut(strings.ToLower(t.locale()), "-")
	if p, ok := phrasebooks[lang]; ok {
		return p
	}
	return phrasebooks["en"]
}
