package flow

// Lookup resolves a reference, written without braces, as a text of the flow
// would; a secret never resolves.
func (f *Flow) Lookup(s State, reference string) (any, bool) {
	if !isName(reference, true) {
		return nil, false
	}
	r := parseRef(reference, f.bare)
	return (&turn{f: f, s: s}).resolve(&r)
}

// Tests returns the value of the document's "tests", nil if it has none.
func (f *Flow) Tests() any { return f.tests }

// Canonical returns the document with sorted keys, without blanks and with the
// least escaping: equal documents give equal bytes, and no field is lost.
func (f *Flow) Canonical() []byte {
	v, err := decodeValue(f.doc)
	if err != nil {
		return f.Document() // Parse took it: cannot happen
	}
	return appendCanonical(nil, v)
}
