package signalingtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// documentEnv names the folder of vendors' own API documents. They are not part of
// this project: without the folder nothing is held to them.
const documentEnv = "PARLEY_VENDOR_DOCS"

// used are the operations that Parley asks Twilio for.
var used = map[string][]string{
	"/2010-04-01/Accounts/{Sid}.json":                    {"get"},
	"/2010-04-01/Accounts/{AccountSid}/Calls.json":       {"get", "post"},
	"/2010-04-01/Accounts/{AccountSid}/Calls/{Sid}.json": {"get", "post"},
}

// twilioDocument reads Twilio's OpenAPI document (https://github.com/twilio/twilio-oai,
// spec/json/twilio_api_v2010.json) from the folder that PARLEY_VENDOR_DOCS names,
// else from shared/data beside this module. It is nil where there is none.
func twilioDocument() ([]byte, error) {
	folder := os.Getenv(documentEnv)
	if folder == "" {
		at, err := os.Getwd()
		for ; err == nil && folder == "" && at != filepath.Dir(at); at = filepath.Dir(at) {
			if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
				folder = filepath.Join(filepath.Dir(at), "shared", "data")
			}
		}
	}
	b, err := os.ReadFile(filepath.Join(folder, "twilio_api_v2010.json"))
	if errors.Is(err, fs.ErrNotExist) && os.Getenv(documentEnv) == "" {
		return nil, nil
	}
	return b, err
}

// An apiDocument holds requests, and what is answered to them, to the carrier's own
// description of its REST API.
type apiDocument struct {
	operations []*operation
}

// An operation is one method of one path of a [apiDocument].
type operation struct {
	method  string
	path    []string // its segments; "{…}" is a parameter
	parts   map[string]*part
	oneOf   []string                      // of these fields of the form, one must be there
	answers map[string]*jsonschema.Schema // by status
}

// A part of a request, "path", "query" or "form", is an object of named values.
type part struct {
	kinds  map[string]string // types of the values, "array" for many
	schema *jsonschema.Schema
}

const documentURL = "https://document/"

// newAPIDocument reads what is used of an OpenAPI document of version 3.0; of an
// empty one it is nil, to which everything is right.
func newAPIDocument(text []byte) (*apiDocument, error) {
	if len(text) == 0 {
		return nil, nil
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read the carrier's document: %w", err)
	}
	r := &documentReader{root: nullable(v).(map[string]any), compiler: jsonschema.NewCompiler()}
	r.compiler.AssertFormat()
	for _, f := range documentFormats {
		r.compiler.RegisterFormat(&f)
	}
	if err := r.compiler.AddResource(documentURL, r.root); err != nil {
		return nil, err
	}
	d := &apiDocument{}
	for path, methods := range used {
		for _, method := range methods {
			op, err := r.operation(path, method, object(object(object(r.root["paths"])[path])[method]))
			if err != nil {
				return nil, fmt.Errorf("read %s %s of the carrier's document: %w", method, path, err)
			}
			d.operations = append(d.operations, op)
		}
	}
	return d, nil
}

// A documentReader makes operations of a document.
type documentReader struct {
	root     map[string]any
	compiler *jsonschema.Compiler
}

func (r *documentReader) operation(path, method string, o map[string]any) (*operation, error) {
	op := &operation{method: strings.ToUpper(method), path: strings.Split(path, "/"),
		parts: map[string]*part{}, answers: map[string]*jsonschema.Schema{}}
	parts := map[string]map[string]any{}
	for _, in := range []string{"path", "query"} {
		parts[in] = map[string]any{"type": "object", "properties": map[string]any{}, "required": []any{}}
	}
	for _, p := range list(o["parameters"]) {
		in, name := parts[text(object(p)["in"])], text(object(p)["name"])
		object(in["properties"])[name] = object(p)["schema"]
		if object(p)["required"] == true {
			in["required"] = append(list(in["required"]), name)
		}
	}
	parts["form"] = map[string]any{"type": "object"}
	if body := object(o["requestBody"]); body != nil {
		parts["form"] = object(object(object(body["content"])["application/x-www-form-urlencoded"])["schema"])
	}
	for _, c := range list(object(o["x-twilio"])["conditional"]) {
		for _, name := range list(c) {
			op.oneOf = append(op.oneOf, strings.ReplaceAll(text(name), "_", ""))
		}
	}
	var err error
	for in, schema := range parts {
		p := &part{kinds: map[string]string{}}
		for name, s := range object(schema["properties"]) {
			p.kinds[name] = text(r.resolved(s)["type"])
		}
		if p.schema, err = r.closed(method+path+"/"+in, schema); err != nil {
			return nil, err
		}
		op.parts[in] = p
	}
	for status, a := range object(o["responses"]) {
		schema := object(object(object(object(a)["content"])["application/json"])["schema"])
		if op.answers[status], err = r.closed(method+path+"/"+status, schema); err != nil {
			return nil, err
		}
	}
	return op, nil
}

// resolved follows a schema's reference.
func (r *documentReader) resolved(schema any) map[string]any {
	s := object(schema)
	ref, ok := strings.CutPrefix(text(s["$ref"]), "#/components/schemas/")
	if !ok {
		return s
	}
	return object(object(object(r.root["components"])["schemas"])[ref])
}

