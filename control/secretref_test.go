package control

import (
	"strings"
	"testing"
)

func TestParseSecretRef(t *testing.T) {
	tests := []struct {
		in   string
		want SecretRef
		out  string // canonical; empty: as it came in
	}{
		{"vault://kv/a/b#token@3", SecretRef{SchemeVault, "kv", "a/b", "token", "3"}, ""},
		{"vault://kv/a", SecretRef{SchemeVault, "kv", "a", "", ""}, ""},
		{"vault://kv/a#value", SecretRef{SchemeVault, "kv", "a", "", ""}, "vault://kv/a"},
		{"vault://kv/a@12", SecretRef{SchemeVault, "kv", "a", "", "12"}, ""},
		{"vault:kv/data/aurora/users/user_abc123/gcp", SecretRef{SchemeVault, "kv", "aurora/users/user_abc123/gcp", "", ""}, "vault://kv/aurora/users/user_abc123/gcp"},
		{"vault:kv/data/a#refresh_token", SecretRef{SchemeVault, "kv", "a", "refresh_token", ""}, "vault://kv/a#refresh_token"},
		{"aws-sm://prod/crm#token", SecretRef{SchemeAWS, "", "prod/crm", "token", ""}, ""},
		{"aws-sm://prod/crm", SecretRef{SchemeAWS, "", "prod/crm", "", ""}, ""},
		{"aws-sm://prod/crm#token@EXAMPLE1-90ab", SecretRef{SchemeAWS, "", "prod/crm", "token", "EXAMPLE1-90ab"}, ""},
		{"aws-sm://prod/crm#@EXAMPLE1-90ab", SecretRef{SchemeAWS, "", "prod/crm", "", "EXAMPLE1-90ab"}, ""},
		{"aws-sm://arn:aws:secretsmanager:eu-west-1:1:secret:x-AbCdEf#k", SecretRef{SchemeAWS, "", "arn:aws:secretsmanager:eu-west-1:1:secret:x-AbCdEf", "k", ""}, ""},
		{"file:///run/secrets/x", SecretRef{SchemeFile, "", "/run/secrets/x", "", ""}, ""},
		{"file://local/tenants/a/b@2", SecretRef{SchemeLocal, "", "tenants/a/b", "", "2"}, ""},
		{"env://OPENAI_API_KEY", SecretRef{SchemeEnv, "", "OPENAI_API_KEY", "", ""}, ""},
	}
	for _, tt := range tests {
		got, err := ParseSecretRef(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v, want %+v", tt.in, got, err, tt.want)
			continue
		}
		if tt.out == "" {
			tt.out = tt.in
		}
		if got.String() != tt.out {
			t.Errorf("%s prints as %s, want %s", tt.in, got, tt.out)
		}
	}
}

func TestParseSecretRefRefuses(t *testing.T) {
	for _, in := range []string{
		"", "sk-live-0123456789abcdef0123", "vault://", "vault://kv", "vault://kv/", "vault:///a", "vault://kv//a", "vault://kv/a/",
		"vault://kv/../sys/x", "vault://kv/a/../b", "vault://kv/./a", "vault://../a", "vault://kv/a%2f..%2fb", "vault://kv/a?x=1",
		"vault://kv/a#", "vault://kv/a#b#c", "vault://kv/a#b/c", "vault://kv/a@0", "vault://kv/a@01", "vault://kv/a@-1", "vault://kv/a@x", "vault://kv/a\x00",
		"vault://kv/a b", "vault://kv/a\nb", "vault://user:pw@kv/a b", "vault:kv/a", "vault:kv/data/", "vault:kv/metadata/a", "VAULT://kv/a",
		"aws-sm://", "aws-sm://a#", "aws-sm://a#@", "aws-sm://../a", "aws-sm://a b",
		"file://", "file:///", "file:///a/../b", "file://host/a", "file://local/", "file://local/../a", "file:///a%41", "file:///a?b", "file:///a#b",
		"env://", "env://1A", "env://A-B", "env://A/B", "https://example.com/a", "vault://kv/" + strings.Repeat("a/", 2000) + "a",
	} {
		if got, err := ParseSecretRef(in); err == nil {
			t.Errorf("%q is taken for %+v", in, got)
		} else if len(in) > 12 && strings.Contains(err.Error(), in) {
			t.Errorf("the error repeats %q", in)
		}
	}
}

func TestSecretRefWithin(t *testing.T) {
	place := SecretRef{Scheme: SchemeVault, Mount: "kv", Path: "parley/tenants/a"}
	for in, want := range map[string]bool{
		"vault://kv/parley/tenants/a/crm":    true,
		"vault://kv/parley/tenants/a/b/c@1":  true,
		"vault://kv/parley/tenants/a":        false,
		"vault://kv/parley/tenants/ab/crm":   false,
		"vault://kv/parley/tenants/b/crm":    false,
		"vault://kv2/parley/tenants/a/crm":   false,
		"aws-sm://parley/tenants/a/crm":      false,
		"file://local/parley/tenants/a/crm":  false,
		"vault:kv/data/parley/tenants/a/crm": true,
		"vault:kv/data/parley/tenants/b/crm": false,
		"file:///parley/tenants/a/crm":       false,
	} {
		r, err := ParseSecretRef(in)
		if err != nil {
			t.Fatal(in, err)
		}
		if r.Within(place) != want {
			t.Errorf("%s within %s: %v", in, place, !want)
		}
	}
}

// What is printed is parsed back to the same, and no path leads anywhere else.
func FuzzParseSecretRef(f *testing.F) {
	for _, s := range []string{"vault://kv/a/b#token@3", "vault:kv/data/a#f", "aws-sm://n#k@v", "aws-sm://n#@v", "file:///run/x", "file://local/a@2", "env://A", "vault://kv/../x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseSecretRef(s)
		if err != nil {
			return
		}
		again, err := ParseSecretRef(r.String())
		if err != nil || again != r {
			t.Errorf("%q: %+v prints as %s, which is %+v, %v", s, r, r, again, err)
		}
		for seg := range strings.SplitSeq(r.Path, "/") {
			if seg == "." || seg == ".." {
				t.Errorf("%q leads elsewhere", s)
			}
		}
	})
}
