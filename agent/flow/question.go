package flow

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// questionBody is a compiled question.
type questionBody struct {
	messages []messageTemplate
	typ      string
	variable *ref
	options  []option
	dynamic  *ref // options from a variable
	rules    rules
	retries  int  // bad answers asked again; -1 for no limit
	whole    bool // store the option's object, not its value
	model    bool // a language model may tell which option is meant
	use      []ModelChoice
}

// rules are a question's validation.
type rules struct {
	raw      json.RawMessage
	optional bool
	pattern  *regexp.Regexp
	min, max *json.Number
	minLen   int
	maxLen   int
	message  localText
	expr     *expression
	minText  string // of dates and times
	maxText  string
}

// option is one choice, with what the document says of it.
type option struct {
	label localText
	value any
	dtmf  string
	say   []string
	raw   any
}

var inputTypes = map[string]bool{
	"text": true, "number": true, "email": true, "phone": true, "url": true, "date": true, "time": true, "choice": true,
	"buttons": true, "multiple_choice": true, "yes_no": true, "digits": true, "slider": true, "image_choice": true, "file": true, "any": true,
}

func compileQuestion(c *compiler, n *node) any {
	b := &questionBody{typ: fold(str(n.content["input_type"])), retries: -1}
	if b.typ == "" {
		b.typ = "text"
		if n.content["options"] != nil {
			b.typ = "choice"
		}
	}
	if b.typ == "button" {
		b.typ = "buttons"
	}
	if !inputTypes[b.typ] {
		c.problem("error", n.at+"/input_type", "unknown-value", fmt.Sprintf("there is no input type %q", b.typ), "use one of "+strings.Join(sortedKeys(inputTypes), ", "))
		b.typ = "any"
	}
	b.messages = c.said(n, "question", "text", "prompt")
	if v := n.content["messages"]; v != nil {
		b.messages = append(c.messages(v, n.at+"/messages"), b.messages...)
	}
	if len(b.messages) == 0 {
		c.problem("warning", n.at, "empty-question", "the question asks nothing", "add \"question\"")
	}
	b.variable = c.target(n.content["variable"], n.at+"/variable")
	if v, ok := n.content["model"]; ok {
		b.model, b.use = v != false && v != nil, modelChoices(v)
	}
	if len(b.use) == 0 {
		b.use = c.use
	}
	c.options(b, n)
	if boolean(n.content["must_hear"]) {
		n.voice.BargeIn = BargeIn{Off: true}
	}
	c.rules(&b.rules, n)
	if r, ok := integer(n.content["max_retries"]); ok && r >= 0 {
		b.retries = r
	}
	switch fold(str(n.content["store"])) {
	case "option":
		b.whole = true
	case "value":
	default:
		b.whole = b.typ == "choice" || b.typ == "buttons" || b.typ == "image_choice"
	}
	return b
}

// target reads the name of a variable to be written.
func (c *compiler) target(v any, ptr string) *ref {
	name := strings.TrimSpace(strings.Trim(str(v), "{} "))
	if name == "" {
		return nil
	}
	if !isName(name, true) {
		c.problem("error", ptr, "bad-reference", fmt.Sprintf("%q is no variable", name), "write a name such as user_name or user.name")
		return nil
	}
	r := parseRef(name, c.flow.bare)
	if r.secret != "" || !writable[r.scope] {
		c.problem("error", ptr, "read-only", fmt.Sprintf("%q may not be written", name), "write to variables, user, temp, local or output")
	} else if len(r.path) == 0 {
		c.problem("error", ptr, "bad-reference", fmt.Sprintf("%q is a whole scope", name), "add a name: "+name+".value")
	}
	return &r
}

func (c *compiler) options(b *questionBody, n *node) {
	switch v := n.content["options"].(type) {
	case string:
		if r := parseTemplate(v, c.flow.bare).single(); r != nil {
			b.dynamic = r
		}
	case []any:
		for _, e := range v {
			b.options = append(b.options, readOption(e, c.flow.bare))
		}
	}
	if len(b.options) == 0 && b.dynamic == nil && (b.typ == "choice" || b.typ == "buttons" || b.typ == "multiple_choice" || b.typ == "image_choice") {
		c.problem("error", n.at+"/options", "missing-field", "the choice has no options", "add \"options\"")
	}
}

