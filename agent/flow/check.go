package flow

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Check tells what keeps a flow from being published (errors) and what is worth
// a look (warnings). It holds for every node, also one that cannot be reached.
func (f *Flow) Check() []Problem {
	return slices.DeleteFunc(f.lint(), func(p Problem) bool { return p.Severity == SeverityInfo })
}

// Lint tells all that is to be said of a document: what [Parse] refuses, else
// what [Flow.Check] finds, and what good practice it does not follow. [Rules]
// lists what it knows.
func Lint(doc []byte, types ...Types) []Problem {
	f, err := Parse(doc, types...)
	var refused *ParseError
	switch {
	case errors.As(err, &refused):
		return refused.Problems
	case err != nil:
		return []Problem{{Severity: SeverityError, Code: "syntax", Message: err.Error(), Fix: "correct the document"}}
	}
	return f.lint()
}

func (f *Flow) lint() []Problem {
	k := &checker{f: f, out: append([]Problem(nil), f.problems...)}
	k.graph(f.root, true)
	k.private(f.root)
	k.document()
	return k.out
}

type checker struct {
	f   *Flow
	out []Problem
}

// reported tells whether a problem of a kind of rules is noted at a place, or
// around it, already.
func (k *checker) reported(code, ptr string) bool {
	for _, p := range k.out {
		if strings.HasPrefix(p.Code, code) && (p.Pointer == ptr || strings.HasPrefix(ptr, p.Pointer+"/") || strings.HasPrefix(p.Pointer, ptr+"/")) {
			return true
		}
	}
	return false
}

func (k *checker) add(severity, ptr, code, message, fix string) {
	k.out = append(k.out, Problem{severity, code, ptr, message, fix})
}

// links lists where each node leads.
func (k *checker) links(g *graph, root bool) map[string][]string {
	links := map[string][]string{}
	for _, n := range g.order {
		note := func(to, ptr string, named bool) {
			if to == "" {
				return
			}
			switch {
			case g.nodes[to] != nil:
				links[n.id] = append(links[n.id], to)
			case to[0] == '@':
				k.specialTarget(to, ptr)
			case named && (to[0] == '$' || len(n.edges[fold(to)]) > 0):
			default:
				k.add("error", ptr, "missing-target", fmt.Sprintf("there is no node %q", to), "name an existing node, or @end")
			}
		}
		for _, outcome := range sortedKeys(n.edges) {
			for _, e := range n.edges[outcome] {
				note(e.target, e.ptr, false)
			}
		}
		if n.kind.targets != nil && n.body != nil {
			for _, t := range n.kind.targets(n) {
				note(t.to, t.ptr, true)
			}
		}
	}
	if g.nodes[g.entry] == nil {
		k.add("error", g.entryPtr, "missing-target", fmt.Sprintf("there is no node %q to begin with", g.entry), "name an existing node")
	}
	return links
}

func (k *checker) specialTarget(to, ptr string) {
	switch low := fold(to); {
	case low == "@end", low == "@hangup", low == "@repeat", low == "@back", low == "@error", strings.HasPrefix(low, "@out:"):
	default:
		k.add("error", ptr, "missing-target", fmt.Sprintf("there is no target %q", to), "use @end, @hangup, @repeat, @back, @error or @out:name")
	}
}

func (k *checker) graph(g *graph, root bool) {
	links := k.links(g, root)
	k.reach(g, links, root)
	k.cycles(g, links)
	for _, n := range g.order {
		k.exits(n)
		k.calls(n)
		if b, ok := n.body.(*compositeBody); ok && b.inline != nil {
			k.graph(b.inline, false)
		}
	}
	k.quiet(g, links)
}

