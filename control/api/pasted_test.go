package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// flow returns the path of the demo tenant's flow.
func (p *plane) flow() string {
	return "/v1/flows/" + p.want(200, "GET", "/v1/flows", p.demo.APIKey, "")["items"].([]any)[0].(map[string]any)["id"].(string)
}

// A key that was pasted into a field that others see is refused, by a word on
// where it belongs, and is in no answer, row or log.
func TestPastedSecretsAreRefused(t *testing.T) {
	p := newPlane(t)
	boss, _ := p.enter("admin@example.com", password)
	key, flow := p.demo.APIKey, p.flow()
	agent := p.demo.Agents[0].ID.String()
	content := "/v1/content/" + p.want(201, "POST", "/v1/content", key, `{"type":"message","content":"Hello."}`)["id"].(string)
	hook := "/v1/webhooks/" + p.want(201, "POST", "/v1/webhooks", key, `{"name":"crm","url":"https://crm.example/hook?x=1"}`)["id"].(string)
	made := p.want(201, "POST", "/v1/keys", "", `{"name":"ci","scopes":["agents.read"]}`, "Cookie", boss)
	apiKey, tenant := "/v1/keys/"+made["id"].(string), "/v1/tenants/"+p.demo.Tenant.String()

	const prompt = `{"kind":"prompt","prompt":"Be kind."`
	tests := []struct{ field, method, path, body string }{ // % is what was pasted
		{"name", "POST", "/v1/agents", `{"name":"%","settings":` + prompt + `}}`},
		{"settings.prompt", "POST", "/v1/agents", `{"name":"a","settings":{"kind":"prompt","prompt":"Use % for it."}}`},
		{"settings.greeting", "POST", "/v1/agents", `{"name":"a","settings":` + prompt + `,"greeting":"%"}}`},
		{"settings.language", "POST", "/v1/agents", `{"name":"a","settings":` + prompt + `,"language":"%"}}`},
		{"settings.tts[0].voice", "POST", "/v1/agents", `{"name":"a","settings":` + prompt + `,"tts":[{"vendor":"local","voice":"%"}]}}`},
		{"settings.llm[0].credential", "POST", "/v1/agents", `{"name":"a","settings":` + prompt + `,"llm":[{"vendor":"openai","credential":"%"}]}}`},
		{"settings.transfers[0].name", "POST", "/v1/agents", `{"name":"a","settings":` + prompt + `,"transfers":[{"name":"%","to":"+15550100"}]}}`},
		{"settings.transfers[0].to", "POST", "/v1/agents", `{"name":"a","settings":` + prompt + `,"transfers":[{"name":"x","to":"client:%"}]}}`},
		{"name", "POST", "/v1/flows", `{"name":"%","document":` + greeting + `}`},
		{"name", "PATCH", flow, `{"name":"%"}`},
		{"origins[0]", "PATCH", flow, `{"origins":["https://shop.example?t=%"]}`},
		{"document/nodes/0/content/text", "POST", flow + "/versions", `{"document":{"nodes":[{"id":"a","type":"message","content":{"text":"Call with %"}}]}}`},
		{"document/nodes/0/content/text", "PUT", flow + "/draft", `{"document":{"nodes":[{"id":"a","content":{"text":"%"}}]}}`},
		{"document/nodes/0", "PUT", flow + "/draft", `{"document":{"nodes":[{"%":"a"}]}}`},
		{"content", "POST", "/v1/content", `{"type":"message","content":"The key is %"}`},
		{"content", "PATCH", content, `{"content":"%"}`},
		{"tags[1]", "POST", "/v1/content", `{"type":"message","content":"Hello.","tags":["a","%"]}`},
		{"variant_key", "POST", content + "/variants", `{"variant_key":"%","variant_data":"Hi."}`},
		{"variant_data", "POST", content + "/variants", `{"variant_key":"b","variant_data":"%"}`},
		{"number", "POST", "/v1/numbers", `{"number":"%","agent_id":"` + agent + `"}`},
		{"name", "POST", "/v1/webhooks", `{"name":"%","url":"https://crm.example/hook"}`},
		{"url", "POST", "/v1/webhooks", `{"name":"w","url":"https://crm.example/hook?x=%"}`},
		{"url", "POST", "/v1/webhooks", `{"name":"w","url":"https://%@crm.example/hook"}`},
		{"url", "PATCH", hook, `{"url":"https://crm.example/hook?token=short"}`},
		{"url", "PATCH", hook, `{"url":"https://user:%@crm.example/hook"}`},
		{"headers", "POST", "/v1/webhooks", `{"name":"w","url":"https://crm.example/hook","headers":{"%":"x"}}`},
		{"events[0]", "POST", "/v1/webhooks", `{"name":"w","url":"https://crm.example/hook","events":["%"]}`},
		{"name", "POST", "/v1/keys", `{"name":"%","scopes":["agents.read"]}`},
		{"name", "PATCH", apiKey, `{"name":"for %"}`},
		{"origins[0]", "PATCH", apiKey, `{"allowed_origins":["https://shop.example?k=%"]}`},
		{"name", "POST", "/v1/tenants", `{"name":"%","owner_email":"o@example.com"}`},
		{"owner_email", "POST", "/v1/tenants", `{"name":"Acme","owner_email":"%@example.com"}`},
		{"name", "PATCH", tenant, `{"name":"%"}`},
		{"email", "POST", "/v1/invitations", `{"email":"%@example.com","role":"viewer"}`},
		{"key", "PUT", "/v1/secrets/%", `{"value":"v","hosts":["api.example.com"]}`},
		{"hosts[0]", "PUT", "/v1/secrets/crm", `{"value":"v","hosts":["%"]}`},
	}
	pasted := map[string]string{"a vendor's": "sk-proj-canaryA1b2C3d4E5f6G7h8", "a carrier's": "SK0123456789abcdef0123456789abcdef"}
	for kind, secret := range pasted {
		for _, tt := range tests {
			resp, got := p.do(tt.method, strings.ReplaceAll(tt.path, "%", secret), "", strings.ReplaceAll(tt.body, "%", secret), "Cookie", boss)
			raw, _ := json.Marshal(got)
			what := fmt.Sprintf("%s %s, %s with %s key", tt.method, tt.path, tt.field, kind)
			if resp.StatusCode != 422 || !strings.Contains(string(raw), "secret") || strings.Contains(strings.ToLower(string(raw)), strings.ToLower(secret)) {
				t.Errorf("%s: %d %s", what, resp.StatusCode, strings.ReplaceAll(string(raw), secret, "[IT]"))
				continue
			}
			f, _ := got["errors"].([]any)
			if len(f) != 1 || f[0].(map[string]any)["location"] != tt.field ||
				!strings.Contains(f[0].(map[string]any)["message"].(string), "/v1/secrets/{key}") {
				t.Errorf("%s: %s", what, raw)
			}
		}
	}
	p.hides(pasted["a vendor's"], pasted["a carrier's"])
}

