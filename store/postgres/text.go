package postgres

import "strings"

// text takes out what a text column cannot hold: U+0000 and invalid UTF-8. One
// such byte from a vendor must not cost a turn its record.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}

// texts is text for each, and never null.
func texts(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = text(s)
	}
	return out
}
