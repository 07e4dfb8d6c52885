package providertest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// A source is a document in which a vendor publishes its messages. What they
// leave out (of Deepgram: /v2/listen, SpeechStarted, UtteranceEnd and warnings;
// all of ElevenLabs) is held by the tests of the adapters alone.
type source struct {
	file    string
	pointer string   // to a schema by its name
	roots   []string // components that are used; empty: the whole document is read
}

var (
	deepgramSource = source{file: "deepgram_asyncapi.yml", pointer: "#/channels/%s/payload"}
	openAISource   = source{file: "openai_openapi.yaml", pointer: "#/components/schemas/%s", roots: []string{
		"CreateChatCompletionRequest", "CreateChatCompletionStreamResponse", "CreateSpeechRequest",
		"CreateTranscriptionRequest", "CreateTranscriptionResponseJson", "ErrorResponse",
	}}
)

// documentsVariable names the folder of the vendors' documents. By default they
// are looked for beside the checkout, in ../shared/data; they are not part of it.
const documentsVariable = "PARLEY_VENDOR_DOCUMENTS"

// undocumented are schemas' names for messages that the document leaves out.
const undocumented = ""

// A document checks messages against a vendor's own schemas. Nil checks nothing.
type document struct {
	t        testing.TB
	source   source
	compiler *jsonschema.Compiler
}

// openDocument reads a vendor's document. Where there is none it says so, and
// returns nil: a checkout alone has the vendors' protocols by our reading only.
func openDocument(t testing.TB, from source) *document {
	t.Helper()
	dir, err := documentsFolder()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, from.file))
	if errors.Is(err, fs.ErrNotExist) {
		t.Logf("left out: the check against the vendor's own document, since there is no %s; %s names its folder", from.file, documentsVariable)
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(from.roots) > 0 {
		b = components(b, from.roots)
	}
	doc, err := plain(b)
	if err != nil {
		t.Fatalf("read %s: %v", from.file, err)
	}
	d := &document{t: t, source: from, compiler: jsonschema.NewCompiler()}
	if err := d.compiler.AddResource(d.url(), doc); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *document) url() string { return "https://documents/" + d.source.file }

// documentsFolder is where the documents are looked for.
func documentsFolder() (string, error) {
	if dir := os.Getenv(documentsVariable); dir != "" {
		return dir, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "..", "shared", "data"), nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod above the test's folder")
		}
		dir = up
	}
}

// components cuts an OpenAPI document down to the schemas named and what they
// refer to: the whole takes seconds to read.
func components(doc []byte, names []string) []byte {
	_, doc, _ = bytes.Cut(doc, []byte("\ncomponents:\n  schemas:\n"))
	parts := make(map[string][]byte)
	heads := regexp.MustCompile(`(?m)^ {4}(\w+):$`).FindAllSubmatchIndex(doc, -1)
	for i, h := range heads {
		end := len(doc)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		parts[string(doc[h[2]:h[3]])] = doc[h[0]:end]
	}
	refs := regexp.MustCompile(`#/components/schemas/(\w+)`)
	out := []byte("components:\n  schemas:\n")
	for names = slices.Clone(names); len(names) > 0; names = names[1:] {
		part := parts[names[0]]
		delete(parts, names[0])
		out = append(out, part...)
		for _, ref := range refs.FindAllSubmatch(part, -1) {
			names = append(names, string(ref[1]))
		}
	}
	return out
}

// plain turns YAML into the values that a schema's compiler takes.
func plain(b []byte) (any, error) {
	var v any
	if err := yaml.Unmarshal(b, &v); err != nil {
		return nil, err
	}
	b, err := json.Marshal(nullable(v))
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(b))
}

// nullable writes OpenAPI 3.0's "nullable", which vendors still use, as a schema.
func nullable(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = nullable(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = nullable(v[k])
		}
		if v["nullable"] == true {
			delete(v, "nullable")
			return map[string]any{"anyOf": []any{v, map[string]any{"type": "null"}}}
		}
	}
	return v
}

