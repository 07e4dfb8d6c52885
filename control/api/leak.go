package api

import (
	"net/http"

	"parley/control/identity"
)

// urlNames are the parameters that others take keys by (RFC 6750 §2.3).
var urlNames = []string{"access_token", "api_key", "apikey", "api-key", "x-api-key"}

// inAddress refuses a key or token in the address, where logs, histories and
// other people's screens have it. A key of ours is marked as leaked.
func (s *Server) inAddress(r *http.Request) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	query := r.URL.Query()
	found := false
	for _, name := range urlNames {
		found = found || query.Has(name)
	}
	for _, values := range query {
		for _, v := range values {
			if !identity.Leaked(v) {
				continue
			}
			found = true
			if err := s.o.Keys.Leak(r.Context(), v); err != nil {
				return err
			}
		}
	}
	if found {
		return newProblem(400, "key_in_address",
			"keys and tokens are not taken from the address, which is logged in many places: send it as Authorization: Bearer, and rotate the one that was there")
	}
	return nil
}
