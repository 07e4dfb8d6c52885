// Package flowtest runs conversations against flows, with a virtual clock and
// stand-ins for HTTP, secrets and content. A file of cases is JSON, as docs/flow.md has
// it under Tests; a flow document may carry cases under "tests".
package flowtest

import (
	"bytes"
	"encoding/json"
	"fmt"

	"parley/agent/flow"
)

// A Case is one conversation and what must hold in it.
type Case struct {
	Name         string                     `json:"name"`
	Flow         json.RawMessage            `json:"flow"`     // a document, or the name of its file
	Subflows     map[string]json.RawMessage `json:"subflows"` // likewise, by the id that composites name
	Dialect      string                     `json:"dialect"`
	Channel      string                     `json:"channel"`
	InitialState map[string]any             `json:"initial_state"`
	HTTP         []Server                   `json:"http"`
	Model        []Answer                   `json:"model"`
	Secrets      map[string]string          `json:"secrets"`
	Content      shelf                      `json:"content"`
	Steps        []Step                     `json:"steps"`
	// PublishError must be, AllowError may be the outcome of the flow's check.
	PublishError json.RawMessage `json:"expect_publish_error"`
	AllowError   json.RawMessage `json:"allow_publish_error"`

	Note, Source, Group any
	SeedJustified       any `json:"seed_justified"`
}

// An Answer is what a language model proposes when it is asked: each once, in
// turn. Where none is left, or Error is true, no model answers.
type Answer struct {
	flow.Proposal
	Node  string `json:"node"` // who it is for; empty: anybody
	Error bool   `json:"error"`
}

// A Server answers requests to one address; "*" is any.
type Server struct {
	URL       string     `json:"url"`
	Method    string     `json:"method"`
	Responses []Response `json:"responses"`
}

// A Response is one answer of a Server; the last repeats.
type Response struct {
	Status  int               `json:"status"`
	JSON    json.RawMessage   `json:"json"`
	Text    string            `json:"text"`
	Headers map[string]string `json:"headers"`
	DelayMS int               `json:"delay_ms"`
	Timeout bool              `json:"timeout"`
	Refuse  bool              `json:"refuse"`
}

// A Step is one event and what follows.
type Step struct {
	Input    json.RawMessage   `json:"input"`
	Op       string            `json:"op"`
	MS       int               `json:"ms"`
	Messages *[]any            `json:"expect_messages"`
	Match    string            `json:"messages_match"`
	State    map[string]any    `json:"expect_state"`
	Absent   []string          `json:"expect_state_absent"`
	Node     json.RawMessage   `json:"expect_node"` // absent: not checked
	Status   string            `json:"expect_status"`
	HTTP     []ExpectedRequest `json:"expect_http"`
	Count    *ExpectedCount    `json:"expect_http_count"`
	NoLeak   []string          `json:"expect_no_leak"`

	Note any
}

// An ExpectedRequest is one that must have happened.
type ExpectedRequest struct {
	Method   string            `json:"method"`
	URL      string            `json:"url"`
	Headers  map[string]string `json:"headers"`
	JSON     any               `json:"json"`
	Contains any               `json:"json_contains"`
}

// An ExpectedCount bounds the requests to one address.
type ExpectedCount struct {
	URL string `json:"url"`
	Min *int   `json:"min"`
	Max *int   `json:"max"`
}

// Parse reads a file of cases, or the tests of a flow document. A field that
// is not of the format is an error that names it.
func Parse(data []byte) ([]Case, error) {
	var head struct {
		Format string            `json:"format"`
		Cases  []json.RawMessage `json:"cases"`
		Tests  []json.RawMessage `json:"tests"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("read cases: %w", err)
	}
	raws := head.Cases
	if head.Format == "" {
		raws = head.Tests
	} else if head.Format != "flow-cases/1" {
		return nil, fmt.Errorf("read cases: unknown format %q", head.Format)
	}
	cases := make([]Case, len(raws))
	for i, raw := range raws {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields()
		d.UseNumber()
		if err := d.Decode(&cases[i]); err != nil {
			return nil, fmt.Errorf("case %d (%s): %w", i, cases[i].Name, err)
		}
		if len(cases[i].Flow) == 0 {
			if head.Format != "" {
				return nil, fmt.Errorf("case %d (%s): it has no flow", i, cases[i].Name)
			}
			cases[i].Flow = data
		}
	}
	return cases, nil
}

// Load replaces the names of files that a case has in place of documents by
// what read returns for them.
func (c *Case) Load(read func(name string) ([]byte, error)) error {
	load := func(doc json.RawMessage) (json.RawMessage, error) {
		var name string
		if json.Unmarshal(doc, &name) != nil {
			return doc, nil
		}
		return read(name)
	}
	var err error
	if c.Flow, err = load(c.Flow); err != nil {
		return fmt.Errorf("case %s: flow: %w", c.Name, err)
	}
	for id, doc := range c.Subflows {
		if c.Subflows[id], err = load(doc); err != nil {
			return fmt.Errorf("case %s: flow %s: %w", c.Name, id, err)
		}
	}
	return nil
}