// reach finds nodes that nothing leads to, and a graph without an end.
func (k *checker) reach(g *graph, links map[string][]string, root bool) {
	seen := map[string]bool{}
	var visit []string
	push := func(id string) {
		if g.nodes[id] != nil && !seen[id] {
			seen[id] = true
			visit = append(visit, id)
		}
	}
	push(g.entry)
	if root {
		push(k.f.onHangup)
		push(k.f.failure.then)
		for _, gl := range k.f.globals {
			push(gl.then)
		}
	}
	ends := false
	for len(visit) > 0 {
		id := visit[len(visit)-1]
		visit = visit[:len(visit)-1]
		ends = ends || leaves(g.nodes[id])
		for _, to := range links[id] {
			push(to)
		}
	}
	for _, n := range g.order {
		if !seen[n.id] {
			k.add("error", n.ptr, "unreachable", fmt.Sprintf("no path leads to node %q", n.id), "connect it, or remove it")
		}
	}
	if !ends && g.nodes[g.entry] != nil {
		k.add("error", g.entryPtr, "no-exit", "no path leads to an end", "lead a path to @end or @hangup, or leave an outcome without a target")
	}
}

// leaves tells whether a conversation can end (or its frame) at a node.
func leaves(n *node) bool {
	if n.typ == "hangup" || n.kind.enter == nil {
		return true
	}
	named := 0
	if n.kind.targets != nil && n.body != nil {
		for _, t := range n.kind.targets(n) {
			if named++; strings.HasPrefix(t.to, "@") && fold(t.to) != "@repeat" && fold(t.to) != "@back" {
				return true
			}
		}
	}
	always := false
	for outcome, list := range n.edges {
		for _, e := range list {
			if low := fold(e.target); strings.HasPrefix(low, "@") && low != "@repeat" && low != "@back" {
				return true
			}
			always = always || e.when == nil && (outcome == "default" || outcome == "success" || outcome == "complete")
		}
	}
	if b, ok := n.body.(*conditionBody); ok && b.otherwise != "" {
		return false
	}
	return !always
}

// cycles finds loops in which nobody is asked anything.
func (k *checker) cycles(g *graph, links map[string][]string) {
	const busy, done = 1, 2
	state := map[string]int{}
	var visit func(id string, depth int)
	visit = func(id string, depth int) {
		n := g.nodes[id]
		if n.kind.waits || asks(n) {
			state[id] = done
			return
		}
		if b, ok := n.body.(*messageBody); ok && b.ack {
			state[id] = done
			return
		}
		state[id] = busy
		for _, to := range links[id] {
			switch state[to] {
			case busy:
				k.add("error", g.nodes[to].ptr, "endless-cycle", fmt.Sprintf("node %q is reached again from %q without a question between", to, id), "put a question into the loop, or end it")
			case 0:
				visit(to, depth+1)
			}
		}
		state[id] = done
	}
	for _, n := range g.order {
		if state[n.id] == 0 {
			visit(n.id, 0)
		}
	}
}

// asks tells whether somebody may be asked within a composite.
func asks(n *node) bool {
	b, ok := n.body.(*compositeBody)
	if !ok || b.inline == nil {
		return ok
	}
	for _, c := range b.inline.order {
		if c.kind.waits || asks(c) {
			return true
		}
	}
	return false
}

func wired(n *node, outcome string) bool {
	for _, o := range fallbacks(outcome) {
		if len(n.edges[o]) > 0 {
			return true
		}
	}
	return false
}

func (k *checker) document() {
	v, err := decodeValue(k.f.doc)
	if err != nil {
		return
	}
	if doc, ok := v.(map[string]any); ok {
		k.secrets(doc)
		k.units(doc, "", "")
		k.style(doc)
	}
	k.hangup()
	f := k.f
	for _, g := range f.globals {
		if g.then != "" && g.then[0] == '@' {
			k.specialTarget(g.then, g.ptr+"/then")
		} else if g.then != "" && f.root.nodes[g.then] == nil {
			k.add("error", g.ptr+"/then", "missing-target", fmt.Sprintf("there is no node %q", g.then), "name an existing node")
		}
	}
	if h := f.onHangup; h != "" && f.root.nodes[h] == nil {
		k.add("error", "/on_hangup", "missing-target", fmt.Sprintf("there is no node %q", h), "name an existing node")
	}
	if t := f.failure.then; t != "" && t[0] != '@' && f.root.nodes[t] == nil {
		k.add("error", "/defaults/errors/then", "missing-target", fmt.Sprintf("there is no node %q", t), "name an existing node, or @end")
	}
}
