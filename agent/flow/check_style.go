package flow

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
)

// manyNodes in one graph are better parted into sub-flows.
const manyNodes = 50

var (
	goodName  = regexp.MustCompile(`^[a-z][a-z0-9]*([_.-][a-z0-9]+)*$`)
	emptyName = regexp.MustCompile(`^(node|step|block|item|untitled|new|copy|n|x)[_-]?[0-9]*$`)
)

// style tells of good practice that a document does not follow.
func (k *checker) style(doc map[string]any) {
	info := func(ptr, code, message, fix string) { k.add(SeverityInfo, ptr, code, message, fix) }
	if !semantic(k.f.Version) {
		info("/version", "no-version", "the document has no semantic version, which composites choose by", "write \"version\": \"1.0.0\", and raise it with every change")
	}
	if list, ok := doc["tests"].([]any); !ok || len(list) == 0 {
		info("/tests", "no-tests", "nothing tests the paths of this flow", "add \"tests\"; parley flow test runs them")
	}
	if text(doc["description"]) == "" && text(doc["note"]) == "" {
		info("/description", "no-description", "the document does not say what it is for", "add \"description\"")
	}
	k.names(k.f.root)
}

func (k *checker) names(g *graph) {
	if n := len(g.order); n > manyNodes {
		k.add(SeverityInfo, g.entryPtr, "large-flow", fmt.Sprintf("%d nodes stand in one graph", n), "move parts of it into sub-flows (composite)")
	}
	for _, n := range g.order {
		if n.id[0] != '#' && (!goodName.MatchString(n.id) || emptyName.MatchString(n.id) || len(n.id) > 60) {
			k.add(SeverityInfo, n.ptr, "node-name", fmt.Sprintf("the id %q tells nobody what the node is for", n.id), "use lower-case words, such as ask_name")
		}
		if b, ok := n.body.(*compositeBody); ok && b.inline != nil {
			k.names(b.inline)
		}
	}
}

// spans are times by the field that holds them: what is shorter or longer looks
// like the other unit.
var spans = map[string]struct {
	least, most float64
	unit        string
}{
	"timeout_ms": {100, 300_000, "milliseconds"}, "inter_digit_ms": {100, 60_000, "milliseconds"},
	"filler_after_ms": {100, 60_000, "milliseconds"}, "end_silence_ms": {50, 10_000, "milliseconds"},
	"typing_delay": {0, 60, "seconds"},
}

// units looks for times in the wrong unit, wherever they stand.
func (k *checker) units(v any, ptr, key string) {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range sortedKeys(v) {
			if ptr != "" || name == "nodes" || name == "defaults" {
				k.units(v[name], ptr+"/"+escapePointer(name), name)
			}
		}
	case []any:
		for i, e := range v {
			k.units(e, ptr+"/"+strconv.Itoa(i), key)
		}
	case json.Number:
		s, ok := spans[key]
		if n, err := v.Float64(); ok && err == nil && n > 0 && (n < s.least || n > s.most) {
			k.add(SeverityWarning, ptr, "unit", key+" is "+string(v), "it is in "+s.unit)
		}
	}
}
