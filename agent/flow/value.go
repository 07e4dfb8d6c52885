package flow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Values are those of JSON: nil, bool, string, json.Number, []any and
// map[string]any. Numbers stay decimal text, so that none loses precision. No
// value is changed once it is made: a state shares them with the one before.

// maxNumber is the longest number kept, written without an exponent. Postgres
// prints a jsonb number in full, and 1e100000 must not become 100 kB.
const maxNumber = 400

// number returns n as jsonb prints it: no exponent, no plus sign, no -0.
func number(n json.Number) (json.Number, bool) {
	s := string(n)
	if s == "" || len(s) > maxNumber {
		return "", false
	}
	mant, exp, hasExp := strings.Cut(strings.ToLower(s), "e")
	if !hasExp {
		return json.Number(trimMinusZero(s)), true
	}
	e, err := strconv.Atoi(exp)
	if err != nil || e > maxNumber || e < -maxNumber {
		return "", false
	}
	neg := strings.HasPrefix(mant, "-")
	mant = strings.TrimPrefix(mant, "-")
	whole, frac, _ := strings.Cut(mant, ".")
	switch {
	case e >= len(frac):
		whole, frac = whole+frac+strings.Repeat("0", e-len(frac)), ""
	case e > 0:
		whole, frac = whole+frac[:e], frac[e:]
	case e < 0:
		whole = strings.Repeat("0", max(0, -e-len(whole)+1)) + whole
		frac = whole[len(whole)+e:] + frac
		whole = whole[:len(whole)+e]
	}
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	if frac != "" {
		whole += "." + frac
	}
	if neg {
		whole = "-" + whole
	}
	return json.Number(trimMinusZero(whole)), true
}

func trimMinusZero(s string) string {
	if s[0] == '-' && strings.Trim(s[1:], "0.") == "" {
		return s[1:]
	}
	return s
}

// clean makes a value of anything that encoding/json could have made or can
// encode: text without U+0000 and invalid UTF-8, numbers as jsonb prints them,
// nil for what has no form in JSON and for what lies deeper than depth.
func clean(v any, depth int) any {
	if depth < 0 {
		return nil
	}
	switch v := v.(type) {
	case nil, bool:
		return v
	case string:
		return cleanText(v)
	case json.Number:
		if n, ok := number(v); ok {
			return n
		}
		return nil
	case int:
		return json.Number(strconv.Itoa(v))
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = clean(e, depth-1)
		}
		return out
	case map[string]any:
		return cleanObject(v, depth)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	w, err := decodeValue(b)
	if err != nil {
		return nil
	}
	return clean(w, depth)
}

// cleanObject cleans the keys too: where two become one, the one that was clean
// stays, else the first by name, so that a replay finds the same.
func cleanObject(m map[string]any, depth int) map[string]any {
	out := make(map[string]any, len(m))
	var unclean []string
	for k, e := range m {
		if cleanText(k) != k {
			unclean = append(unclean, k)
			continue
		}
		out[k] = clean(e, depth-1)
	}
	slices.Sort(unclean)
	for _, k := range unclean {
		c := cleanText(k)
		if _, taken := out[c]; !taken {
			out[c] = clean(m[k], depth-1)
		}
	}
	return out
}

func cleanText(s string) string {
	if utf8.ValidString(s) && !strings.Contains(s, "\x00") {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, ""), "\x00", "")
}

// decodeValue reads one JSON value, numbers as text.
func decodeValue(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("more than one JSON value")
	}
	return v, nil
}

// appendCanonical writes v with sorted keys, without blanks and with the least
// escaping, so that equal values have equal bytes.
func appendCanonical(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case string:
		return appendString(dst, v)
	case json.Number:
		n, ok := number(v)
		if !ok {
			n = "null"
		}
		return append(dst, n...)
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendCanonical(dst, e)
		}
		return append(dst, ']')
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		dst = append(dst, '{')
		for i, k := range keys {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendString(dst, k)
			dst = append(dst, ':')
			dst = appendCanonical(dst, v[k])
		}
		return append(dst, '}')
	}
	return append(dst, "null"...)
}

func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// text is how a value stands inside a sentence (docs/flow.md, Variables).
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case json.Number:
		return shortest(v)
	}
	return string(appendCanonical(nil, v))
}

