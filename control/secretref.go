package control

import (
	"errors"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// A SecretRef says where a secret's value stands. Rows and settings hold
// references, never values:
//
//	vault://mount/path#field@version   a field of HashiCorp Vault's KV engine, version 2
//	aws-sm://name#key@version          AWS Secrets Manager; with a key, of a JSON object
//	file:///run/secrets/name           a file's whole text; the operator's alone
//	file://local/path@version          the program's own encrypted file
//	env://NAME                         a variable of the environment; the operator's alone
//
// What is not said of field, key and version is empty: Vault's field is then
// [VaultField], and the newest version is meant.
type SecretRef struct {
	Scheme  string // one of the Scheme constants
	Mount   string // vault alone
	Path    string // path within the mount, name, absolute file, or variable
	Field   string
	Version string // vault and file: a number from 1; aws-sm: a version id
}

// The schemes of references.
const (
	SchemeVault = "vault"
	SchemeAWS   = "aws-sm"
	SchemeFile  = "file"  // a file of the operator's
	SchemeLocal = "local" // file://local/…
	SchemeEnv   = "env"
)

// VaultField is the field of a Vault secret that stands for the whole.
const VaultField = "value"

var errNotRef = errors.New("not a reference such as vault://mount/path#field@version, aws-sm://name#key, file:///run/secrets/name or env://NAME")

var (
	refSegment = regexp.MustCompile(`^[A-Za-z0-9_.+=,:~-]{1,255}$`)
	refField   = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)
	refAWSName = regexp.MustCompile(`^[A-Za-z0-9/_+=.@:-]{1,512}$`)
	refEnv     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	refAWSVer  = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
)

// IsSecretRef tells whether a text is meant as a reference, well-formed or not.
func IsSecretRef(s string) bool {
	for _, prefix := range []string{"vault://", "vault:", "aws-sm://", "file://", "env://"} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

// ParseSecretRef parses a reference, also of the older form
// vault:mount/data/path#field. The error repeats nothing: what was meant for a
// reference may be a secret. Nothing is decoded or cleaned: what could be
// written in two ways (escapes, empty and dotted segments) is refused.
func ParseSecretRef(s string) (SecretRef, error) {
	if len(s) > 2048 {
		return SecretRef{}, errNotRef
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return parseOldRef(s)
	}
	switch scheme {
	case SchemeVault:
		return parseVaultRef(rest, "")
	case SchemeAWS:
		return parseAWSRef(rest)
	case SchemeFile:
		return parseFileRef(rest)
	case SchemeEnv:
		if refEnv.MatchString(rest) {
			return SecretRef{Scheme: SchemeEnv, Path: rest}, nil
		}
	}
	return SecretRef{}, errNotRef
}

// parseOldRef takes "vault:kv/data/path", whose path is that of the HTTP API.
func parseOldRef(s string) (SecretRef, error) {
	rest, ok := strings.CutPrefix(s, "vault:")
	if !ok {
		return SecretRef{}, errNotRef
	}
	return parseVaultRef(rest, "data/")
}

// parseVaultRef takes what follows the scheme; infix must stand between mount
// and path.
func parseVaultRef(rest, infix string) (SecretRef, error) {
	r := SecretRef{Scheme: SchemeVault}
	var ok bool
	if rest, r.Version, ok = cutVersion(rest); !ok {
		return SecretRef{}, errNotRef
	}
	if rest, r.Field, ok = cutField(rest); !ok {
		return SecretRef{}, errNotRef
	}
	if r.Field == VaultField {
		r.Field = ""
	}
	r.Mount, rest, _ = strings.Cut(rest, "/")
	if r.Path, ok = strings.CutPrefix(rest, infix); !ok || !refSegment.MatchString(r.Mount) || !cleanPath(r.Mount) || !cleanPath(r.Path) {
		return SecretRef{}, errNotRef
	}
	return r, nil
}

func parseAWSRef(rest string) (SecretRef, error) {
	r := SecretRef{Scheme: SchemeAWS}
	name, key, keyed := strings.Cut(rest, "#")
	var ok bool
	if keyed {
		if key, r.Version, ok = strings.Cut(key, "@"); ok && !refAWSVer.MatchString(r.Version) {
			return SecretRef{}, errNotRef
		}
		// A version without a key follows a bare "#".
		if key != "" && !refField.MatchString(key) || key == "" && r.Version == "" {
			return SecretRef{}, errNotRef
		}
		r.Field = key
	}
	r.Path = name
	if !refAWSName.MatchString(name) || !cleanPath(name) {
		return SecretRef{}, errNotRef
	}
	return r, nil
}

func parseFileRef(rest string) (SecretRef, error) {
	if strings.HasPrefix(rest, "/") {
		u, err := url.Parse("file://" + rest)
		if err != nil || u.Path != rest || u.RawQuery != "" || u.Fragment != "" || !tidy(rest[1:]) {
			return SecretRef{}, errNotRef
		}
		return SecretRef{Scheme: SchemeFile, Path: rest}, nil
	}
	path, ok := strings.CutPrefix(rest, "local/")
	if !ok {
		return SecretRef{}, errNotRef
	}
	r := SecretRef{Scheme: SchemeLocal}
	if r.Path, r.Version, ok = cutVersion(path); !ok || !cleanPath(r.Path) {
		return SecretRef{}, errNotRef
	}
	return r, nil
}

// cutVersion takes a number from 1 off the end.
func cutVersion(s string) (rest, version string, ok bool) {
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return s, "", true
	}
	n, err := strconv.ParseUint(s[i+1:], 10, 31)
	version = s[i+1:]
	return s[:i], version, err == nil && n > 0 && strconv.FormatUint(n, 10) == version
}

