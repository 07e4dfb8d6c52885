package identity

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"parley/control"
)

func TestHasher(t *testing.T) {
	h := NewHasher(1)
	hash, err := h.Hash(t.Context(), "secret")
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]bool{"secret": true, "Secret": false, "": false, "\uff53ecret": true} { // full-width s
		if ok, err := h.Verify(t.Context(), password, hash); ok != want || err != nil {
			t.Errorf("Verify(%q) = %v, %v", password, ok, err)
		}
	}
	if ok, _ := h.Verify(t.Context(), "", ""); ok {
		t.Error("an unknown user signs in")
	}
	if _, err := h.Verify(t.Context(), strings.Repeat("x", mostPassword+1), hash); !errors.As(err, new(*control.Invalid)) {
		t.Errorf("a password without bound: %v", err)
	}
}

// Hashes of elsewhere are verified, and are not today's; those that ask for too
// much work are refused with today's.
func TestForeignHashes(t *testing.T) {
	// bcrypt's vector is of the Openwall test suite, argon2id's of the reference
	// implementation's test.c.
	const crypt = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
	made, err := bcrypt.GenerateFromPassword([]byte("secret"), 4)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, password, hash string
		want                 bool
	}{
		{"bcrypt-2a", "U*U", crypt, true},
		{"bcrypt-2b", "U*U", strings.Replace(crypt, "2a", "2b", 1), true},
		{"bcrypt-2y", "U*U", strings.Replace(crypt, "2a", "2y", 1), true},
		{"bcrypt-wrong", "U*V", crypt, false},
		{"bcrypt-made", "secret", string(made), true},
		{"bcrypt-too-dear", "U*U", strings.Replace(crypt, "$05$", "$31$", 1), false},
		{"bcrypt-broken", "U*U", "$2a$05$short", false},
		{"argon2id", "password", "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", true},
		{"argon2id-wrong", "Password", "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false},
		{"argon2id-threads", "password", "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", true},
		{"argon2i", "password", "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8", false},
		{"too-dear", "password", "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false},
		{"no-cost", "password", "$argon2id$v=19$m=0,t=0,p=0$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false},
		{"no-sum", "password", "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$", false},
		{"plain", "password", "password", false},
	}
	h := NewHasher(1)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := h.Work()
			if ok, err := h.Verify(t.Context(), tt.password, tt.hash); ok != tt.want || err != nil {
				t.Errorf("Verify = %v, %v, want %v", ok, err, tt.want)
			}
			if n := h.Work() - before; n != 1 {
				t.Errorf("%d computations, want 1", n)
			}
			if Current(tt.hash) {
				t.Error("it is not today's form")
			}
		})
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")
	f.Add("$argon2id$v=19$m=,t=,p=$$")
	f.Fuzz(func(t *testing.T, hash string) {
		c, salt, sum, err := parseHash(hash)
		if err == nil && (c.memory > mostMemory || c.time > mostTime || c.threads > mostThreads || c.threads == 0 || c.time == 0 || len(salt) < 8 || len(sum) < 16) {
			t.Errorf("%q asks for %+v", hash, c)
		}
	})
}

func TestPasswordRules(t *testing.T) {
	const email, name = "maria.gonzalez@acme-travel.example", "Maria González"
	for password, good := range map[string]bool{
		"violet tractor hums":                true,
		"kq7Xv2mP9sLw":                       true,
		"elevenchars":                        false,
		"zwölf Zeichn":                       true,  // 12 characters in 13 bytes
		"ｐａｓｓｗｏｒｄ１２３４":                       false, // is password1234
		"password1234":                       false,
		"PassWord1234!":                      false,
		"correct horse battery staple":       false,
		"aaaaaaaaaaaa":                       false,
		"abcabcabcabc":                       false,
		"123456789012":                       false,
		"abcdefghijklm":                      false,
		"mnopqrstuvwxyz":                     false,
		"gonzalez1234":                       false,
		"Maria.Gonzalez1!":                   false,
		"acme-travel-22":                     false,
		"parleyparley1":                      false,
		"we parley with violet gonzalez":     true, // holds the name among much else
		"qwertyuiop123456":                   false,
		strings.Repeat("lo ng", 205):         false,
		"not \xff a character here":          false,
		strings.Repeat("violet tractor ", 9): true,
	} {
		err := PasswordRules{}.Check(password, email, name)
		if (err == nil) != good {
			t.Errorf("%.40q: %v, want good %v", password, err, good)
		}
		if err != nil && (!errors.As(err, new(*control.Invalid)) || strings.Contains(err.Error(), password)) {
			t.Errorf("%.40q: %v repeats it, or is a fault", password, err)
		}
	}
	for _, p := range common {
		if strings.ToLower(p) != p {
			t.Errorf("%s is not in lower case", p)
		}
	}
}

// hashes writes a list as the offline download has it.
func hashes(t *testing.T, end string, passwords ...string) string {
	t.Helper()
	var lines []string
	for i, p := range passwords {
		lines = append(lines, fmt.Sprintf("%s:%d", strings.ToUpper(hex.EncodeToString(sha1Of(p))), i*i+1))
	}
	slices.Sort(lines)
	return write(t, strings.Join(lines, end)+end)
}

func sha1Of(s string) []byte {
	sum := sha1.Sum([]byte(s))
	return sum[:]
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBreached(t *testing.T) {
	var leaked []string
	for i := range 1000 {
		leaked = append(leaked, fmt.Sprintf("leaked password %d", i))
	}
	for name, path := range map[string]string{
		"unix": hashes(t, "\n", leaked...), "windows": hashes(t, "\r\n", leaked...), "plain": write(t, strings.Join(leaked, "\n")),
		"one": hashes(t, "\n", leaked[7]), "hashes-alone": write(t, strings.ToUpper(hex.EncodeToString(sha1Of(leaked[7])))),
		"lower-case": write(t, hex.EncodeToString(sha1Of(leaked[7]))+":3\n"),
	} {
		t.Run(name, func(t *testing.T) {
			b, err := OpenBreached(path)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			all := leaked
			if name == "one" || name == "hashes-alone" || name == "lower-case" {
				all = leaked[7:8]
			}
			for _, p := range all {
				if found, err := b.Holds(p); !found || err != nil {
					t.Fatalf("%s: %v, %v", p, found, err)
				}
			}
			for i := range 300 {
				if found, err := b.Holds(fmt.Sprintf("another password %d", i)); found || err != nil {
					t.Fatalf("another %d: %v, %v", i, found, err)
				}
			}
			if err := (PasswordRules{Breached: b}).Check(leaked[7], "a@b.example", ""); !errors.As(err, new(*control.Invalid)) {
				t.Errorf("a leaked password: %v", err)
			}
		})
	}
	if _, err := OpenBreached(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a list that is not there opens")
	}
	empty, err := OpenBreached(write(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	if found, err := empty.Holds("x"); found || err != nil {
		t.Errorf("in an empty list: %v, %v", found, err)
	}
}

// Whatever stands in the file, the search ends and does not fall.
func FuzzBreached(f *testing.F) {
	f.Add([]byte(strings.Repeat("A", 40)+":1\n"), "x")
	f.Add(bytes.Repeat([]byte("\n"), 300), "x")
	f.Add(bytes.Repeat([]byte("F"), 1000), "x")
	f.Fuzz(func(t *testing.T, text []byte, password string) {
		b := &Breached{file: bytes.NewReader(text), size: int64(len(text))}
		_, _ = b.Holds(password)
	})
}
