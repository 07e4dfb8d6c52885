package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Bounds of what may be asked for after a call.
const (
	maxExtract      = 16 << 10 // bytes of a schema
	maxExtractDepth = 8        // of objects and lists in one another
	maxOutcomes     = 20
)

// AfterCall is what a model is to make of each call after its end.
type AfterCall struct {
	Summary      bool            `json:"summary,omitempty" doc:"Write a summary."`
	Instructions string          `json:"instructions,omitempty" doc:"How to write the summary and what to look for. At most 4000 bytes."`
	Extract      json.RawMessage `json:"extract,omitempty" doc:"A JSON Schema of an object: the fields to be read from the call. At most 16 KiB and 8 levels, without references. Objects that list properties take no others."`
	Outcomes     []string        `json:"outcomes,omitempty" doc:"Labels, of which one is chosen. At most 20."`
	LLM          []VendorChoice  `json:"llm,omitempty" doc:"Which models, in order of preference. Default: the agent's own."`
	MaxTokens    int             `json:"max_tokens,omitempty" doc:"Longest answer. Default 1000. 100 to 8000."`
}

// afterCall finds what is wrong with what is asked for.
func (c *settingsCheck) afterCall(a *AfterCall) {
	const at = "settings.after_call"
	if !a.Summary && len(a.Extract) == 0 && len(a.Outcomes) == 0 {
		c.wrong(at, "asks for nothing: set summary, extract or outcomes, or leave it out")
	}
	if len(a.Instructions) > 4000 {
		c.wrong(at+".instructions", "must be at most 4000 bytes")
	}
	if n := a.MaxTokens; n != 0 && (n < 100 || n > 8000) {
		c.wrong(at+".max_tokens", "must be 100 to 8000")
	}
	if n := len(a.Outcomes); n == 1 || n > maxOutcomes {
		c.wrong(at+".outcomes", "must be 2 to %d: one of them is chosen", maxOutcomes)
	}
	seen := map[string]bool{}
	for i, o := range a.Outcomes {
		switch {
		case strings.TrimSpace(o) != o || o == "" || len(o) > 64:
			c.wrong(fmt.Sprintf("%s.outcomes[%d]", at, i), "must be 1 to 64 bytes, with no space around them")
		case seen[o]:
			c.wrong(fmt.Sprintf("%s.outcomes[%d]", at, i), "is there twice")
		}
		seen[o] = true
	}
	if _, err := a.schema(); err != nil {
		c.wrong(at+".extract", "%s", err)
	}
}

// An answerSchema is what the model's answer is held to.
type answerSchema struct {
	compiled *jsonschema.Schema
	document json.RawMessage // as the model is shown it
}

// schema builds what the answer must be: an object of what was asked for. Its
// error is for the tenant.
func (a *AfterCall) schema() (answerSchema, error) {
	fields, required := map[string]any{}, []any{}
	add := func(name string, schema any) { fields[name], required = schema, append(required, name) }
	if a.Summary {
		add("summary", map[string]any{"type": "string", "minLength": 1, "maxLength": 8000})
	}
	if len(a.Outcomes) > 0 {
		var labels []any
		for _, o := range a.Outcomes {
			labels = append(labels, o)
		}
		add("outcome", map[string]any{"enum": labels})
	}
	if len(a.Extract) > 0 {
		if len(a.Extract) > maxExtract {
			return answerSchema{}, fmt.Errorf("must be at most %d bytes", maxExtract)
		}
		own, err := jsonschema.UnmarshalJSON(bytes.NewReader(a.Extract))
		if err != nil {
			return answerSchema{}, errors.New("must be a JSON Schema")
		}
		if o, ok := own.(map[string]any); !ok || o["type"] != "object" {
			return answerSchema{}, errors.New(`must be a JSON Schema of type "object"`)
		}
		if err := closeSchema(own, 0); err != nil {
			return answerSchema{}, err
		}
		add("extracted", own)
	}
	whole := map[string]any{"type": "object", "properties": fields, "required": required, "additionalProperties": false}
	c := jsonschema.NewCompiler()
	c.UseLoader(jsonschema.SchemeURLLoader{}) // nothing is read from elsewhere
	if err := c.AddResource("parley:answer", whole); err != nil {
		return answerSchema{}, errors.New("must be a JSON Schema")
	}
	compiled, err := c.Compile("parley:answer")
	if err != nil {
		return answerSchema{}, errors.New("must be a JSON Schema of the draft 2020-12, with patterns as RE2 has them")
	}
	document, err := json.Marshal(whole)
	return answerSchema{compiled, document}, err
}

// closeSchema has objects that list their properties take no others, and
// refuses what refers elsewhere or is too deep.
func closeSchema(v any, depth int) error {
	if depth > 2*maxExtractDepth { // each level of data is two of its schema
		return fmt.Errorf("must be at most %d levels deep", maxExtractDepth)
	}
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if slices.Contains([]string{"$ref", "$dynamicRef", "$id", "$schema", "$anchor", "$dynamicAnchor", "$defs", "definitions"}, name) {
				return fmt.Errorf("must do without %s: write out what it means", name)
			}
			if err := closeSchema(v[name], depth+1); err != nil {
				return err
			}
		}
		_, object := v["properties"].(map[string]any)
		if _, says := v["additionalProperties"]; object && !says && v["type"] == "object" {
			v["additionalProperties"] = false
		}
	case []any:
		for _, e := range v {
			if err := closeSchema(e, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxAnswer bounds a model's answer, in bytes.
const maxAnswer = 64 << 10

// read takes a model's answer. Its error says what does not fit in the words of
// the schema: nothing of the answer, in which anything may stand.
func (s answerSchema) read(answer string) (w Afterwork, err error) {
	if len(answer) > maxAnswer {
		return w, fmt.Errorf("it has more than %d bytes", maxAnswer)
	}
	d := json.NewDecoder(strings.NewReader(answer))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return w, errors.New("it is no JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return w, errors.New("it goes on behind its end")
	}
	if err := s.compiled.Validate(v); err != nil {
		var misfit *jsonschema.ValidationError
		if !errors.As(err, &misfit) {
			return w, errors.New("it does not fit the schema")
		}
		for len(misfit.Causes) > 0 {
			misfit = misfit.Causes[0]
		}
		_, place, _ := strings.Cut(misfit.SchemaURL, "#")
		return w, fmt.Errorf("it does not fit the schema at %s", strings.Join(append([]string{place}, misfit.ErrorKind.KeywordPath()...), "/"))
	}
	var said struct {
		Summary   string          `json:"summary"`
		Outcome   string          `json:"outcome"`
		Extracted json.RawMessage `json:"extracted"`
	}
	err = json.Unmarshal([]byte(answer), &said)
	return Afterwork{Summary: said.Summary, Outcome: said.Outcome, Extracted: said.Extracted}, err
}
