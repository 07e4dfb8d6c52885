package api_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// An authenticator is a device in software that holds one passkey: ES256, no
// attestation (WebAuthn Level 3 §6).
type authenticator struct {
	t      *testing.T
	origin string // of the page that the browser shows
	site   string // RP id that the device believes in
	key    *ecdsa.PrivateKey
	id     []byte
	handle []byte
	count  uint32
	// unverified: the device did not ask for a PIN or a finger.
	unverified bool
}

func newAuthenticator(t *testing.T, origin, site string) *authenticator {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authenticator{t: t, origin: origin, site: site, key: key, id: make([]byte, 32)}
	_, _ = rand.Read(a.id)
	return a
}

var b64 = base64.RawURLEncoding

func (a *authenticator) client(kind, challenge string) []byte {
	text, err := json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": a.origin, "crossOrigin": false})
	if err != nil {
		a.t.Fatal(err)
	}
	return text
}

// data is the authenticator data of §6.1.
func (a *authenticator) data(attested []byte) []byte {
	a.count++
	rp := sha256.Sum256([]byte(a.site))
	flags := byte(0x01) // user present
	if !a.unverified {
		flags |= 0x04
	}
	if attested != nil {
		flags |= 0x40
	}
	d := append(rp[:], flags)
	d = binary.BigEndian.AppendUint32(d, a.count)
	return append(d, attested...)
}

// public returns what is under options' "publicKey".
func (a *authenticator) public(options any) map[string]any {
	a.t.Helper()
	m, _ := options.(map[string]any)
	pub, ok := m["publicKey"].(map[string]any)
	if !ok {
		a.t.Fatalf("options are %v", options)
	}
	return pub
}

// create answers navigator.credentials.create.
func (a *authenticator) create(options any) map[string]any {
	a.t.Helper()
	pub := a.public(options)
	user := pub["user"].(map[string]any)
	a.handle, _ = b64.DecodeString(user["id"].(string))
	point, err := a.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		a.t.Fatal(err)
	}
	cose := a.cbor(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
	attested := append(make([]byte, 16), byte(len(a.id)>>8), byte(len(a.id)))
	attested = append(append(attested, a.id...), cose...)
	object := a.cbor(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": a.data(attested)})
	client := a.client("webauthn.create", pub["challenge"].(string))
	return map[string]any{"id": b64.EncodeToString(a.id), "rawId": b64.EncodeToString(a.id), "type": "public-key",
		"clientExtensionResults": map[string]any{},
		"response":               map[string]any{"clientDataJSON": b64.EncodeToString(client), "attestationObject": b64.EncodeToString(object)}}
}

// get answers navigator.credentials.get.
func (a *authenticator) get(options any) map[string]any {
	a.t.Helper()
	client := a.client("webauthn.get", a.public(options)["challenge"].(string))
	sum := sha256.Sum256(client)
	data := a.data(nil)
	digest := sha256.Sum256(append(append([]byte{}, data...), sum[:]...))
	sig, err := ecdsa.SignASN1(rand.Reader, a.key, digest[:])
	if err != nil {
		a.t.Fatal(err)
	}
	return map[string]any{"id": b64.EncodeToString(a.id), "rawId": b64.EncodeToString(a.id), "type": "public-key",
		"clientExtensionResults": map[string]any{},
		"response": map[string]any{"clientDataJSON": b64.EncodeToString(client), "authenticatorData": b64.EncodeToString(data),
			"signature": b64.EncodeToString(sig), "userHandle": b64.EncodeToString(a.handle)}}
}

func (a *authenticator) cbor(v any) []byte {
	a.t.Helper()
	text, err := cbor.Marshal(v)
	if err != nil {
		a.t.Fatal(err)
	}
	return text
}
