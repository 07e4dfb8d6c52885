package flow

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// modelBody is a compiled listen, agent or intent node.
type modelBody struct {
	prompt  template // what the model is told
	opening []messageTemplate
	first   template // the caller's first words, where they were said before
	slots   []slot
	use     []ModelChoice
	reply   int // tokens of one answer

	turns, tokens int
	length        time.Duration

	exits []exit // agent
	tools []tool

	among     []intent // intent; listen: ways out
	threshold float64
	variable  *ref

	readBack, change []messageTemplate // listen
	reset            bool
	doubtBelow       float64
}

// A slot is read as a question's answer is.
type slot struct {
	name, about string
	q           *questionBody
	confirm     string // always, low_confidence or never
	optional    bool
}

// An exit is a way out of an agent node: if must are filled, and when holds.
type exit struct {
	name, about string
	when        *test // nil: always
	must        []string
	messages    []messageTemplate
}

// A tool is a list of actions with arguments.
type tool struct {
	name, about string
	args        []slot
	body        *actionBody
	returns     *valueTemplate
}

// An intent is matched by its examples, else by a model.
type intent struct {
	name, about string
	examples    []string
}

// Defaults of what a document does not say.
const (
	agentTurns  = 20
	listenTurns = 30
	agentTokens = 50_000
	agentReply  = 300
	// agentSilences is how often a silent caller is asked whether they are
	// there, where no_input.max does not say.
	agentSilences = 3
)

func compileModel(c *compiler, n *node) any {
	m := n.content
	b := &modelBody{reply: agentReply, use: c.use, threshold: 0.6, doubtBelow: 0.6, reset: boolean(m["reset"])}
	b.prompt = c.modelText(first(m, "prompt", "instructions"), n.at+"/prompt")
	for _, k := range []string{"messages", "question", "text", "greeting", "say"} {
		if v := m[k]; v != nil && len(b.opening) == 0 {
			b.opening = c.messages(v, n.at+"/"+k)
		}
	}
	if s := str(m["input"]); s != "" {
		b.first = c.modelText(s, n.at+"/input")
	}
	if v := m["model"]; v != nil {
		b.use = modelChoices(v)
	}
	b.turns, b.tokens = agentTurns, agentTokens
	if n.typ == "listen" {
		b.turns = listenTurns
	}
	for name, into := range map[string]*int{"max_turns": &b.turns, "max_cost": &b.tokens, "reply_tokens": &b.reply} {
		if v, ok := integer(m[name]); ok && v > 0 {
			*into = v
		}
	}
	b.reply = min(b.reply, 4000)
	b.length = seconds(m["max_seconds"])
	b.variable = c.target(m["variable"], n.at+"/variable")
	b.slots = c.slots(m["slots"], n.at+"/slots", true)
	switch n.typ {
	case "agent":
		c.agentNode(b, n)
	case "listen":
		c.listenNode(b, n)
	case "intent":
		c.intentNode(b, n)
	}
	return b
}

// modelText is a template of what a model is told.
func (c *compiler) modelText(s, ptr string) template {
	t := parseTemplate(s, c.flow.bare)
	if t.secrets() {
		c.problem("error", ptr, "secret-in-prompt", "a secret would be sent to a language model", "remove the {secret:…} reference")
	}
	return t
}

// modelChoices reads "name", {vendor, model} or a list of these.
func modelChoices(v any) []ModelChoice {
	switch v := v.(type) {
	case string:
		return []ModelChoice{{Model: v}}
	case map[string]any:
		return []ModelChoice{{Vendor: str(v["vendor"]), Model: str(v["model"])}}
	case []any:
		var out []ModelChoice
		for _, e := range v {
			out = append(out, modelChoices(e)...)
		}
		return out
	}
	return nil
}

// slots reads a list of slots: names, or objects. stored ones are written to a
// variable, else they are a tool's arguments.
func (c *compiler) slots(v any, ptr string, stored bool) []slot {
	list, _ := v.([]any)
	var out []slot
	for i, e := range list {
		at := ptr + "/" + strconv.Itoa(i)
		m, ok := e.(map[string]any)
		if s, isName := e.(string); isName {
			m, ok = map[string]any{"name": s}, true
		}
		name := str(m["name"])
		switch {
		case !ok || name == "":
			c.problem("error", at, "missing-field", "the slot has no name", "add \"name\"")
			continue
		case slices.ContainsFunc(out, func(s slot) bool { return s.name == name }):
			c.problem("error", at+"/name", "duplicate-id", fmt.Sprintf("there is a slot %q already", name), "give every slot its own name")
			continue
		}
		out = append(out, c.slot(m, name, at, stored))
	}
	return out
}

