// Package class says what kind of data something is, and keeps it from where
// that kind may not go: logs, labels of metrics, events.
package class

import "slices"

// A Class is a kind of data. What nobody has labelled is [Personal].
type Class string

// The classes, from what anybody may see to what nobody may.
const (
	Public   Class = "public"   // fixed words, counts, versions
	Internal Class = "internal" // ids, names that the tenant gave to its things, our own errors
	Personal Class = "personal" // of a person: names, numbers, addresses, what was said
	Audio    Class = "audio"    // voices
	Secret   Class = "secret"   // keys, tokens, passwords
)

// All lists the classes in their order.
func All() []Class { return []Class{Public, Internal, Personal, Audio, Secret} }

// Within tells whether a sink that takes classes up to most may hold c.
func (c Class) Within(most Class) bool {
	order := All()
	at := slices.Index(order, c)
	if at < 0 {
		at = slices.Index(order, Personal)
	}
	return at <= slices.Index(order, most)
}

// Mask is what stands for a value that may not be there.
func (c Class) Mask() string {
	if c == "" {
		c = Personal
	}
	return "[" + string(c) + "]"
}