// What only looks a little like a secret is taken.
func TestPlainFieldsAreTaken(t *testing.T) {
	p := newPlane(t)
	boss, _ := p.enter("admin@example.com", password)
	flow := p.flow()
	for _, tt := range []struct{ method, path, body string }{
		{"PUT", flow + "/draft", `{"document":{"nodes":[{"id":"V1StGXR8Z5jdHi6BmyT3q","content":{"text":"Look:","url":"https://shop.example/p/V1StGXR8Z5jdHi6BmyT3q"}}],"positions":{"V1StGXR8Z5jdHi6BmyT3q":[1,2]}}}`},
		{"POST", "/v1/content", `{"type":"message","content":"Order ` + uuid.NewString() + ` is on its way.","tags":["2026-10-05"]}`},
		{"POST", "/v1/webhooks", `{"name":"Orders, production","url":"https://hooks.example/services/T00/B00/aB3dE5gH7jK9mN1pQ3sT5vW7?source=parley","headers":{"Authorization":"Bearer sk-proj-canaryA1b2C3d4E5f6G7h8"}}`},
		{"POST", "/v1/keys", `{"name":"Shop, key no. 2 of 2026-10","scopes":["agents.read"]}`},
		{"POST", "/v1/invitations", `{"email":"maria-anna.von-der-lippe1987@example.com","role":"viewer"}`},
	} {
		if resp, got := p.do(tt.method, tt.path, "", tt.body, "Cookie", boss); resp.StatusCode > 299 {
			t.Errorf("%s %s: %d %v", tt.method, tt.path, resp.StatusCode, got)
		}
	}
}
