package vault

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/vault/api"
)

// Transit encrypts under a key that never leaves Vault (engine transit). The
// place is authenticated with what is encrypted, as associated data: it opens
// only beside the same place. The policy of the role grants update, not create,
// on encrypt, decrypt and datakey of the key: encrypting would else make keys.
type Transit struct {
	Client *Client
	Mount  string // default "transit"
	Key    string
}

func (t *Transit) mount() string {
	if t.Mount == "" {
		return "transit"
	}
	return strings.Trim(t.Mount, "/")
}

// Name says which key of whom: "vault-transit://transit/parley".
func (t *Transit) Name() string { return "vault-transit://" + t.mount() + "/" + t.Key }

// Wrap encrypts a data key, or any text of a few kilobytes. What it returns is
// Vault's own form, "vault:v1:…".
func (t *Transit) Wrap(ctx context.Context, place string, key []byte) ([]byte, error) {
	out, err := t.call(ctx, "encrypt", map[string]any{"plaintext": b64(key), "associated_data": b64([]byte(place))}, "ciphertext")
	return []byte(out), err
}

// Unwrap returns what was wrapped at the place.
func (t *Transit) Unwrap(ctx context.Context, place string, wrapped []byte) ([]byte, error) {
	out, err := t.call(ctx, "decrypt", map[string]any{"ciphertext": string(wrapped), "associated_data": b64([]byte(place))}, "plaintext")
	if err != nil {
		return nil, err
	}
	return unb64(out)
}

// Rewrap returns what was wrapped under the newest version of the key. It
// passes through our hands: Vault's own rewrap takes no associated data.
func (t *Transit) Rewrap(ctx context.Context, place string, wrapped []byte) ([]byte, error) {
	key, err := t.Unwrap(ctx, place, wrapped)
	if err != nil {
		return nil, err
	}
	return t.Wrap(ctx, place, key)
}

// DataKey has Vault make a key of 32 random bytes, and returns it beside its
// wrapped form, which [Transit.Open] opens.
func (t *Transit) DataKey(ctx context.Context) (key, wrapped []byte, err error) {
	got, err := t.write(ctx, "datakey/plaintext", map[string]any{"bits": 256})
	if err != nil {
		return nil, nil, err
	}
	plain, _ := got.Data["plaintext"].(string)
	sealed, _ := got.Data["ciphertext"].(string)
	key, err = unb64(plain)
	if err == nil && (len(key) != 32 || sealed == "") {
		err = errors.New("vault transit: the data key is not one")
	}
	return key, []byte(sealed), err
}

// Open returns what [Transit.DataKey] wrapped: it stands at no place.
func (t *Transit) Open(ctx context.Context, wrapped []byte) ([]byte, error) {
	out, err := t.call(ctx, "decrypt", map[string]any{"ciphertext": string(wrapped)}, "plaintext")
	if err != nil {
		return nil, err
	}
	return unb64(out)
}

// call returns one field of the answer.
func (t *Transit) call(ctx context.Context, verb string, in map[string]any, field string) (string, error) {
	got, err := t.write(ctx, verb, in)
	if err != nil {
		return "", err
	}
	out, _ := got.Data[field].(string)
	if out == "" {
		return "", fmt.Errorf("vault transit: %s: the answer has no %s", verb, field)
	}
	return out, nil
}

func (t *Transit) write(ctx context.Context, verb string, in map[string]any) (got *api.Secret, err error) {
	err = t.Client.do(ctx, "vault transit: "+verb, func(ctx context.Context) error {
		got, err = t.Client.api.Logical().WriteWithContext(ctx, t.mount()+"/"+verb+"/"+t.Key, in)
		if err == nil && got == nil {
			err = errors.New("the answer is empty")
		}
		return err
	})
	return got, err
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func unb64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, errors.New("vault transit: the answer is not base64")
	}
	return b, nil
}
