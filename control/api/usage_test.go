package api_test

import (
	"fmt"
	"strings"
	"testing"
)

// wantLedger reads the ledger of a call that had a minute of nova-3 recognized,
// and finds it by what was said.
func wantLedger(t *testing.T, p *plane, path, key string) {
	t.Helper()
	if got := p.want(200, "GET", path, key, ""); fmt.Sprint(got["cost"]) != "[map[currency:USD micros:7700]]" {
		t.Errorf("cost %v", got["cost"])
	}
	items := p.want(200, "GET", path+"/usage", key, "")["items"].([]any)
	if len(items) == 0 || items[0].(map[string]any)["kind"] != "stt_ms" {
		t.Errorf("usage of the call: %v", items)
	}
	items = p.want(200, "GET", "/v1/usage?by=vendor,kind", key, "")["items"].([]any)
	if len(items) == 0 || items[0].(map[string]any)["vendor"] != "deepgram" || items[0].(map[string]any)["amount"] != 60000.0 {
		t.Errorf("usage: %v", items)
	}
	p.want(422, "GET", "/v1/usage?by=caller", key, "")
	p.want(422, "GET", "/v1/usage/export?from=now", key, "")
	p.want(200, "GET", "/v1/prices/built-in", key, "")
	price := `{"kind":"stt_ms","vendor":"deepgram","currency":"EUR","micros":1,"per":60000}`
	if got := p.want(201, "POST", "/v1/prices", key, price); got["increment"] != 1.0 {
		t.Errorf("price %v", got)
	}
	p.want(422, "POST", "/v1/prices", key, strings.Replace(price, "EUR", "euro", 1))
	if items := p.want(200, "GET", "/v1/prices", key, "")["items"].([]any); len(items) != 1 {
		t.Errorf("own prices: %v", items)
	}
	if got := p.want(200, "GET", path, key, ""); fmt.Sprint(got["cost"]) != "[map[currency:USD micros:7700]]" {
		t.Errorf("a later price changed the cost to %v", got["cost"])
	}
	items = p.want(200, "GET", "/v1/calls/search?q=%22hello+there%22", key, "")["items"].([]any)
	if len(items) != 1 || !strings.Contains(fmt.Sprint(items), "Hello there") {
		t.Errorf("search: %v", items)
	}
	p.want(422, "GET", "/v1/calls/search?q=%26", key, "")
}
