package console

import (
	"embed"
	"net/http"
	"path"
)

//go:embed join
var joinFiles embed.FS

// joinPolicy lets the page run its own script and speak to its own server.
const joinPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Join answers GET /join and GET /join/{file}: the page that links of invitations
// and of new passwords lead to. The link's secret follows after "#", which
// browsers send to no server; the page takes it out of the address at once.
func Join() http.Handler {
	types := map[string]string{".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("file")
		if name == "" {
			name = "join.html"
		}
		data, err := joinFiles.ReadFile("join/" + path.Base(name))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Security-Policy", joinPolicy)
		w.Header().Set("Content-Type", types[path.Ext(name)])
		_, _ = w.Write(data) // the reader may be gone
	})
}