func (c *compiler) slot(m map[string]any, name, at string, stored bool) slot {
	q := map[string]any{"input_type": m["type"], "question": m["prompt"], "options": m["options"], "store": m["store"], "validation": m["validate"]}
	if q["validation"] == nil {
		q["validation"] = m["validation"]
	}
	if q["store"] == nil {
		q["store"] = "value"
	}
	if q["input_type"] == nil {
		q["input_type"] = m["input_type"]
	}
	if q["question"] == nil {
		q["question"] = "What is the " + spokenName(name) + "?"
	}
	if stored {
		if q["variable"] = m["variable"]; q["variable"] == nil {
			q["variable"] = name
		}
	}
	s := slot{name: name, about: first(m, "about", "description", "label"), confirm: fold(str(m["confirm"])), optional: boolean(m["optional"])}
	s.q = compileQuestion(c, &node{at: at, ptr: at, content: q}).(*questionBody)
	if req, ok := m["required"].(bool); ok {
		s.optional = !req
	}
	s.q.rules.optional = false // a blank value fills nothing
	switch s.confirm {
	case "always", "never":
	case "", "low_confidence":
		s.confirm = "low_confidence"
	default:
		c.problem("error", at+"/confirm", "unknown-value", fmt.Sprintf("there is no confirm %q", s.confirm), "use always, low_confidence or never")
	}
	return s
}

// spokenName is a slot's name for people: "user.party_size" is "party size".
func spokenName(name string) string {
	name = name[strings.LastIndexByte(name, '.')+1:]
	return strings.ReplaceAll(strings.ReplaceAll(name, "_", " "), "-", " ")
}

// call returns a slot by its name.
func (b *modelBody) slot(name string) *slot {
	for i := range b.slots {
		if b.slots[i].name == name {
			return &b.slots[i]
		}
	}
	return nil
}

// agentNode reads what agent nodes have of their own.
func (c *compiler) agentNode(b *modelBody, n *node) {
	var must []string
	list, _ := n.content["must_collect"].([]any)
	for i, e := range list {
		if m, ok := e.(map[string]any); ok {
			b.slots = append(b.slots, c.slots([]any{m}, n.at+"/must_collect", true)...)
			e = m["name"]
		}
		name := str(e)
		if name != "" && b.slot(name) == nil {
			b.slots = append(b.slots, c.slots([]any{name}, n.at+"/must_collect/"+strconv.Itoa(i), true)...)
		}
		must = append(must, name)
	}
	c.exits(b, n, must)
	c.tools(b, n)
	if len(b.prompt) == 1 && b.prompt[0].ref == nil && strings.TrimSpace(b.prompt[0].text) == "" {
		c.problem("warning", n.at, "missing-field", "the model is not told what to do", "add \"prompt\"")
	}
	if len(b.exits) == 0 {
		c.problem("warning", n.at, "no-exit", "the model has no way out: the node ends by its limits alone", "add \"exits\"")
	}
}

func (c *compiler) exits(b *modelBody, n *node, must []string) {
	known := map[string]bool{}
	list, _ := n.content["exits"].([]any)
	for i, e := range list {
		at := n.at + "/exits/" + strconv.Itoa(i)
		m, ok := e.(map[string]any)
		if s, isName := e.(string); isName {
			m, ok = map[string]any{"name": s}, true
		}
		x := exit{name: fold(str(m["name"])), about: first(m, "when", "about", "description"), must: must}
		if !ok || x.name == "" || known[x.name] {
			c.problem("error", at, "missing-field", "the exit has no name of its own", "add \"name\"")
			continue
		}
		known[x.name] = true
		if v := m["if"]; v != nil {
			x.when = c.test(v, at+"/if")
		}
		if own, ok := m["must_collect"].([]any); ok {
			x.must = texts(own)
		}
		for _, name := range x.must {
			if b.slot(name) == nil {
				c.problem("error", at+"/must_collect", "missing-field", fmt.Sprintf("there is no slot %q", name), "add it to \"slots\"")
			}
		}
		if v := m["say"]; v != nil {
			x.messages = c.messages(v, at+"/say")
		}
		b.exits = append(b.exits, x)
		if !wired(n, "exit:"+x.name) {
			c.problem("warning", at, "unwired-outcome", fmt.Sprintf("nothing follows exit %q", x.name), "wire exit:"+x.name)
		}
	}
	for _, o := range sortedKeys(n.edges) {
		if name, ok := strings.CutPrefix(o, "exit:"); ok && !known[name] {
			b.exits = append(b.exits, exit{name: name, must: must})
		}
	}
}

