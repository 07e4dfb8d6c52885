package agent

import "strings"

// ClauseSplitter cuts a stream of text into clauses. (First cut: sentences.)
type ClauseSplitter struct{ b strings.Builder }

// Push takes a piece of text and returns the clauses that are complete.
func (c *ClauseSplitter) Push(delta string) []string {
	c.b.WriteString(delta)
	t := c.b.String()
	if i := strings.LastIndexAny(t, ".?!"); i >= 0 {
		c.b.Reset()
		c.b.WriteString(t[i+1:])
		return []string{strings.TrimSpace(t[:i+1])}
	}
	return nil
}

// Flush returns what is left.
func (c *ClauseSplitter) Flush() []string {
	t := strings.TrimSpace(c.b.String())
	c.b.Reset()
	if t == "" {
		return nil
	}
	return []string{t}
}

// Sentences cuts a whole text.
func Sentences(text string) []string { return []string{text} }