func readOption(v any, bare string) option {
	m, ok := v.(map[string]any)
	if !ok {
		return option{label: localText{any: parseTemplate(text(v), bare)}, value: v, raw: v}
	}
	label := ""
	for _, k := range []string{"label", "text", "title", "alt", "value"} {
		if label = text(m[k]); label != "" {
			break
		}
	}
	o := option{label: localText{any: parseTemplate(label, bare)}, value: m["value"], dtmf: text(m["dtmf"]), raw: m}
	if isLocales(m["label"]) {
		o.label = (&compiler{flow: &Flow{bare: bare}}).localText(m["label"])
		label = text(o.value)
	}
	if o.value == nil {
		if o.value = m["payload"]; o.value == nil {
			o.value = label
		}
	}
	o.say = texts(m["say"])
	for _, k := range []string{"text", "label", "title"} {
		if s := str(m[k]); s != "" && s != label {
			o.say = append(o.say, s)
		}
	}
	return o
}

func (c *compiler) rules(r *rules, n *node) {
	v, ok := n.content["validation"].(map[string]any)
	if !ok {
		return
	}
	at := n.at + "/validation"
	r.raw = rawJSON(v)
	if req, ok := v["required"].(bool); ok {
		r.optional = !req
	}
	if p := str(v["pattern"]); p != "" {
		re, err := regexp.Compile(p)
		if err != nil {
			c.problem("error", at+"/pattern", "bad-pattern", err.Error(), "write a pattern of RE2 (no look-around, no back references)")
		}
		r.pattern = re
	}
	if x, ok := numeric(v["min"], true); ok {
		r.min = &x
	} else {
		r.minText = str(v["min"])
	}
	if x, ok := numeric(v["max"], true); ok {
		r.max = &x
	} else {
		r.maxText = str(v["max"])
	}
	r.minLen, _ = integer(v["min_length"])
	r.maxLen, _ = integer(v["max_length"])
	r.message = c.localText(v["error_message"])
	r.message.each(func(t template) {
		if t.secrets() {
			c.problem("error", at+"/error_message", "secret-in-message", "a secret would be shown to the caller", "remove the {secret:…} reference")
		}
	})
	if s := str(v["expr"]); s != "" {
		e, err := compileCEL(s, c.flow.bare)
		if err != nil {
			c.problem("error", at+"/expr", "bad-expression", err.Error(), "correct the CEL expression; the answer is \"value\"")
		}
		r.expr = e
	}
}

func enterQuestion(t *turn, n *node) move {
	if t.s.System.Left { // nobody is there to answer
		t.end(Abandoned, false)
		return wait
	}
	fr := t.frame()
	fr.Asked = appendLast(fr.Asked[:len(fr.Asked):len(fr.Asked)], n.id, maxAsked)
	b := n.body.(*questionBody)
	t.askWith(n, t.show(b.messages), true)
	return wait
}

// askWith asks a question with the messages of the moment. Those kept are what
// repeat_last says again.
func (t *turn) askWith(n *node, messages []Message, keep bool) {
	switch b := n.body.(type) {
	case *questionBody:
		t.ask(n, t.takes(n, b), messages, keep, false)
	case *modelBody:
		t.askOn(n, messages, keep)
	default:
		t.waitFor(ForInput, "")
	}
}

// ask gives out a question; spoken tells that the caller has heard it already.
func (t *turn) ask(n *node, takes Takes, messages []Message, keep, spoken bool) {
	e := Ask{ID: t.id(), Node: n.id, Messages: messages, Takes: takes, Voice: t.voice(n), Spoken: spoken}
	if keep {
		t.s.System.Last = messages
	}
	t.shown(messages)
	t.dropAsk()
	t.out = append(t.out, e)
	t.s.System.Pending = append(t.s.System.Pending, Pending{e.ID, "ask", e})
	if t.s.System.Voice && len(messages) > 0 {
		t.s.System.Playing = e.ID
	}
	t.waitFor(ForInput, e.ID)
}

// dropAsk forgets the question that was given out before.
func (t *turn) dropAsk() {
	kept := t.s.System.Pending[:0]
	for _, p := range t.s.System.Pending {
		if p.Kind != "ask" {
			kept = append(kept, p)
		}
	}
	t.s.System.Pending = kept
}

// askAgain asks the question at hand as if for the first time. A model's node
// goes on where it was.
func (t *turn) askAgain(n *node) move {
	if _, ok := n.body.(*modelBody); ok {
		t.askOn(n, t.s.System.Last, false)
		return wait
	}
	t.again = true
	return move{target: n.id}
}

