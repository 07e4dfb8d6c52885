package ingress

import "net/http"

// Harden sets the headers that every answer has; a handler of pages sets its
// own policy over them. Secure: the answer travels by TLS.
//
// No page may frame another of ours, read it across origins, guess at types or
// learn where its reader came from; nothing is kept by caches
// (https://cheatsheetseries.owasp.org/cheatsheets/HTTP_Headers_Cheat_Sheet.html).
func Harden(h http.Header, secure bool) {
	// By direct assignment: the names are canonical, and Set would make each
	// value's slice anew.
	h["X-Content-Type-Options"] = nosniff
	h["X-Frame-Options"] = deny
	h["X-Xss-Protection"] = zero // the filter it turned on made holes of its own
	h["Referrer-Policy"] = noReferrer
	h["Cross-Origin-Opener-Policy"] = sameOrigin
	h["Cross-Origin-Resource-Policy"] = sameOrigin
	h["Content-Security-Policy"] = nothing
	h["Permissions-Policy"] = noDevices
	h["Cache-Control"] = noStore
	if secure {
		h["Strict-Transport-Security"] = aYear
	}
}

// Shared by all answers: whoever changes one sets a slice of its own.
var (
	nosniff    = []string{"nosniff"}
	deny       = []string{"DENY"}
	zero       = []string{"0"}
	noReferrer = []string{"no-referrer"}
	sameOrigin = []string{"same-origin"}
	nothing    = []string{"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"}
	noDevices  = []string{"accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), microphone=(), payment=(), usb=()"}
	noStore    = []string{"no-store"}
	aYear      = []string{"max-age=31536000"}
)

// HardenedHeaders names what [Harden] sets always.
func HardenedHeaders() []string {
	return []string{"X-Content-Type-Options", "X-Frame-Options", "X-Xss-Protection", "Referrer-Policy", "Cross-Origin-Opener-Policy",
		"Cross-Origin-Resource-Policy", "Content-Security-Policy", "Permissions-Policy", "Cache-Control"}
}
