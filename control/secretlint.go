package control

import (
	"net/url"
	"slices"
	"strings"

	"parley/agent/flow"
)

const (
	secretBelongs = "put it by PUT /v1/secrets/{key}, and replace it at its vendor if others have seen it"
	isSecretRef   = "is a reference to a secret, which belongs in PUT /v1/secrets/{key}"
)

// RefuseSecret refuses a text that looks like a secret, or a reference to one,
// in a field that is stored and shown in clear: by the rules by which a flow is
// not published. It is nil for any other text; the error, an [Invalid], repeats
// nothing of it.
func RefuseSecret(field, text string) error {
	if IsSecretRef(text) {
		return Invalidf(field, isSecretRef)
	}
	if flow.LooksSecret(text) {
		return looksSecret(field)
	}
	return nil
}

// RefuseToken is [RefuseSecret] for names that machines make up: they are random
// by nature, and only the known forms of tokens count.
func RefuseToken(field, text string) error {
	if IsSecretRef(text) {
		return Invalidf(field, isSecretRef)
	}
	if flow.HasToken(text) {
		return looksSecret(field)
	}
	return nil
}

// refuseSecretIn is [RefuseSecret] for the texts of a JSON document, where
// references are texts as any. It is nil for what is no JSON.
func refuseSecretIn(field string, document []byte) error {
	doc, err := decode(document)
	if err != nil {
		return nil
	}
	if ptr, ok := flow.SecretIn(doc); ok {
		return looksSecret(field + ptr)
	}
	return nil
}

// keyParameters are those by which servers take keys in an address.
var keyParameters = []string{"access_token", "api_key", "api-key", "apikey", "auth_token", "passwd", "password", "secret", "token", "x-api-key"}

// refuseSecretAddress is [RefuseSecret] for an address, whose logs and histories
// many see: no name or password, and no parameter that keys are sent by.
func refuseSecretAddress(field string, u *url.URL) error {
	if u.User != nil {
		return Invalidf(field, "holds a name or password: %s; then send it in a header, as {secret:key}", secretBelongs)
	}
	if err := RefuseSecret(field, u.String()); err != nil {
		return err
	}
	for name, values := range u.Query() {
		if slices.Contains(keyParameters, strings.ToLower(name)) && strings.Join(values, "") != "" {
			return Invalidf(field, "holds a key among its parameters: %s; then send it in a header, as {secret:key}", secretBelongs)
		}
	}
	return nil
}

func looksSecret(field string) error {
	return Invalidf(field, "looks like a secret, and is not stored here: %s", secretBelongs)
}
