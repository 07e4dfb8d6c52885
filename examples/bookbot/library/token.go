package library

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// A caller is the conversation that asks.
type caller struct {
	tenant, session string
	user            string // empty: nobody has vouched for anybody
}

var errStranger = &problem{http.StatusUnauthorized, "unauthenticated", "a valid token of the gateway is needed", ""}

// leeway is how far the gateway's clock may be off.
const leeway = 30 * time.Second

// authenticate believes who the gateway says the conversation is with: a JWT
// (RFC 7519) by HMAC-SHA-256. Any JWT library does this as well; mind that the
// algorithm is ours to choose and not the token's.
func (l *Library) authenticate(r *http.Request) (caller, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	parts := strings.Split(token, ".")
	if !ok || len(parts) != 3 || len(token) > 4096 {
		return caller{}, errStranger
	}
	mac := hmac.New(sha256.New, l.key)
	mac.Write([]byte(parts[0] + "." + parts[1]))
	sum, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !hmac.Equal(sum, mac.Sum(nil)) {
		return caller{}, errStranger
	}
	var head struct {
		Alg string `json:"alg"`
	}
	var claims struct {
		Issuer   string `json:"iss"`
		Audience string `json:"aud"`
		User     string `json:"sub"`
		Tenant   string `json:"tenant"`
		Session  string `json:"session"`
		Expires  int64  `json:"exp"`
	}
	if part(parts[0], &head) != nil || part(parts[1], &claims) != nil {
		return caller{}, errStranger
	}
	late := l.now().After(time.Unix(claims.Expires, 0).Add(leeway))
	if head.Alg != "HS256" || claims.Issuer != "parley" || claims.Audience != "internal" || late {
		return caller{}, errStranger
	}
	return caller{claims.Tenant, claims.Session, claims.User}, nil
}

func part(s string, v any) error {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}
