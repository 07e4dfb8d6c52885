package providertest

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// documents are what the vendors themselves publish of their messages. What they
// leave out (of Deepgram: /v2/listen, SpeechStarted, UtteranceEnd and warnings;
// all of ElevenLabs) is held by the tests of the adapters alone.
//
//go:embed testdata/*.schema.json
var documents embed.FS

// undocumented are schemas' names for messages that the document leaves out.
const undocumented = ""

// A document checks messages against a vendor's own schemas.
type document struct {
	t        testing.TB
	name     string
	compiler *jsonschema.Compiler
}

func openDocument(t testing.TB, name string) *document {
	t.Helper()
	b, err := documents.ReadFile("testdata/" + name + ".schema.json")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	d := &document{t: t, name: name, compiler: jsonschema.NewCompiler()}
	if err := d.compiler.AddResource("https://"+name+"/", parsed); err != nil {
		t.Fatal(err)
	}
	return d
}

// check holds a message to a schema, and to having no field that the schema does
// not know.
func (d *document) check(schema string, message []byte) {
	d.t.Helper()
	if err := d.valid(schema, message); err != nil {
		d.t.Errorf("%s does not know this message as %s: %v\n%s", d.name, schema, err, message)
	}
}

func (d *document) valid(schema string, message []byte) error {
	if schema == undocumented {
		return nil
	}
	strict := fmt.Sprintf("https://%s/strict/%s", d.name, schema)
	compiled, err := d.compiler.Compile(strict)
	if err != nil { // the first of its kind
		err := d.compiler.AddResource(strict, map[string]any{
			"$schema": "https://json-schema.org/draft/2020-12/schema",
			"$ref":    "https://" + d.name + "/#/$defs/" + schema, "unevaluatedProperties": false,
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
	doc := openDocument(t, "deepgram")
	for _, r := range d.Requests() {
		if r.Path == "message" {
			doc.check("listen.controlMessagesRequest", r.Body)
		}
	}
	schemas := map[string]string{"Results": "listen.transcriptionResponse", "Metadata": "listen.controlMessageResponse"}
	for _, a := range d.Answers() {
		doc.check(schemas[kindOf(a)], a)
	}
}

// Check holds every message of either side so far to the vendor's document. That
// writes "flush" and "clear" where its clients read Flushed and Cleared, which is
// what the stand-in sends; the other fields are checked.
func (d *DeepgramSpeak) Check(t testing.TB) {
	t.Helper()
	doc := openDocument(t, "deepgram")
	for _, r := range d.Requests() {
		switch {
		case r.Path != "message":
		case kindOf(r.Body) == "Speak":
			doc.check("speak.textToSpeechRequest", r.Body)
		default:
			doc.check("speak.controlMessagesRequest", r.Body)
		}
	}
	for _, a := range d.Answers() {
		switch kindOf(a) {
		case "Metadata":
			doc.check("speak.metadataResponse", a)
		case "Flushed", "Cleared":
			a = bytes.Replace(bytes.Replace(a, []byte(`"Flushed"`), []byte(`"flush"`), 1), []byte(`"Cleared"`), []byte(`"clear"`), 1)
			doc.check("speak.controlMessagesResponse", a)
		}
	}
}

// Check holds every request and answer so far to the vendor's document.
func (o *OpenAI) Check(t testing.TB) {
	t.Helper()
	doc := openDocument(t, "openai")
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
