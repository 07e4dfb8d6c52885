package flow

import "slices"

// Severities of a [Problem].
const (
	SeverityError   = "error"   // refuses publishing
	SeverityWarning = "warning" // a caller may get stuck, or wait for long
	SeverityInfo    = "info"    // good practice
)

// A Rule is one thing that [Lint] looks for. Codes are stable.
type Rule struct {
	Code     string
	Severity string // of most of its problems
	What     string
}

// Rules lists all rules, by severity and code.
func Rules() []Rule { return slices.Clone(lintRules) }

var lintRules = []Rule{
	{"bad-expression", SeverityError, "a CEL expression that cannot be compiled"},
	{"bad-path", SeverityError, "a JSONPath that cannot be read"},
	{"bad-pattern", SeverityError, "a pattern that is not RE2"},
	{"bad-reference", SeverityError, "a variable's name that is none, or a whole scope"},
	{"bad-ssml", SeverityError, "SSML that is not well-formed"},
	{"bad-test", SeverityError, "a condition that is neither a test nor CEL"},
	{"bad-version", SeverityError, "a composite's version that is neither a version, a range nor a number"},
	{"duplicate-id", SeverityError, "two nodes, or two slots, of one name"},
	{"endless-cycle", SeverityError, "nodes in a circle without a question between"},
	{"later-type", SeverityError, "a node type or action of the format that does not run yet"},
	{"missing-field", SeverityError, "a node without what it needs"},
	{"missing-source", SeverityError, "a connection from a node that does not exist"},
	{"missing-target", SeverityError, "a connection to a node that does not exist"},
	{"no-exit", SeverityError, "a graph, or a model's node, that nothing leads out of"},
	{"no-id", SeverityError, "a node without an id"},
	{"no-nodes", SeverityError, "a document without nodes"},
	{"no-variable", SeverityError, "a test that names no variable"},
	{"read-only", SeverityError, "a write to session, context, input, env or secret"},
	{"secret-in-clear", SeverityError, "what looks like a key, a token or a password in the document"},
	{"secret-in-message", SeverityError, "a {secret:…} where it would be shown or spoken"},
	{"secret-in-prompt", SeverityError, "a {secret:…} where a language model would read it"},
	{"secret-in-state", SeverityError, "a {secret:…} where it would be stored"},
	{"secret-in-url", SeverityError, "a {secret:…} in a path, which logs keep"},
	{"sensitive-in-prompt", SeverityError, "what a sensitive node heard, where a language model would read it"},
	{"syntax", SeverityError, "no JSON, or a name given twice in one object"},
	{"too-deep", SeverityError, "more than 64 levels, or composites nested too deep"},
	{"too-large", SeverityError, "more than 4 MiB"},
	{"too-many", SeverityError, "more than 10,000 nodes, or too much content in one"},
	{"type", SeverityError, "a value of another type than the field takes"},
	{"unknown-operator", SeverityError, "a test with an operator that does not exist"},
	{"unknown-type", SeverityError, "a node type or action that does not exist"},
	{"unknown-value", SeverityError, "a word that the field does not know"},
	{"unreachable", SeverityError, "a node that no path leads to"},

	{"dead-air", SeverityWarning, "a caller may hear nothing for more than 8 s, over all calls in a row"},
	{"dead-connection", SeverityWarning, "a connection for an outcome that the node never has"},
	{"empty-message", SeverityWarning, "a message that says nothing"},
	{"empty-question", SeverityWarning, "a question that asks nothing"},
	{"empty-test", SeverityWarning, "a test that is never true"},
	{"no-fallback", SeverityWarning, "content without a text for when it is missing or not published"},
	{"no-way-out-nonsense", SeverityWarning, "a question that is asked again for ever when it is not understood"},
	{"no-way-out-silence", SeverityWarning, "a question that is asked again for ever when nobody speaks"},
	{"unit", SeverityWarning, "a time that looks like seconds for milliseconds, or the other way round"},
	{"unknown-goal", SeverityWarning, "an experiment that counts a goal that nothing reaches"},
	{"unwired-outcome", SeverityWarning, "a failure that leads nowhere"},

	{"large-flow", SeverityInfo, "more than 50 nodes in one graph: use sub-flows"},
	{"large-state", SeverityInfo, "a whole answer kept in a variable: a state holds 1 MiB"},
	{"no-description", SeverityInfo, "a document without a description or note"},
	{"no-tests", SeverityInfo, "a document without tests"},
	{"no-timeout", SeverityInfo, "a call that relies on the default of 5 s"},
	{"no-version", SeverityInfo, "a document whose version is not a semantic one"},
	{"no-way-out-hangup", SeverityInfo, "nothing runs when the caller leaves"},
	{"node-name", SeverityInfo, "a node's id that says nothing, or is not lower-case words"},
}