// shortest writes a number without the zeros that say nothing.
func shortest(n json.Number) string {
	c, ok := number(n)
	if !ok {
		return ""
	}
	s := string(c)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// numeric returns v as a number; with loose, also from text that is one.
func numeric(v any, loose bool) (json.Number, bool) {
	switch v := v.(type) {
	case json.Number:
		return number(v)
	case string:
		if loose {
			return parseNumber(v)
		}
	}
	return "", false
}

// parseNumber reads a number as a person or program writes it, blanks around it.
func parseNumber(s string) (json.Number, bool) {
	s = strings.TrimPrefix(strings.TrimSpace(s), "+")
	if strings.HasPrefix(s, ".") {
		s = "0" + s
	}
	if s == "" || !json.Valid([]byte(s)) || (s[0] != '-' && (s[0] < '0' || s[0] > '9')) {
		return "", false
	}
	return number(json.Number(s))
}

// compareNumbers orders two canonical numbers exactly.
func compareNumbers(a, b json.Number) int {
	if x, err := a.Int64(); err == nil {
		if y, err := b.Int64(); err == nil {
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return 0
		}
	}
	x, _ := new(big.Rat).SetString(string(a))
	y, _ := new(big.Rat).SetString(string(b))
	if x == nil || y == nil {
		return strings.Compare(string(a), string(b))
	}
	return x.Cmp(y)
}

// addNumbers returns a+b (or a-b), exactly.
func addNumbers(a, b json.Number, minus bool) (json.Number, bool) {
	x, okx := new(big.Rat).SetString(string(a))
	y, oky := new(big.Rat).SetString(string(b))
	if !okx || !oky {
		return "", false
	}
	if minus {
		y.Neg(y)
	}
	return ratNumber(x.Add(x, y))
}

// ratNumber writes r as a decimal, exactly where that is possible in 20 places.
func ratNumber(r *big.Rat) (json.Number, bool) {
	if r.IsInt() {
		return number(json.Number(r.Num().String()))
	}
	s := r.FloatString(20)
	return number(json.Number(strings.TrimRight(s, "0")))
}

// equal compares two values by what they say: 1 and 1.0 are equal, and with
// loose so are 1 and "1".
func equal(a, b any, loose bool) bool {
	_, an := a.(json.Number)
	_, bn := b.(json.Number)
	if an || bn {
		x, okx := numeric(a, loose)
		y, oky := numeric(b, loose)
		return okx && oky && compareNumbers(x, y) == 0
	}
	switch a := a.(type) {
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, func(x, y any) bool { return equal(x, y, loose) })
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, x := range a {
			if y, ok := b[k]; !ok || !equal(x, y, loose) {
				return false
			}
		}
		return true
	case nil, bool, string:
		switch b.(type) {
		case nil, bool, string:
			return a == b
		}
	}
	return false
}

// lookup follows path in v. A numeric part indexes a list from 0.
func lookup(v any, path []string) (any, bool) {
	for _, p := range path {
		switch w := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = w[p]; !ok {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(p)
			if err != nil || i < 0 || i >= len(w) {
				return nil, false
			}
			v = w[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// assign returns v with the value at path set, sharing all else with v. What
// stands in the way and is neither object nor list becomes an object.
func assign(v any, path []string, set any) any {
	if len(path) == 0 {
		return set
	}
	if list, ok := v.([]any); ok {
		if i, err := strconv.Atoi(path[0]); err == nil && i >= 0 && i < len(list) {
			out := slices.Clone(list)
			out[i] = assign(list[i], path[1:], set)
			return out
		}
		return v
	}
	old, _ := v.(map[string]any)
	out := make(map[string]any, len(old)+1)
	for k, e := range old {
		out[k] = e
	}
	out[path[0]] = assign(old[path[0]], path[1:], set)
	return out
}

// without returns v with the value at path removed.
func without(v any, path []string) any {
	if _, ok := lookup(v, path); !ok || len(path) == 0 {
		return v
	}
	if len(path) > 1 {
		parent, _ := lookup(v, path[:len(path)-1])
		return assign(v, path[:len(path)-1], without(parent, path[len(path)-1:]))
	}
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			if k != path[0] {
				out[k] = e
			}
		}
		return out
	case []any:
		i, _ := strconv.Atoi(path[0])
		return slices.Delete(slices.Clone(v), i, i+1)
	}
	return v
}
