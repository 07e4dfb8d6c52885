package flow

import (
	"fmt"
	"slices"
	"testing"
)

func TestCheckCalls(t *testing.T) {
	webhook := func(content string) string {
		return `{"nodes": [{"id": "w", "type": "webhook", "content": {"url": "https://x.example/"` + content + `}, "connections": {"error": "@end"}}]}`
	}
	config := func(config string) string {
		return `{"nodes": [{"id": "a", "type": "action", "content": {"actions": [{"type": "api_call", "config": {"endpoint": "/x"` + config + `}}]}, "connections": {"error": "@end"}}]}`
	}
	tests := []struct {
		doc  string
		want []string
	}{
		{webhook(``), nil},
		{webhook(`, "timeout": 5`), []string{"unit /nodes/0/content"}},
		{webhook(`, "timeout": 3000, "retry": {"attempts": 3, "delay": 1000}`), []string{"dead-air /nodes/0/content"}},
		{webhook(`, "timeout": 3000, "retry": {"attempts": 3, "delay": 1000}, "say_while": "One moment."`), nil},
		{webhook(`, "timeout": 1000, "retry": {"attempts": 4, "delay": 1000, "backoff": 2, "max": 1000}`), nil},
		{webhook(`, "timeout": 1000, "retry": {"attempts": 4, "delay": 1000, "backoff": 2}`), []string{"dead-air /nodes/0/content"}},
		{webhook(`, "circuit_breaker": {"timeout": 30000}`), []string{"unit /nodes/0/content/circuit_breaker/timeout"}},
		{config(`, "timeout": 3`), nil},
		{config(`, "timeout": 3000`), []string{"unit /nodes/0/content/actions/0", "dead-air /nodes/0/content/actions/0"}},
	}
	for _, tt := range tests {
		var got []string
		for _, p := range mustParse(t, tt.doc).Check() {
			got = append(got, fmt.Sprint(p.Code, " ", p.Pointer))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.doc, got, tt.want)
		}
	}
}
