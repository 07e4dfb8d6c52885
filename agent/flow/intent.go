package flow

import (
	"slices"
)

// enterIntent classifies what was said, or asks first.
func enterIntent(t *turn, n *node) move {
	b := n.body.(*modelBody)
	if t.s.System.Left {
		return move{outcome: "no_match"}
	}
	k := t.beginTalk(n)
	if in, ok := t.firstWords(b); ok {
		t.hears(k, in)
		return t.classify(n, k, in)
	}
	return t.listenFor(n, k, t.intentTakes(n), t.show(b.opening))
}

func (t *turn) intentTakes(n *node) Takes {
	out := Takes{Type: "text", Hints: slices.Clone(n.voice.Hints)}
	for _, i := range n.body.(*modelBody).among {
		out.Hints = append(out.Hints, i.examples...)
	}
	out.Hints = append(out.Hints, t.f.phrases()...)
	return out
}

func inputIntent(t *turn, n *node, in Input) move {
	k := t.talk()
	if in.Text = cut(in.Text, maxUtter); in.Text == "" {
		return t.noIntent(n, k)
	}
	t.hears(k, in)
	return t.classify(n, k, in)
}

// classify names the intent by its examples where they settle it, else by the
// model.
func (t *turn) classify(n *node, k *Talk, in Input) move {
	b := n.body.(*modelBody)
	if i, ok := matchIntent(b.among, in.Text); ok {
		return t.named(b, i)
	}
	if n.voice.Voice.Sensitive || in.Mode == "dtmf" {
		return t.noIntent(n, k)
	}
	k.Input = &in
	e := Model{}
	for _, i := range b.among {
		e.Among = append(e.Among, Choice{Name: i.name, About: i.about, Examples: i.examples})
	}
	return t.round(n, k, e)
}

// resultIntent is the guard of an intent node: a declared name, surely enough.
func resultIntent(t *turn, n *node, r Result) move {
	b, k := n.body.(*modelBody), t.talk()
	p, ok := proposal(r)
	k.Tokens += p.Tokens
	if !ok { // the examples alone must do
		if k.Input != nil {
			if i, ok := likeliest(b.among, k.Input.Text, b.threshold); ok {
				return t.named(b, i)
			}
		}
		return t.noIntent(n, k)
	}
	for _, i := range b.among {
		if p.Intent != "" && fold(i.name) == fold(p.Intent) && sure(p, b.threshold) {
			return t.named(b, i)
		}
	}
	return t.noIntent(n, k)
}

// sure tells whether a model is as sure as the node asks for; one that does not
// say counts as sure.
func sure(p Proposal, threshold float64) bool {
	if p.Confidence == "" {
		return true
	}
	c, err := p.Confidence.Float64()
	return err == nil && c >= threshold
}

func (t *turn) named(b *modelBody, i intent) move {
	if b.variable != nil && !t.set(*b.variable, i.name) {
		t.warn("{" + b.variable.source + "} may not be written")
	}
	return move{outcome: i.name}
}

// noIntent asks again as often as no_match.max allows; without it, never.
func (t *turn) noIntent(n *node, k *Talk) move {
	e := n.voice.noMatch
	bad := t.misunderstoodAt(n)
	if bad >= max(e.max, 1) {
		return t.giveUp("no_match", e.then)
	}
	said := sayAgain
	if p, ok := e.prompt(bad); ok {
		said = t.local(p)
	}
	return t.listenFor(n, k, t.intentTakes(n), []Message{{Type: "text", Text: said}})
}

// matchIntent finds the only intent of which the words are an example, or the
// name, but for fillers, case and order.
func matchIntent(list []intent, said string) (intent, bool) {
	want := wordSet(said)
	var found []intent
	for _, i := range list {
		if slices.ContainsFunc(i.phrases(), func(p string) bool { return len(want) > 0 && slices.Equal(wordSet(p), want) }) {
			found = append(found, i)
		}
	}
	if len(found) != 1 {
		return intent{}, false
	}
	return found[0], true
}

// likeliest finds the intent whose examples share the most words with what was
// said: at least the threshold of all words of both, and more than any other.
func likeliest(list []intent, said string, threshold float64) (intent, bool) {
	want := wordSet(said)
	best, second, at := 0.0, 0.0, -1
	for n, i := range list {
		own := 0.0
		for _, p := range i.phrases() {
			own = max(own, overlap(want, wordSet(p)))
		}
		if own > best {
			best, second, at = own, best, n
		} else {
			second = max(second, own)
		}
	}
	if at < 0 || best < threshold || best == second {
		return intent{}, false
	}
	return list[at], true
}

func (i intent) phrases() []string { return append([]string{i.name}, i.examples...) }

// wordSet is the sorted words of a text but for fillers, each once.
func wordSet(s string) []string {
	w := dropFillers(words(s))
	slices.Sort(w)
	return slices.Compact(w)
}

// overlap is the share of words that two sets have in common.
func overlap(a, b []string) float64 {
	common := 0
	for _, w := range a {
		if _, ok := slices.BinarySearch(b, w); ok {
			common++
		}
	}
	if all := len(a) + len(b) - common; all > 0 {
		return float64(common) / float64(all)
	}
	return 0
}
