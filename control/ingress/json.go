package ingress

import (
	"encoding/json"
	"net/http"
)

// MaxDepth is how deep JSON may nest before anything decodes it. Documents of
// ours allow less, each by itself.
const MaxDepth = 64

// CheckJSON looks a body over before it is decoded: not nested beyond
// [MaxDepth], and with keys set, no object that holds a name twice, of which a
// proxy or a log might see the one and the decoder the other. Whether it is
// JSON at all is the decoder's to say. Nil: nothing was found.
func CheckJSON(body []byte, keys bool) *Refusal {
	s := jsonScan{body: body, keys: keys}
	for s.at < len(body) {
		if r := s.step(); r != nil {
			return r
		}
	}
	return nil
}

// jsonScan walks the marks of JSON without judging what stands between.
type jsonScan struct {
	body  []byte
	keys  bool
	at    int
	level int
	names [MaxDepth + 1]map[string]struct{} // of the objects that are open; nil for an array
	name  bool                              // the next string is a name
}

func (s *jsonScan) step() *Refusal {
	c := s.body[s.at]
	s.at++
	switch c {
	case '{', '[':
		if s.level == MaxDepth {
			return &Refusal{"json-depth", http.StatusBadRequest, "malformed", "the JSON is nested too deep"}
		}
		s.level++
		s.names[s.level], s.name = nil, false
		if c == '{' && s.keys {
			s.names[s.level], s.name = map[string]struct{}{}, true
		}
	case '}', ']':
		s.level = max(s.level-1, 0)
		s.name = false
	case ',':
		s.name = s.names[s.level] != nil
	case '"':
		return s.text()
	}
	return nil
}

// text passes a string, whose first quote is behind.
func (s *jsonScan) text() *Refusal {
	from := s.at
	for s.at < len(s.body) && s.body[s.at] != '"' {
		if s.body[s.at] == '\\' {
			s.at++
		}
		s.at++
	}
	s.at++
	if !s.name || s.at > len(s.body) {
		return nil
	}
	s.name = false
	var name string
	if json.Unmarshal(s.body[from-1:s.at], &name) != nil {
		return nil // not JSON: the decoder says so
	}
	if _, twice := s.names[s.level][name]; twice {
		return &Refusal{"json-name", http.StatusBadRequest, "malformed", "an object of the JSON holds a name twice"}
	}
	s.names[s.level][name] = struct{}{}
	return nil
}
