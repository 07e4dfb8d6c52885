package api

import (
	"cmp"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// schemes are the ways to say who asks.
func schemes() map[string]*huma.SecurityScheme {
	return map[string]*huma.SecurityScheme{
		"bearer": {Type: "http", Scheme: "bearer", Description: "An API key or an access token; for a chat, its session token."},
		"key":    {Type: "apiKey", In: "header", Name: "X-API-Key", Description: "An API key."},
		"cookie": {Type: "apiKey", In: "cookie", Name: cookieName, Description: "A signed-in browser. What changes something is taken from our own pages alone."},
		"chat":   {Type: "apiKey", In: "cookie", Name: chatCookie, Description: "A browser in a chat; with the csrf header where something changes."},
		"csrf":   {Type: "apiKey", In: "header", Name: "X-CSRF-Token", Description: "The same as the cookie csrf_token."},
	}
}

// security says which of them a class takes; public and webhook none of them.
func (r Route) security() []map[string][]string {
	ways := []map[string][]string{}
	switch r.Class {
	case Tenanted, Admin:
		ways = append(ways, map[string][]string{"bearer": {}}, map[string][]string{"key": {}}, map[string][]string{"cookie": {}})
	case Session:
		ways = append(ways, map[string][]string{"bearer": {}}, map[string][]string{"key": {}}, map[string][]string{})
		if strings.HasPrefix(r.Pattern, "/chat/sessions/") {
			ways[2]["chat"] = []string{}
			if r.Method != http.MethodGet {
				ways[2]["csrf"] = []string{}
			}
		}
	}
	return ways
}

// describe adds to an operation what its route says: who may come, with what
// permission, how often, and whether requests may name themselves.
func (s *Server) describe(op *huma.Operation, r Route) {
	op.Security = r.security()
	op.Extensions = map[string]any{
		"x-class": r.Class, "x-permission": r.Permission,
		"x-limit": map[string]any{"requests": r.Limit.N, "seconds": int(r.Limit.Per.Seconds())},
	}
	if r.Body > 0 {
		op.Extensions["x-body-limit"] = r.Body
	}
	who := fmt.Sprintf("Class %s, permission %s, %d requests in %s.", r.Class, r.Permission, r.Limit.N, r.Limit.Per)
	op.Description = strings.TrimSpace(op.Description + "\n\n" + who)
	if r.nameable() {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: idempotencyHeader, In: "header",
			Description: "A name of your own for this request, such as a UUID. Sent again within 24 hours, the request takes effect no second time: " +
				"the first answer comes again, with Idempotency-Replayed: true. With other content it is refused (422 idempotency_mismatch); while the first is in progress, too (409 in_progress).",
			Schema:  &huma.Schema{Type: "string", MinLength: new(1), MaxLength: new(maxIdempotencyKey)},
			Example: "8e03978e-40d5-43e8-bc93-6894a57f9324",
		})
	}
}

// listed reports whether a route belongs into the document: pages, sockets and
// what carriers call do not.
func (r Route) listed() bool {
	return r.Class != Internal && r.Class != Webhook && r.Method != http.MethodOptions &&
		(strings.HasPrefix(r.Pattern, "/v1/") || strings.HasPrefix(r.Pattern, "/chat/"))
}

// list puts a route whose handler has no types into the document.
func (s *Server) list(r Route) {
	op := &huma.Operation{Method: r.Method, Path: r.Pattern, OperationID: operationID(r), Tags: []string{tag(r.Pattern)},
		Summary: cmp.Or(r.Summary, r.key()), Responses: s.problems()}
	media := cmp.Or(r.Media, "application/octet-stream")
	op.Responses["200"] = &huma.Response{Description: "OK", Content: map[string]*huma.MediaType{media: {}}}
	for part := range strings.SplitSeq(r.Pattern, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			op.Parameters = append(op.Parameters, &huma.Param{Name: strings.TrimSuffix(name, "}"), In: "path", Required: true,
				Schema: &huma.Schema{Type: "string"}})
		}
	}
	s.describe(op, r)
	s.api.OpenAPI().AddOperation(op)
}

// operationID is "get-calls-id-recording" for GET /v1/calls/{id}/recording.
func operationID(r Route) string {
	name := strings.NewReplacer("{", "", "}", "", "/", "-").Replace(strings.TrimPrefix(r.Pattern, "/v1"))
	return strings.ToLower(r.Method) + name
}

// nulls says of each field of an answer that can be null that it can: the
// framework takes a pointer to an object, or to a type with a text form of its
// own, for always there.
func (s *Server) nulls() {
	all := s.api.OpenAPI().Components.Schemas
	for name, schema := range all.Map() {
		if t := all.TypeFromRef("#/components/schemas/" + name); t != nil {
			nullFields(schema, t)
		}
	}
	// A document as it stands is JSON that no type of ours describes.
	if item := s.api.OpenAPI().Paths["/v1/flows/{flow}/export"]; item != nil {
		item.Get.Responses["200"].Content["application/json"].Schema = &huma.Schema{Type: huma.TypeObject}
	}
}

func nullFields(schema *huma.Schema, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return
	}
	for f := range t.Fields() {
		name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
		field := schema.Properties[name]
		switch {
		case f.Anonymous && name == "":
			nullFields(schema, f.Type)
		case field == nil || strings.Contains(rest, "omit") || f.Type.Kind() != reflect.Pointer && f.Type != reflect.TypeFor[[]byte]():
		case field.Ref != "":
			schema.Properties[name] = &huma.Schema{Description: field.Description, AnyOf: []*huma.Schema{{Ref: field.Ref}, {Type: "null"}}}
		default:
			field.Nullable = true
		}
	}
}

// named returns as much of an error's place in a body as the operation's schema
// names; what follows are names that the client chose.
func (s *Server) named(c huma.Context, location string) string {
	op := c.Operation()
	if op == nil || op.RequestBody == nil || !strings.HasPrefix(location, "body.") {
		return location
	}
	var schema *huma.Schema
	if media := op.RequestBody.Content["application/json"]; media != nil {
		schema = media.Schema
	}
	known := "body"
	for part := range strings.SplitSeq(strings.TrimPrefix(location, "body."), ".") {
		field, _, _ := strings.Cut(part, "[")
		for schema != nil && (schema.Ref != "" || schema.Items != nil && schema.Properties == nil) {
			if schema.Ref != "" {
				schema = s.api.OpenAPI().Components.Schemas.SchemaFromRef(schema.Ref)
			} else {
				schema = schema.Items
			}
		}
		if schema == nil || schema.Properties[field] == nil {
			break
		}
		known += "." + part
		schema = schema.Properties[field]
	}
	return known
}
