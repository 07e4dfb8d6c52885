package console

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"path"
)

//go:embed *.html *.css *.js
var embedded embed.FS

// contentSecurityPolicy lets the page run its own files and talk to its own
// host, and nothing else. blob: is for audio made in the page.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"media-src 'self' blob:; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// assets serves the embedded styles and scripts under a folder named by the
// hash of them all. Scripts import each other by relative names, so one
// version of the page never mixes with another.
type assets struct {
	version string
	base    string
}

func loadAssets() (*assets, error) {
	sum := sha256.New()
	err := fs.WalkDir(embedded, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := embedded.ReadFile(name)
		fmt.Fprintf(sum, "%s %d\n", name, len(data))
		sum.Write(data)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read embedded page: %w", err)
	}
	version := base64.RawURLEncoding.EncodeToString(sum.Sum(nil)[:9])
	return &assets{version: version, base: "/call/assets/" + version}, nil
}

func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	types := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
	contentType, served := types[path.Ext(name)]
	data, err := embedded.ReadFile(name)
	if err != nil || !served {
		http.NotFound(w, r)
		return
	}
	// During a rolling deploy a page of another version may ask us: it gets
	// what we have, and keeps it no longer than its visit.
	w.Header().Set("Cache-Control", "no-store")
	if r.PathValue("version") == a.version {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(data) // the reader may be gone
}

// secure sets the headers that every answer carries.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("Permissions-Policy", "microphone=(self), speaker-selection=(self), autoplay=(self), camera=(), geolocation=(), display-capture=()")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("X-Frame-Options", "DENY")
		next.ServeHTTP(w, r)
	})
}
