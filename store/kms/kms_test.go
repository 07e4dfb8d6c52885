package kms

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// awsKMS stands in for KMS in its wire form, JSON 1.1: a blob is its version, the
// context and the text, in clear.
type awsKMS struct {
	mu      sync.Mutex
	version string
	refuse  string // code of the error to answer with
	hangs   chan struct{}
	signed  []string
}

type awsBlob struct {
	Version string
	Context map[string]string
	Text    []byte
}

func (k *awsKMS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if k.hangs != nil {
		<-k.hangs
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.signed = append(k.signed, r.Header.Get("Authorization"))
	b, _ := io.ReadAll(r.Body)
	var in struct {
		KeyId, SourceKeyId, DestinationKeyId                                     string
		Plaintext, CiphertextBlob                                                []byte
		EncryptionContext, SourceEncryptionContext, DestinationEncryptionContext map[string]string
	}
	_ = json.Unmarshal(b, &in)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	fail := func(code string) {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": "quotes " + string(b)})
	}
	open := func(context map[string]string) (blob awsBlob, ok bool) {
		_ = json.Unmarshal(in.CiphertextBlob, &blob)
		ok = blob.Context["parley"] == context["parley"] && blob.Version != ""
		return blob, ok
	}
	seal := func(text []byte, context map[string]string) []byte {
		b, _ := json.Marshal(awsBlob{k.version, context, text})
		return b
	}
	out := map[string]any{"KeyId": in.KeyId}
	switch {
	case k.refuse != "":
		fail(k.refuse)
		return
	case in.KeyId+in.SourceKeyId != "alias/parley":
		fail("NotFoundException")
		return
	}
	switch strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService.") {
	case "Encrypt":
		out["CiphertextBlob"] = seal(in.Plaintext, in.EncryptionContext)
	case "Decrypt":
		blob, ok := open(in.EncryptionContext)
		if !ok {
			fail("InvalidCiphertextException")
			return
		}
		out["Plaintext"] = blob.Text
	case "ReEncrypt":
		blob, ok := open(in.SourceEncryptionContext)
		if !ok {
			fail("InvalidCiphertextException")
			return
		}
		out["CiphertextBlob"] = seal(blob.Text, in.DestinationEncryptionContext)
	default:
		fail("UnknownOperationException")
		return
	}
	_ = json.NewEncoder(w).Encode(out)
}

func open(t *testing.T, k *awsKMS) *Provider {
	t.Helper()
	s := httptest.NewServer(k)
	t.Cleanup(s.Close)
	p, err := Open(t.Context(), "alias/parley", Options{Endpoint: s.URL, Load: []func(*config.LoadOptions) error{
		config.WithRegion("eu-central-1"),
		config.WithCredentialsProvider(aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider("AKID", "SECRET", ""))),
		config.WithSharedConfigFiles(nil), config.WithSharedCredentialsFiles(nil),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProvider(t *testing.T) {
	k := &awsKMS{version: "1"}
	p := open(t, k)
	if got := p.Name(); got != "aws-kms://alias/parley" {
		t.Errorf("Name is %q", got)
	}
	key := bytes.Repeat([]byte{7}, 32)
	wrapped, err := p.Wrap(t.Context(), "data-key/a/b", key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.Unwrap(t.Context(), "data-key/a/b", wrapped); err != nil || !bytes.Equal(got, key) {
		t.Errorf("Unwrap: %x, %v", got, err)
	}
	if _, err := p.Unwrap(t.Context(), "data-key/a/c", wrapped); err == nil {
		t.Error("it unwraps in another place")
	}
	k.version = "2"
	again, err := p.Rewrap(t.Context(), "data-key/a/b", wrapped)
	if err != nil || bytes.Equal(again, wrapped) {
		t.Fatalf("Rewrap: %v", err)
	}
	if got, err := p.Unwrap(t.Context(), "data-key/a/b", again); err != nil || !bytes.Equal(got, key) {
		t.Errorf("Unwrap of what was rewrapped: %x, %v", got, err)
	}
	if _, err := p.Rewrap(t.Context(), "data-key/a/c", wrapped); err == nil {
		t.Error("it rewraps in another place")
	}
	for _, h := range k.signed {
		if !strings.Contains(h, "AWS4-HMAC-SHA256 Credential=AKID/") || !strings.Contains(h, "/eu-central-1/kms/aws4_request") {
			t.Errorf("a request is signed %q", h)
		}
	}
}

// What AWS says may quote what was sent.
func TestProblemsQuoteNothing(t *testing.T) {
	k := &awsKMS{refuse: "AccessDeniedException"}
	p := open(t, k)
	_, err := p.Wrap(t.Context(), "p", []byte("the-secret-key"))
	if err == nil || !strings.Contains(err.Error(), "AccessDeniedException") || strings.Contains(err.Error(), "quotes") {
		t.Errorf("refused: %v", err)
	}
	k.hangs = make(chan struct{})
	defer close(k.hangs)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err = p.Unwrap(ctx, "p", []byte("x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without an answer: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, key := range []string{"", "two words"} {
		if _, err := Open(t.Context(), key, Options{}); err == nil {
			t.Errorf("key %q is taken", key)
		}
	}
}