// closed compiles a schema to which a field that it does not name is an error.
func (r *documentReader) closed(name string, schema map[string]any) (*jsonschema.Schema, error) {
	at := documentURL + url.PathEscape(name)
	// References in it are into the document.
	b, err := json.Marshal(map[string]any{"allOf": []any{schema}, "unevaluatedProperties": false})
	if err != nil {
		return nil, err
	}
	b = bytes.ReplaceAll(b, []byte(`"#/`), []byte(`"`+documentURL+`#/`))
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	if err := r.compiler.AddResource(at, v); err != nil {
		return nil, err
	}
	return r.compiler.Compile(at)
}

// find returns the operation that a request is for, with what its path holds.
func (d *apiDocument) find(req *http.Request) (*operation, url.Values) {
	segments := strings.Split(req.URL.Path, "/")
	for _, o := range d.operations {
		if values, ok := o.match(segments); ok && o.method == req.Method {
			return o, values
		}
	}
	return nil, nil
}

func (o *operation) match(segments []string) (url.Values, bool) {
	values := url.Values{}
	if len(segments) != len(o.path) {
		return nil, false
	}
	for i, s := range o.path {
		if name, rest, ok := strings.Cut(strings.TrimPrefix(s, "{"), "}"); ok {
			value, ok := strings.CutSuffix(segments[i], rest)
			if !ok {
				return nil, false
			}
			values.Set(name, value)
		} else if s != segments[i] {
			return nil, false
		}
	}
	return values, true
}

// check holds a request whose form was parsed to the document, and returns what
// it is for.
func (d *apiDocument) check(req *http.Request) (*operation, error) {
	if d == nil {
		return nil, nil
	}
	o, path := d.find(req)
	if o == nil {
		return nil, fmt.Errorf("the document knows no %s %s", req.Method, req.URL.Path)
	}
	for in, values := range map[string]url.Values{"path": path, "query": req.URL.Query(), "form": req.PostForm} {
		if err := o.parts[in].check(values); err != nil {
			return o, fmt.Errorf("%s of %s %s: %w", in, req.Method, req.URL.Path, err)
		}
	}
	if len(o.oneOf) > 0 && !slices.ContainsFunc(o.oneOf, func(name string) bool {
		for k := range req.PostForm {
			if strings.EqualFold(k, name) {
				return true
			}
		}
		return false
	}) {
		return o, fmt.Errorf("%s %s: one of %q must be there", req.Method, req.URL.Path, o.oneOf)
	}
	return o, nil
}

func (p *part) check(values url.Values) error {
	v := map[string]any{}
	for name, all := range values {
		if p.kinds[name] == "array" {
			many := make([]any, len(all))
			for i, s := range all {
				many[i] = s
			}
			v[name] = many
			continue
		}
		if len(all) != 1 {
			return fmt.Errorf("%s is there %d times", name, len(all))
		}
		v[name] = typed(p.kinds[name], all[0])
	}
	return p.schema.Validate(v)
}

// typed is a form's value as JSON would have it; what is not of its kind stays a
// string, which the schema then refuses.
func typed(kind, s string) any {
	switch kind {
	case "integer", "number":
		if _, err := strconv.ParseFloat(s, 64); err == nil {
			return json.Number(s)
		}
	case "boolean":
		if b, err := strconv.ParseBool(s); err == nil {
			return b
		}
	}
	return s
}

// checkAnswer holds an answer to the document, which describes no refusals.
func (o *operation) checkAnswer(status int, body []byte) error {
	if o == nil {
		return nil
	}
	schema := o.answers[strconv.Itoa(status)]
	if schema == nil && status >= 400 {
		return nil
	}
	if schema == nil {
		return fmt.Errorf("%s is not answered with %d", strings.Join(o.path, "/"), status)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	if err := schema.Validate(v); err != nil {
		return fmt.Errorf("answer of %s: %w", strings.Join(o.path, "/"), err)
	}
	return nil
}

// nullable writes OpenAPI 3.0's "nullable" as a schema.
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

func object(v any) map[string]any { m, _ := v.(map[string]any); return m }
func list(v any) []any            { l, _ := v.([]any); return l }
func text(v any) string           { s, _ := v.(string); return s }

// documentFormats are Twilio's own. That of addresses is ours: a webhook's must be
// one that Twilio can ask, and links in answers may be without a host.
var documentFormats = []jsonschema.Format{
	{Name: "uri", Validate: formatted(func(s string) bool {
		u, err := url.Parse(s)
		return err == nil && (strings.HasPrefix(s, "/") || (u.Scheme == "https" || u.Scheme == "http") && u.Host != "")
	})},
	{Name: "endpoint", Validate: formatted(isEndpoint)},
	{Name: "phone-number", Validate: formatted(isEndpoint)},
	{Name: "date-time-rfc-2822", Validate: formatted(isMailDate)},
	{Name: "twiml", Validate: formatted(func(s string) bool { return len(s) <= 4000 && strings.HasPrefix(s, "<") })},
}

func formatted(is func(string) bool) func(any) error {
	return func(v any) error {
		if s, ok := v.(string); ok && !is(s) {
			return errors.New("is not of its format")
		}
		return nil
	}
}

// isEndpoint tells a telephone number, an address or the name of a client.
func isEndpoint(s string) bool {
	for _, scheme := range []string{"sip:", "sips:", "client:", "sim:"} {
		if rest, ok := strings.CutPrefix(s, scheme); ok {
			return rest != ""
		}
	}
	digits, ok := strings.CutPrefix(s, "+")
	return ok && len(digits) > 0 && len(digits) <= 15 && strings.Trim(digits, "0123456789") == ""
}

func isMailDate(s string) bool {
	_, err := time.Parse(time.RFC1123Z, s)
	return err == nil
}
