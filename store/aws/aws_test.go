package aws

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/control"
)

const keyID, secretKey = "AKIDEXAMPLE", "wJalrXUtnFEMI-EXAMPLEKEY"

// manager stands in for Secrets Manager: it checks that every request is signed
// (AWS Signature Version 4), and keeps what is put.
type manager struct {
	t      *testing.T
	mu     sync.Mutex
	of     map[string][]map[string]any // name → versions, the newest last
	answer int                         // instead, if it is not 0
}

func hmacOf(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// signature is what SigV4 asks for, computed from the request alone.
func signature(r *http.Request, body []byte) (want, got string) {
	auth := r.Header.Get("Authorization")
	part := func(name string) string {
		_, rest, _ := strings.Cut(auth, name+"=")
		v, _, _ := strings.Cut(rest, ",")
		return strings.TrimSpace(v)
	}
	scope := strings.TrimPrefix(part("Credential"), keyID+"/")
	var headers strings.Builder
	for _, h := range strings.Split(part("SignedHeaders"), ";") {
		v := strings.Join(r.Header.Values(h), ",")
		switch h {
		case "host":
			v = r.Host
		case "content-length":
			v = fmt.Sprint(r.ContentLength)
		}
		fmt.Fprintf(&headers, "%s:%s\n", h, strings.TrimSpace(v))
	}
	sum := sha256.Sum256(body)
	canonical := strings.Join([]string{r.Method, "/", "", headers.String(), part("SignedHeaders"), hex.EncodeToString(sum[:])}, "\n")
	sum = sha256.Sum256([]byte(canonical))
	toSign := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), scope, hex.EncodeToString(sum[:])}, "\n")
	key := []byte("AWS4" + secretKey)
	for _, p := range strings.Split(scope, "/") {
		key = hmacOf(key, p)
	}
	return hex.EncodeToString(hmacOf(key, toSign)), part("Signature")
}

func (m *manager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	refuse := func(status int, code string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": "no"})
	}
	if m.answer != 0 {
		refuse(m.answer, "InternalServiceError")
		return
	}
	if want, got := signature(r, body); want != got {
		m.t.Errorf("the signature of %s is wrong", r.Header.Get("X-Amz-Target"))
		refuse(403, "InvalidSignatureException")
		return
	}
	var in struct {
		SecretId, Name, SecretString, VersionId string
		ForceDeleteWithoutRecovery              bool
		MoveToVersionId, RemoveFromVersionId    string
	}
	if err := json.Unmarshal(body, &in); err != nil {
		m.t.Error(err)
	}
	name := in.SecretId + in.Name
	versions := m.of[name]
	target := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "secretsmanager.")
	if len(versions) == 0 && target != "CreateSecret" {
		refuse(400, "ResourceNotFoundException")
		return
	}
	switch target {
	case "CreateSecret", "PutSecretValue":
		id := fmt.Sprintf("version-%031d", len(versions)+1)
		m.of[name] = append(versions, map[string]any{"VersionId": id, "SecretString": in.SecretString})
		_ = json.NewEncoder(w).Encode(map[string]any{"Name": name, "VersionId": id})
	case "GetSecretValue":
		for i := len(versions) - 1; i >= 0; i-- {
			if in.VersionId == "" || in.VersionId == versions[i]["VersionId"] {
				_ = json.NewEncoder(w).Encode(versions[i])
				return
			}
		}
		refuse(400, "ResourceNotFoundException")
	case "ListSecretVersionIds":
		var list []map[string]any
		for i, v := range versions {
			stages := map[int][]string{1: {"AWSCURRENT"}, 2: {"AWSPREVIOUS"}}[len(versions)-i]
			list = append(list, map[string]any{"VersionId": v["VersionId"], "CreatedDate": 1.7e9, "VersionStages": stages})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"Versions": list})
	case "UpdateSecretVersionStage":
		if in.RemoveFromVersionId != versions[len(versions)-1]["VersionId"] {
			m.t.Errorf("another version than the current one is taken back")
		}
		m.of[name] = versions[:len(versions)-1]
		_, _ = io.WriteString(w, "{}")
	case "DeleteSecret":
		delete(m.of, name)
		_, _ = io.WriteString(w, "{}")
	default:
		m.t.Errorf("request %q", target)
	}
}

func TestSecrets(t *testing.T) {
	m := &manager{t: t, of: map[string][]map[string]any{}}
	server := httptest.NewServer(m)
	defer server.Close()
	for k, v := range map[string]string{"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": keyID, "AWS_SECRET_ACCESS_KEY": secretKey,
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": server.URL, "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
		"AWS_PROFILE": "", "AWS_SESSION_TOKEN": ""} {
		t.Setenv(k, v)
	}
	ctx := t.Context()
	s, err := Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.timeout = time.Minute // a machine that stands still is no AWS that is away
	ref := control.SecretRef{Scheme: control.SchemeAWS, Path: "parley/tenants/a/crm"}
	if _, _, err := s.ReadSecret(ctx, ref); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("nothing is read: %v", err)
	}
	first, err := s.WriteSecret(ctx, ref, "one")
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.WriteSecret(ctx, ref, `{"token":"two"}`)
	if err != nil || second.Version == first.Version {
		t.Fatalf("%s, %v", second, err)
	}
	field := ref
	field.Field = "token"
	for _, tt := range []struct {
		ref  control.SecretRef
		want string
	}{{first, "one"}, {ref, `{"token":"two"}`}, {field, "two"}} {
		if v, _, err := s.ReadSecret(ctx, tt.ref); err != nil || string(v) != tt.want {
			t.Errorf("%s: %v", tt.ref, err)
		}
	}
	field.Field = "other"
	if _, _, err := s.ReadSecret(ctx, field); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("a key that is not there: %v", err)
	}
	if list, err := s.SecretVersions(ctx, ref); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
	if err := s.RetractSecret(ctx, second); err != nil {
		t.Error(err)
	}
	if v, _, err := s.ReadSecret(ctx, ref); err != nil || string(v) != "one" {
		t.Errorf("after the second was taken back: %v", err)
	}
	m.answer = 500
	if _, _, err := s.ReadSecret(ctx, ref); !errors.Is(err, control.ErrUnavailable) {
		t.Errorf("AWS fails: %v", err)
	}
	m.answer = 0
	if err := s.ForgetSecret(ctx, ref); err != nil || len(m.of) != 0 {
		t.Errorf("%d left, %v", len(m.of), err)
	}
}
