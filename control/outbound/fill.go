package outbound

import (
	"fmt"
	"regexp"
)

var placeholder = regexp.MustCompile(`\{([A-Za-z_][A-Za-z0-9_]{0,63})\}`)

// Fill puts an order's variables where a prompt names them in braces: "You call
// {name}." What is not among them stays as it is.
func Fill(text string, variables map[string]any) string {
	return placeholder.ReplaceAllStringFunc(text, func(found string) string {
		v, ok := variables[found[1:len(found)-1]]
		if !ok {
			return found
		}
		switch v.(type) {
		case string, bool, float64, int:
			return fmt.Sprint(v)
		}
		return found
	})
}