// check holds a message to a schema, and to having no field that the schema does
// not know.
func (d *document) check(schema string, message []byte) {
	if d == nil {
		return
	}
	d.t.Helper()
	if err := d.valid(schema, message); err != nil {
		d.t.Errorf("%s does not know this message as %s: %v\n%s", d.source.file, schema, err, message)
	}
}

func (d *document) valid(schema string, message []byte) error {
	if schema == undocumented {
		return nil
	}
	strict := "https://strict/" + d.source.file + "/" + schema
	compiled, err := d.compiler.Compile(strict)
	if err != nil { // the first of its kind
		err := d.compiler.AddResource(strict, map[string]any{
			"$schema": "https://json-schema.org/draft/2020-12/schema",
			"$ref":    d.url() + fmt.Sprintf(d.source.pointer, schema), "unevaluatedProperties": false,
		})
		if err != nil {
			return err
		}
		if compiled, err = d.compiler.Compile(strict); err != nil {
			return err
		}
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(message))
	if err != nil {
		return err
	}
	return compiled.Validate(v)
}

// kindOf is a message's type.
func kindOf(message []byte) string {
	var m struct {
		Type string `json:"type"`
	}
	_ = json.Unmarshal(message, &m)
	return m.Type
}

// Check holds every message of either side so far to the vendor's document.
func (d *Deepgram) Check(t testing.TB) {
	t.Helper()
	doc := openDocument(t, deepgramSource)
	for _, r := range d.Requests() {
		if r.Path == "message" {
			doc.check("listen/messages/controlMessagesRequest", r.Body)
		}
	}
	schemas := map[string]string{"Results": "listen/messages/transcriptionResponse", "Metadata": "listen/messages/controlMessageResponse"}
	for _, a := range d.Answers() {
		doc.check(schemas[kindOf(a)], a)
	}
}

// Check holds every message of either side so far to the vendor's document. That
// writes "flush" and "clear" where its clients read Flushed and Cleared, which is
// what the stand-in sends; the other fields are checked.
func (d *DeepgramSpeak) Check(t testing.TB) {
	t.Helper()
	doc := openDocument(t, deepgramSource)
	for _, r := range d.Requests() {
		switch {
		case r.Path != "message":
		case kindOf(r.Body) == "Speak":
			doc.check("speak/messages/textToSpeechRequest", r.Body)
		default:
			doc.check("speak/messages/controlMessagesRequest", r.Body)
		}
	}
	for _, a := range d.Answers() {
		switch kindOf(a) {
		case "Metadata":
			doc.check("speak/messages/metadataResponse", a)
		case "Flushed", "Cleared":
			a = bytes.Replace(bytes.Replace(a, []byte(`"Flushed"`), []byte(`"flush"`), 1), []byte(`"Cleared"`), []byte(`"clear"`), 1)
			doc.check("speak/messages/controlMessagesResponse", a)
		}
	}
}

// Check holds every request and answer so far to the vendor's document.
func (o *OpenAI) Check(t testing.TB) {
	t.Helper()
	doc := openDocument(t, openAISource)
	for _, r := range o.Requests() {
		switch r.Path {
		case "/chat/completions":
			doc.check("CreateChatCompletionRequest", r.Body)
		case "/audio/speech":
			doc.check("CreateSpeechRequest", r.Body)
		case "/audio/transcriptions":
			form := object{"file": "speech.wav"}
			for k, v := range r.Fields {
				form[k] = v
			}
			b, err := json.Marshal(form)
			if err != nil {
				t.Fatal(err)
			}
			doc.check("CreateTranscriptionRequest", b)
		}
	}
	for _, a := range o.Answers() {
		switch {
		case bytes.Contains(a, []byte(`"chat.completion.chunk"`)):
			doc.check("CreateChatCompletionStreamResponse", a)
		case strings.HasPrefix(string(a), `{"error":`):
			doc.check("ErrorResponse", a)
		default:
			doc.check("CreateTranscriptionResponseJson", a)
		}
	}
}
