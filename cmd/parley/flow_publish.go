package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"parley/agent/flow"
)

// flowPublish sends flows to a gateway.
type flowPublish struct {
	Files  []string `arg:"" name:"file" help:"The flow, then the flows that it calls. Each is known by its id."`
	Agent  string   `help:"Let this agent talk by the first flow, so that it can be called; it is made if there is none."`
	Public bool     `help:"Let anybody chat with the first flow, and call the agent, without a key."`

	URL    string `name:"url" help:"Address of the gateway. Default: from DATA/dev.json, else http://127.0.0.1:8080."`
	Data   string `default:".parley" help:"Folder where parley dev keeps dev.json."`
	APIKey string `name:"api-key" env:"PARLEY_API_KEY" help:"API key with flows.read and flows.write, and agents.read and agents.write for --agent. Default: from DATA/dev.json."`
	JSON   bool   `name:"json" help:"Print one JSON object a flow."`
}

// Help shows an example.
func (flowPublish) Help() string {
	return "Example:\n  parley flow publish --agent bookbot flow.json pictures.json quiz.json\n\n" +
		"Conversations in progress keep the version that they began with.\n\nExit status: 0 published, 1 refused, 2 called wrongly."
}

// Run adds a version of each flow and publishes it: those that others call first.
func (c flowPublish) Run(ctx context.Context, io stdio) error {
	docs, err := readFiles(c.Files, io.in)
	if err != nil {
		return usageError{err}
	}
	names := make([]string, len(docs))
	for i, doc := range docs {
		f, err := flow.Parse(doc)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Files[i], err)
		}
		if names[i] = f.ID; f.ID == "" {
			return usageError{fmt.Errorf("%s: the flow has no \"id\" to be known by", c.Files[i])}
		}
	}
	dev, err := readDevFile(c.Data)
	if err != nil {
		return err
	}
	g := client{url: strings.TrimRight(cmp.Or(c.URL, dev.URL, "http://127.0.0.1:8080"), "/"), key: c.APIKey}
	if g.key == "" && g.url == dev.URL {
		g.key = dev.APIKey
	}
	if g.key == "" {
		return usageError{errors.New("an API key is needed: give --api-key or PARLEY_API_KEY, or --data with the folder of parley dev")}
	}
	var first string
	for i := len(docs) - 1; i >= 0; i-- {
		id, number, err := g.publish(ctx, names[i], docs[i])
		if err != nil {
			return fmt.Errorf("%s: %w", c.Files[i], err)
		}
		first = id
		if c.JSON {
			printJSON(io.out, map[string]any{"flow": names[i], "id": id, "version": number})
		} else {
			fmt.Fprintf(io.out, "%s: version %d is published\n", names[i], number)
		}
	}
	if c.Public {
		if err := g.do(ctx, "PATCH", "/v1/flows/"+first, map[string]any{"public": true}, nil); err != nil {
			return fmt.Errorf("make %s public: %w", names[0], err)
		}
	}
	if c.Agent == "" {
		return nil
	}
	if err := g.appoint(ctx, c.Agent, first, c.Public); err != nil {
		return fmt.Errorf("agent %s: %w", c.Agent, err)
	}
	if !c.JSON {
		fmt.Fprintf(io.out, "agent %s talks by it: parley call %s --text, or %s/call/%s\n", c.Agent, c.Agent, g.url, c.Agent)
	}
	return nil
}

// publish adds a version to the flow of a name, which is made if there is none.
func (g client) publish(ctx context.Context, name string, doc []byte) (id string, number int, err error) {
	if id, err = g.flowNamed(ctx, name); err != nil {
		return "", 0, err
	}
	if id == "" {
		var made struct{ ID string }
		err = g.do(ctx, "POST", "/v1/flows", map[string]any{"name": name, "document": json.RawMessage(doc)}, &made)
		id = made.ID
	} else {
		err = g.do(ctx, "POST", "/v1/flows/"+id+"/versions", map[string]any{"document": json.RawMessage(doc)}, nil)
	}
	if err != nil {
		return "", 0, err
	}
	var v struct{ Number int }
	err = g.do(ctx, "POST", "/v1/flows/"+id+"/publish", map[string]any{}, &v)
	return id, v.Number, err
}

// flowNamed returns a flow's id, empty if there is none of that name.
func (g client) flowNamed(ctx context.Context, name string) (string, error) {
	for after := ""; ; {
		var page struct {
			Items []struct{ ID, Name string }
			Next  string
		}
		if err := g.do(ctx, "GET", "/v1/flows?limit=200&after="+url.QueryEscape(after), nil, &page); err != nil {
			return "", err
		}
		for _, f := range page.Items {
			if f.Name == name {
				return f.ID, nil
			}
		}
		if after = page.Next; after == "" {
			return "", nil
		}
	}
}

// appoint lets an agent talk by a flow. What else is set of it stays.
func (g client) appoint(ctx context.Context, agent, flow string, public bool) error {
	var have struct{ Settings map[string]any }
	err := g.do(ctx, "GET", "/v1/agents/"+url.PathEscape(agent), nil, &have)
	var refused *refusal
	if errors.As(err, &refused) && refused.status == http.StatusNotFound {
		return g.do(ctx, "POST", "/v1/agents", map[string]any{"name": agent, "public": public,
			"settings": map[string]any{"kind": "flow", "flow_id": flow, "language": "en-US"}}, nil)
	}
	if err != nil {
		return err
	}
	have.Settings["kind"], have.Settings["flow_id"] = "flow", flow
	change := map[string]any{"settings": have.Settings}
	if public {
		change["public"] = true
	}
	return g.do(ctx, "PATCH", "/v1/agents/"+url.PathEscape(agent), change, nil)
}
