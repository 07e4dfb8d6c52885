package identity

import "testing"

func TestHasher(t *testing.T) {
	h := NewHasher(1)
	hash, err := h.Hash(t.Context(), "secret")
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]bool{"secret": true, "Secret": false, "": false} {
		if ok, err := h.Verify(t.Context(), password, hash); ok != want || err != nil {
			t.Errorf("Verify(%q) = %v, %v", password, ok, err)
		}
	}
	if ok, _ := h.Verify(t.Context(), "", ""); ok {
		t.Error("an unknown user signs in")
	}
}