func (t *turn) takes(n *node, b *questionBody) Takes {
	if t.s.System.Confirm != nil {
		b = &questionBody{typ: "yes_no"}
	}
	out := Takes{Type: b.typ, Validation: b.rules.raw}
	for _, o := range t.choices(b) {
		out.Options = append(out.Options, Option{Label: t.local(o.label), Value: o.value, DTMF: o.dtmf, Say: o.say})
	}
	if b.typ == "yes_no" && len(out.Options) == 0 {
		out.Options = []Option{{Label: "Yes", Value: true, DTMF: "1"}, {Label: "No", Value: false, DTMF: "2"}}
	}
	out.Hints = append(append(out.Hints, n.voice.Hints...), t.f.phrases()...)
	return out
}

// choices returns the options, from the document or from a variable.
func (t *turn) choices(b *questionBody) []option {
	if b.dynamic == nil {
		return b.options
	}
	v, _ := t.resolve(b.dynamic)
	list, _ := v.([]any)
	var out []option
	for _, e := range list {
		o := readOption(e, "")
		o.label = localText{any: template{{text: t.literal(e)}}} // what a variable brings in is not a template
		out = append(out, o)
	}
	return out
}

// literal returns an option's label as it stands.
func (t *turn) literal(v any) string {
	if m, ok := v.(map[string]any); ok {
		for _, k := range []string{"label", "text", "title", "alt", "value"} {
			if s := text(m[k]); s != "" {
				return s
			}
		}
		return ""
	}
	return text(v)
}

// inputQuestion takes an answer: stores it, or asks again.
func inputQuestion(t *turn, n *node, in Input) move {
	b := n.body.(*questionBody)
	if t.s.System.Confirm != nil {
		return t.confirmed(n, b, in)
	}
	a, ok := t.read(b, in)
	if ok {
		ok = t.valid(b, &a, in)
	}
	if !ok {
		if m, asked := t.unclear(n, b, in); asked {
			return m
		}
		return t.noMatch(n, b)
	}
	if t.toConfirm(n, b, a, in) {
		return t.echo(n, b, a, in)
	}
	return t.answered(b, a)
}

// answered stores an answer and goes on.
func (t *turn) answered(b *questionBody, a answer) move {
	t.dropAsk()
	t.unwait()
	t.s.System.Playing = ""
	if b.variable != nil && !a.skip && !t.set(*b.variable, a.value) {
		t.warn("{" + b.variable.source + "} may not be written")
		return move{outcome: "error"}
	}
	outs := append(a.outcomes, "default")
	return move{outcome: outs[0], also: append(outs[1:], "success")}
}

// noMatch answers what was not understood.
func (t *turn) noMatch(n *node, b *questionBody) move {
	k, most := t.misunderstoodAt(n), b.mostBad(n)
	if most > 0 && k >= most {
		return t.giveUp("no_match", n.voice.noMatch.then)
	}
	if p, ok := n.voice.noMatch.prompt(k); ok {
		t.askWith(n, t.prompt(n, p), false)
		return wait
	}
	sorry := t.phrasebook().sorry
	if !b.rules.message.empty() {
		sorry = t.local(b.rules.message)
	}
	t.askWith(n, append([]Message{{Type: "text", Text: sorry}}, t.show(b.messages)...), false)
	return wait
}

// mostBad is the bad answer that leaves the question; 0 for none.
func (b *questionBody) mostBad(n *node) int {
	if b.retries >= 0 {
		return b.retries + 1
	}
	return n.voice.noMatch.max
}

// noInput answers silence.
func (t *turn) noInput(n *node) move {
	k, e := t.unheardAt(n), n.voice.noInput
	if e.max > 0 && k >= e.max {
		return t.giveUp("no_input", e.then)
	}
	messages := t.s.System.Last
	if p, ok := e.prompt(k); ok {
		messages = t.prompt(n, p)
	} else if t.s.System.Confirm != nil {
		messages = t.echoed(n)
	}
	t.askWith(n, messages, false)
	return wait
}

func (t *turn) giveUp(outcome, then string) move {
	t.dropAsk()
	t.unwait()
	t.s.System.Playing = ""
	return move{outcome: outcome, target: then}
}

func questionTargets(n *node) []target {
	var out []target
	for _, e := range []escalation{n.voice.noInput, n.voice.noMatch} {
		if e.then != "" {
			out = append(out, target{e.then, e.ptr})
		}
	}
	return out
}
