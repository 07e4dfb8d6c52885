package flow

import (
	"fmt"
	"strconv"
	"strings"
)

// exits looks for failures that lead nowhere, and for questions that hold a
// caller for ever.
func (k *checker) exits(n *node) {
	unwired := func(message, fix string) {
		k.add(SeverityWarning, n.ptr, "unwired-outcome", message, fix)
	}
	switch n.typ {
	case "question", "menu":
		if b, ok := n.body.(*questionBody); ok {
			k.question(n, b)
		}
	case "webhook", "action":
		if len(n.edges["error"]) == 0 && len(n.edges["failure"]) == 0 {
			unwired("nothing follows when it fails", "wire error")
		}
	case "composite":
		if len(n.edges) > 0 && !wired(n, "error") {
			unwired("nothing follows when it fails inside", "wire error")
		}
	case "transfer":
		if !wired(n, "no_answer") && !wired(n, "busy") {
			unwired("nothing follows when nobody answers", "wire no_answer, busy or error")
		}
	}
	k.dead(n)
}

func (k *checker) question(n *node, b *questionBody) {
	noInput, noMatch := n.voice.noInput, n.voice.noMatch
	switch limited := b.retries >= 0 || noMatch.max > 0; {
	case limited && noMatch.then == "" && !wired(n, "no_match"):
		k.add(SeverityWarning, n.ptr, "unwired-outcome", "nothing follows when the answer is never understood", "wire no_match")
	case !limited && b.picky():
		k.add(SeverityWarning, n.ptr, "no-way-out-nonsense", "who cannot answer is asked again and again", "set max_retries, or no_match.max in a voice block, and wire no_match")
	}
	switch {
	case noInput.max > 0 && noInput.then == "" && !wired(n, "no_input"):
		k.add(SeverityWarning, n.ptr, "unwired-outcome", "nothing follows when the caller stays silent", "wire no_input")
	case noInput.max == 0:
		k.add(k.spoken(), n.ptr, "no-way-out-silence", "who says nothing is asked again and again", "set no_input.max in a voice block, here or in defaults, and wire no_input")
	}
}

// picky tells whether an answer that is not blank can be a bad one.
func (b *questionBody) picky() bool {
	switch b.typ {
	case "text", "any", "file":
		r := b.rules
		return r.pattern != nil || r.expr != nil || r.minLen > 1 || r.maxLen > 0
	}
	return true
}

// ofCalls are node types that only a call makes sense of.
var ofCalls = map[string]bool{
	"transfer": true, "say": true, "play": true, "menu": true, "voicemail": true, "record": true, "send_dtmf": true,
}

// spoken is how much a rule of calls matters to the document: silence does not
// come in a chat.
func (k *checker) spoken() string {
	if k.f.voiced {
		return SeverityWarning
	}
	return SeverityInfo
}

// hangup tells of a flow that does nothing more when its caller leaves.
func (k *checker) hangup() {
	if k.f.onHangup != "" {
		return
	}
	for _, n := range k.f.root.order {
		if n.kind.waits && n.typ != "wait" {
			k.add(SeverityInfo, "", "no-way-out-hangup", "nothing runs when the caller leaves", "name a node in \"on_hangup\" that keeps or undoes what was begun")
			return
		}
	}
}

// outcomesOf lists what a node may end with; false where that is not known from
// its type.
func outcomesOf(n *node) (map[string]bool, bool) {
	out := map[string]bool{"default": true, "success": true}
	add := func(names ...string) {
		for _, o := range names {
			out[fold(o)] = true
		}
	}
	switch b := n.body.(type) {
	case *messageBody:
		add("error", "failure")
		return out, n.typ == "message"
	case *callSpec:
		add("error", "failure", "fallback", "stale", "timeout")
		return out, true
	case *actionBody:
		add("error", "failure", "stale")
		return out, true
	case *questionBody:
		add("error", "failure", "no_input", "no_match", "timeout")
		for i, o := range b.options {
			add("$"+strconv.Itoa(i), text(o.value), o.dtmf)
		}
		if b.typ == "yes_no" {
			add("$0", "$1", "yes", "no", "true", "false")
		}
		return out, b.dynamic == nil
	}
	return nil, false
}

// dead finds connections of outcomes that a node never has: most are typing
// mistakes.
func (k *checker) dead(n *node) {
	known, ok := outcomesOf(n)
	if !ok {
		return
	}
	for _, o := range sortedKeys(n.edges) {
		if known[o] {
			continue
		}
		var names []string
		for _, name := range sortedKeys(known) {
			if name != "" {
				names = append(names, name)
			}
		}
		k.add(SeverityWarning, n.edges[o][0].ptr, "dead-connection", fmt.Sprintf("node %q never ends with %q", n.id, o), "use one of "+strings.Join(names, ", "))
	}
}
