package signaling

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A digest stands for a secret, so that none is kept, and comparing two takes
// the same time whatever they hold.
type digest [sha256.Size]byte

func digestOf(secret string) digest { return sha256.Sum256([]byte(secret)) }

func (d digest) equal(e digest) bool { return subtle.ConstantTimeCompare(d[:], e[:]) == 1 }

// rtcSecret returns 256 random bits in 43 characters.
func rtcSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// bearer returns the request's bearer token, "" if it has none.
func bearer(r *http.Request) string {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// turnLife is how long TURN credentials hold; an allocation made in time lasts
// as long as it is refreshed.
const turnLife = time.Hour

// An ICEServer is an RTCIceServer (W3C WebRTC §4.2.4), with credentials where it
// relays.
type ICEServer struct{ URL, Username, Credential string }

// ICEServers returns the servers to hand to a browser. Those of turn: addresses
// carry credentials for name that expire: the user name is the time of expiry,
// the password its HMAC-SHA1 under the secret shared with the TURN server (the
// "TURN REST API" scheme, coturn's use-auth-secret). While the secret cannot be
// had, relays are left out: most calls do without.
func (w *WebRTC) ICEServers(ctx context.Context, name string, now time.Time) []ICEServer {
	secret, err := "", error(nil)
	if w.o.TURNSecret != nil {
		if secret, err = w.o.TURNSecret(ctx); err != nil {
			w.o.Logger.WarnContext(ctx, "no TURN credentials are handed out", "err", err)
		}
	}
	user := strconv.FormatInt(now.Add(turnLife).Unix(), 10) + ":" + name
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(user))
	password := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	var servers []ICEServer
	for _, u := range w.o.ICEURLs {
		s := ICEServer{URL: u}
		relay := strings.HasPrefix(u, "turn:") || strings.HasPrefix(u, "turns:")
		if relay && err != nil {
			continue
		}
		if relay && secret != "" {
			s.Username, s.Credential = user, password
		}
		servers = append(servers, s)
	}
	return servers
}

// ICELinks returns ICEServers as Link header values (RFC 9725 §4.6).
func (w *WebRTC) ICELinks(ctx context.Context, name string, now time.Time) []string {
	var links []string
	for _, s := range w.ICEServers(ctx, name, now) {
		link := fmt.Sprintf("<%s>; rel=%q", s.URL, "ice-server")
		if s.Credential != "" {
			link += fmt.Sprintf("; username=%q; credential=%q; credential-type=%q", s.Username, s.Credential, "password")
		}
		links = append(links, link)
	}
	return links
}