// cutField takes a field off the end.
func cutField(s string) (rest, field string, ok bool) {
	rest, field, has := strings.Cut(s, "#")
	return rest, field, !has || refField.MatchString(field)
}

// cleanPath tells whether a path is written in the one way it can be, from
// characters that no server decodes.
func cleanPath(s string) bool {
	for seg := range strings.SplitSeq(s, "/") {
		if seg == "." || seg == ".." || !refSegment.MatchString(strings.ReplaceAll(seg, "@", "_")) {
			return false
		}
	}
	return true
}

// tidy is cleanPath for files, whose names may hold more.
func tidy(s string) bool {
	for seg := range strings.SplitSeq(s, "/") {
		if seg == "" || seg == "." || seg == ".." || strings.ContainsFunc(seg, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return false
		}
	}
	return true
}

// String is the canonical form: parsing it gives r again. The zero value is "".
func (r SecretRef) String() string {
	var b strings.Builder
	switch r.Scheme {
	case SchemeVault:
		b.WriteString("vault://" + r.Mount + "/" + r.Path)
		if r.Field != "" {
			b.WriteString("#" + r.Field)
		}
	case SchemeAWS:
		b.WriteString("aws-sm://" + r.Path)
		if r.Field != "" || r.Version != "" {
			b.WriteString("#" + r.Field)
		}
	case SchemeFile:
		return "file://" + r.Path
	case SchemeLocal:
		b.WriteString("file://local/" + r.Path)
	case SchemeEnv:
		return "env://" + r.Path
	}
	if r.Version != "" {
		b.WriteString("@" + r.Version)
	}
	return b.String()
}

// Within tells whether r stands below a place: the same store and mount, and a
// path that goes on from the place's.
func (r SecretRef) Within(place SecretRef) bool {
	return r.Scheme == place.Scheme && r.Mount == place.Mount && strings.HasPrefix(r.Path, place.Path+"/")
}

// Join returns the reference to a key below r.
func (r SecretRef) Join(key string) SecretRef {
	r.Path += "/" + key
	return r
}

// At returns r with a version; "" is the newest.
func (r SecretRef) At(version string) SecretRef {
	r.Version = version
	return r
}
