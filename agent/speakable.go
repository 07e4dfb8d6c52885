package agent

import "strings"

// Speakable turns written text into text to be spoken. (First cut.)
func Speakable(text string) string { return strings.TrimSpace(text) }