var toolName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// tools reads the tools of an agent node: objects, or names of those that
// stand in the document.
func (c *compiler) tools(b *modelBody, n *node) {
	list, _ := n.content["tools"].([]any)
	for i, e := range list {
		at := n.at + "/tools/" + strconv.Itoa(i)
		m, _ := e.(map[string]any)
		if s, ok := e.(string); ok {
			if m, _ = c.shared[s].(map[string]any); m == nil {
				c.problem("error", at, "missing-field", fmt.Sprintf("there is no tool %q", s), "add it to the document's \"tools\"")
				continue
			}
			m = merge(map[string]any{"name": s}, m)
		}
		tl := tool{name: str(m["name"]), about: first(m, "about", "description"), args: c.slots(m["args"], at+"/args", false)}
		taken := slices.ContainsFunc(b.tools, func(o tool) bool { return o.name == tl.name })
		if !toolName.MatchString(tl.name) || taken || tl.name == WishSlots || tl.name == WishExit || tl.name == WishChoice {
			c.problem("error", at+"/name", "unknown-value", fmt.Sprintf("%q cannot name a tool", tl.name), "use letters, digits, _ and -, a name of its own, and none of fill_slots, leave, choose")
			continue
		}
		actions, _ := m["actions"].([]any)
		if a, ok := m["action"].(map[string]any); ok {
			actions = []any{a}
		}
		tl.body = compileAction(c, &node{at: at, ptr: at, content: map[string]any{"actions": actions}}).(*actionBody)
		if v := m["returns"]; v != nil {
			r := parseValue(v, c.flow.bare)
			c.noSecret(r, at+"/returns")
			tl.returns = &r
		}
		b.tools = append(b.tools, tl)
	}
}

// listenNode reads what listen nodes have of their own.
func (c *compiler) listenNode(b *modelBody, n *node) {
	if len(b.slots) == 0 {
		c.problem("error", n.at+"/slots", "missing-field", "there is nothing to listen for", "add \"slots\"")
	}
	b.among = c.intentList(n.content["intents"], n.at+"/intents")
	for _, o := range sortedKeys(n.edges) {
		if name, ok := strings.CutPrefix(o, "intent:"); ok && !slices.ContainsFunc(b.among, func(i intent) bool { return fold(i.name) == name }) {
			b.among = append(b.among, c.known(name))
		}
	}
	for k, into := range map[string]*[]messageTemplate{"read_back": &b.readBack, "change": &b.change} {
		if v := n.content[k]; v != nil {
			*into = c.messages(v, n.at+"/"+k)
		}
	}
	if len(b.change) == 0 {
		b.change = []messageTemplate{{typ: "text", text: localText{any: template{{text: "What should I change?"}}}}}
	}
}

// intentNode reads what intent nodes have of their own.
func (c *compiler) intentNode(b *modelBody, n *node) {
	b.among = c.intentList(n.content["intents"], n.at+"/intents")
	if len(b.among) == 0 {
		for _, o := range sortedKeys(n.edges) {
			if !slices.Contains([]string{"no_match", "no_input", "error", "failure", "default", "success"}, o) {
				b.among = append(b.among, c.known(o))
			}
		}
	}
	if len(b.among) == 0 {
		c.problem("error", n.at+"/intents", "missing-field", "there is no intent to tell from others", "add \"intents\"")
	}
	if v, ok := numeric(n.content["threshold"], true); ok {
		b.threshold, _ = v.Float64()
	}
	if !wired(n, "no_match") {
		c.problem("warning", n.ptr, "unwired-outcome", "nothing follows when no intent fits", "wire no_match")
	}
}

// intentList reads intents: names of the document's, or objects; or an object
// of examples by name.
func (c *compiler) intentList(v any, ptr string) []intent {
	var out []intent
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			m, _ := e.(map[string]any)
			in := intent{name: str(m["name"]), about: first(m, "about", "description", "when"), examples: texts(m["examples"])}
			if s, ok := e.(string); ok {
				in = c.known(s)
			}
			if in.name == "" {
				c.problem("error", ptr+"/"+strconv.Itoa(i), "missing-field", "the intent has no name", "add \"name\"")
				continue
			}
			if in.examples == nil {
				in.examples = c.known(in.name).examples
			}
			out = append(out, in)
		}
	case map[string]any:
		for _, name := range sortedKeys(v) {
			m, _ := v[name].(map[string]any)
			in := intent{name: name, about: first(m, "about", "description", "when"), examples: texts(m["examples"])}
			if m == nil {
				in.examples = texts(v[name])
			}
			out = append(out, in)
		}
	}
	return out
}

// known is an intent of the document, with its examples if it has any.
func (c *compiler) known(name string) intent {
	for _, k := range sortedKeys(c.intents) {
		if fold(k) == fold(name) {
			return intent{name: name, examples: c.intents[k]}
		}
	}
	return intent{name: name}
}
