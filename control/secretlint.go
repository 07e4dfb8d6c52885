package control

import "parley/agent/flow"

const secretBelongs = "put it by PUT /v1/secrets/{key}, and replace it at its vendor if others have seen it"

// refuseSecret refuses a text that looks like a secret, or a reference to one,
// in a field that is stored and shown in clear: by the rules by which a flow is
// not published. It is nil for any other text.
func refuseSecret(field, text string) error {
	if IsSecretRef(text) {
		return Invalidf(field, "is a reference to a secret, which belongs in PUT /v1/secrets/{key}")
	}
	if flow.LooksSecret(text) {
		return Invalidf(field, "looks like a secret, and is not stored here: %s", secretBelongs)
	}
	return nil
}

// refuseToken is refuseSecret for names that machines make up: they are random
// by nature.
func refuseToken(field, text string) error {
	if IsSecretRef(text) || flow.HasToken(text) {
		return Invalidf(field, "looks like a secret, and is not stored here: %s", secretBelongs)
	}
	return nil
}
