package flow

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// A Use is one flow that another names as a composite.
type Use struct {
	Flow string // id or name
	// Version is "" for what is published, "#3" for a version by its number,
	// else a range of the documents' own versions; see [ParseRange].
	Version string
}

// Key names the use: what [Flow.With] is given and a session's pins are kept by.
func (u Use) Key() string {
	if u.Version == "" {
		return u.Flow
	}
	return u.Flow + "@" + u.Version
}

// Number returns the version of a use that names one by its number.
func (u Use) Number() (int, bool) {
	digits, ok := strings.CutPrefix(u.Version, "#")
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil && n > 0
}

// A release is a semantic version (semver.org, 2.0.0). Build metadata is read
// past.
type release struct {
	part [3]int
	pre  string
}

// compare orders releases; one with a pre-release tag comes before the same
// without. Tags are compared as texts, which is enough to tell them apart.
func (a release) compare(b release) int {
	for i := range a.part {
		if c := cmp.Compare(a.part[i], b.part[i]); c != 0 {
			return c
		}
	}
	switch {
	case a.pre == b.pre:
		return 0
	case a.pre == "":
		return 1
	case b.pre == "":
		return -1
	}
	return cmp.Compare(a.pre, b.pre)
}

// readRelease reads up to three numbers, and tells how many there are; x and *
// end them.
func readRelease(s string) (r release, n int, err error) {
	bad := fmt.Errorf("%q is no version", s)
	s, _, _ = strings.Cut(strings.TrimPrefix(s, "v"), "+")
	s, pre, tagged := strings.Cut(s, "-")
	parts := strings.Split(s, ".")
	for i, p := range parts {
		if i == 3 {
			return r, n, bad
		}
		if p == "x" || p == "X" || p == "*" {
			break
		}
		v, err := strconv.Atoi(p)
		if err != nil || v < 0 || v > 1_000_000_000 || p[0] == '+' {
			return r, n, bad
		}
		r.part[i], n = v, i+1
	}
	if r.pre = pre; tagged && (n < 3 || pre == "") {
		return r, n, bad
	}
	return r, n, nil
}

// A Range is a set of semantic versions.
type Range struct {
	from  release
	below release // excluded; unused where exact
	exact bool
	any   bool
}

// ParseRange reads "1.4.2" (that one), "^1.2" (no other major version, not
// older), "~1.4.0" (no other minor version, not older), "1.x", "1.4.x", "1" and
// "*". A version with a pre-release tag is in a range only if the range is that
// version.
func ParseRange(s string) (Range, error) {
	s = strings.TrimSpace(s)
	op, rest := "", s
	if s != "" && (s[0] == '^' || s[0] == '~') {
		op, rest = s[:1], strings.TrimSpace(s[1:])
	}
	from, n, err := readRelease(rest)
	if err != nil || op != "" && n == 0 {
		return Range{}, fmt.Errorf("%q is no version or range of versions", s)
	}
	if n == 0 {
		return Range{any: true}, nil
	}
	if op == "" && n == 3 {
		return Range{from: from, exact: true}, nil
	}
	// raise is the number that a later version may not have another of.
	raise := n - 1
	switch op {
	case "^": // the first number that is not zero
		for raise = 0; raise < n-1 && from.part[raise] == 0; {
			raise++
		}
	case "~":
		raise = min(n-1, 1)
	}
	r := Range{from: from}
	copy(r.below.part[:raise+1], from.part[:raise+1])
	r.below.part[raise]++
	return r, nil
}

// Has tells whether a document's version lies in r.
func (r Range) Has(version string) bool {
	v, n, err := readRelease(version)
	switch {
	case err != nil || n == 0:
		return false
	case r.exact:
		return v.compare(r.from) == 0
	case v.pre != "":
		return false
	case r.any:
		return true
	}
	return v.compare(r.from) >= 0 && v.compare(r.below) < 0
}

// Newer tells whether version a is a later one than b; what is no semantic
// version is older than any that is.
func Newer(a, b string) bool {
	x, n, err := readRelease(a)
	if err != nil || n == 0 {
		return false
	}
	y, n, err := readRelease(b)
	return err != nil || n == 0 || x.compare(y) > 0
}

// semantic tells whether s is a whole semantic version.
func semantic(s string) bool {
	_, n, err := readRelease(s)
	return err == nil && n == 3 && s[0] != 'v'
}

// pinned reads a composite's version: a whole number is that of a version, all
// else is a range.
func pinned(v any) (string, error) {
	if n, ok := v.(json.Number); ok {
		if i, err := strconv.Atoi(string(n)); err == nil && i > 0 {
			return "#" + strconv.Itoa(i), nil
		}
	}
	s := strings.TrimSpace(text(v))
	if s == "" || fold(s) == "latest" || fold(s) == "published" {
		return "", nil
	}
	if u := (Use{Version: s}); s[0] == '#' {
		if _, ok := u.Number(); ok {
			return s, nil
		}
	}
	_, err := ParseRange(s)
	return s, err
}
