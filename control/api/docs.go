package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"parley/control"
)

const docsStyle = `body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}` +
	`td,th{text-align:left;padding:.2rem .8rem .2rem 0;vertical-align:top}code{white-space:nowrap}`

var docsPage = template.Must(template.New("docs").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Parley API</title><style>{{.Style}}</style>
<h1>Parley API</h1>
<p>The whole of it, for programs: <a href="/openapi.json">openapi.json</a> (OpenAPI 3.1). Send a key as
<code>Authorization: Bearer</code> or <code>X-API-Key</code>. Lists are paged by <code>?limit=&amp;after=</code>.
Errors are <code>application/problem+json</code> with a stable <code>code</code>.</p>
<table><tr><th>Method<th>Address<th>Who<th>Permission</tr>
{{range .Routes}}<tr><td>{{.Method}}<td><code>{{.Pattern}}</code><td>{{.Class}}<td>{{.Permission}}</tr>
{{end}}</table></html>
`))

// docs serves the OpenAPI document and a page of the routes, without a script.
func (s *Server) docs() error {
	r := Route{Method: "GET", Pattern: "/openapi.json", Class: Public, Permission: control.Anyone,
		Limit: Limit{60, time.Minute}, Body: NoBody}
	err := s.Handle(r, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.api.OpenAPI()) // the client is gone, or it is not
	}))
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(docsStyle))
	policy := fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; frame-ancestors 'none'", base64.StdEncoding.EncodeToString(sum[:]))
	r.Pattern = "/docs"
	return s.Handle(r, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", policy)
		_ = docsPage.Execute(w, map[string]any{"Style": template.CSS(docsStyle), "Routes": s.Routes()})
	}))
}
