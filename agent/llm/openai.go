package llm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	api "github.com/sashabaranov/go-openai"

	"parley/agent"
)

// openai speaks the chat completions of
// https://platform.openai.com/docs/api-reference/chat, which Groq, vLLM and
// Ollama serve too.
var openai = Vendor{
	Name:       "openai",
	Models:     []string{"gpt-4.1-mini", "gpt-4.1", "gpt-4o-mini", "gpt-4o"},
	DefaultURL: openaiURL,
}.dialedBy(dialOpenAI)

const openaiURL = "https://api.openai.com/v1"

func dialOpenAI(_ context.Context, o Options) (agent.LLM, error) {
	return &openaiModel{o: o}, nil
}

type openaiModel struct{ o Options }

// Reasons for which we end a request ourselves.
var (
	errNoFirst = errors.New("no first token in time")
	errIdle    = errors.New("stream fell silent")
	errCut     = errors.New("stream ended before the reply did")
)

// Reply implements [agent.LLM].
func (m *openaiModel) Reply(parent context.Context, p agent.Prompt) iter.Seq2[agent.Delta, error] {
	return func(yield func(agent.Delta, error) bool) {
		ctx, cancel := context.WithCancelCause(parent)
		defer cancel(nil)
		slow := time.AfterFunc(m.o.FirstToken, func() { cancel(errNoFirst) })
		defer slow.Stop()
		stream, err := m.open(ctx, p)
		if err != nil {
			yield(agent.Delta{}, openaiError(ctx, err))
			return
		}
		defer stream.Close()
		// Once something came, the limit is on the pauses. The listener's own
		// time does not count.
		var idle *time.Timer
		defer func() {
			if idle != nil {
				idle.Stop()
			}
		}()
		r := reply{yield: func(d agent.Delta) bool {
			slow.Stop()
			if idle != nil {
				idle.Stop()
			}
			ok := yield(d, nil)
			idle = time.AfterFunc(m.o.Idle, func() { cancel(errIdle) })
			return ok
		}}
		if err := r.read(stream); err != nil {
			yield(agent.Delta{}, openaiError(ctx, err))
		}
	}
}

func (m *openaiModel) open(ctx context.Context, p agent.Prompt) (*api.ChatCompletionStream, error) {
	key, err := m.o.Key.Read(ctx)
	if err != nil {
		return nil, err
	}
	c := api.DefaultConfig(key)
	c.BaseURL = strings.TrimRight(m.o.URL, "/")
	c.HTTPClient = &noting{m.o.Client, nil}
	c.EmptyMessagesLimit = math.MaxInt32 // keepalives; time bounds them
	stream, err := api.NewClientWithConfig(c).CreateChatCompletionStream(ctx, m.request(p))
	if err != nil {
		var refusal *api.APIError
		var status *api.RequestError
		header := c.HTTPClient.(*noting).header
		switch {
		case errors.As(err, &refusal) && refusal.HTTPStatusCode != 0:
			return nil, agent.Refused(refusal.HTTPStatusCode, header, word(refusal))
		case errors.As(err, &status):
			return nil, agent.Refused(status.HTTPStatusCode, header, "")
		}
		return nil, err
	}
	return stream, nil
}

// noting keeps the headers of a refusal, which the client's error lacks.
type noting struct {
	client *http.Client
	header http.Header
}

func (n *noting) Do(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Authorization") == "Bearer" || r.Header.Get("Authorization") == "Bearer " {
		r.Header.Del("Authorization") // a local server without a key
	}
	res, err := n.client.Do(r)
	if res != nil {
		n.header = res.Header
	}
	return res, err
}

func (m *openaiModel) request(p agent.Prompt) api.ChatCompletionRequest {
	req := api.ChatCompletionRequest{
		Model: m.o.Model, Stream: true,
		StreamOptions: &api.StreamOptions{IncludeUsage: true},
	}
	// Reasoning models refuse a temperature and the old name of the limit;
	// older servers know only the old name.
	reasoning := slices.ContainsFunc([]string{"o1", "o3", "o4", "gpt-5"}, func(s string) bool { return strings.HasPrefix(m.o.Model, s) })
	if !reasoning {
		req.Temperature = max(float32(p.Temperature), math.SmallestNonzeroFloat32) // 0 would be left out, and mean 1
	}
	if reasoning || m.o.URL == openaiURL {
		req.MaxCompletionTokens = p.MaxTokens
	} else {
		req.MaxTokens = p.MaxTokens //lint:ignore SA1019 compatible servers (vLLM, older Groq) know no other name
	}
	if p.System != "" {
		req.Messages = append(req.Messages, api.ChatCompletionMessage{Role: api.ChatMessageRoleSystem, Content: p.System})
	}
	for _, msg := range p.Messages {
		out := api.ChatCompletionMessage{Role: msg.Role, Content: msg.Text, ToolCallID: msg.ToolCallID}
		for _, c := range msg.Calls {
			out.ToolCalls = append(out.ToolCalls, api.ToolCall{
				ID: c.ID, Type: api.ToolTypeFunction, Function: api.FunctionCall{Name: c.Name, Arguments: c.Arguments},
			})
		}
		req.Messages = append(req.Messages, out)
	}
	for _, t := range p.Tools {
		req.Tools = append(req.Tools, api.Tool{Type: api.ToolTypeFunction, Function: &api.FunctionDefinition{
			Name: t.Name, Description: t.Description, Parameters: t.Parameters,
		}})
	}
	if p.MustCall && len(p.Tools) > 0 {
		req.ToolChoice = "required"
	}
	return req
}

// A reply puts a stream's chunks together.
type reply struct {
	yield  func(agent.Delta) bool
	calls  []agent.ToolCall
	index  []int // of calls, as the vendor counts them
	finish string
	usage  *agent.Usage
}

// read yields the reply until its end. It returns nil if the listener stopped.
func (r *reply) read(stream *api.ChatCompletionStream) error {
	for {
		chunk, err := stream.Recv()
		switch {
		case err == io.EOF && r.finish == "":
			return errCut
		case err == io.EOF:
			r.yield(agent.Delta{Finish: r.finish, Usage: r.usage})
			return nil
		case err != nil:
			return err
		}
		if u := chunk.Usage; u != nil {
			r.usage = &agent.Usage{PromptTokens: u.PromptTokens, CompletionTokens: u.CompletionTokens}
			if d := u.PromptTokensDetails; d != nil {
				r.usage.CachedTokens = d.CachedTokens
			}
		}
		if len(chunk.Choices) == 0 { // the chunk with the usage, and some proxies' first
			continue
		}
		c := chunk.Choices[0]
		if c.Delta.Content != "" && !r.yield(agent.Delta{Text: c.Delta.Content}) {
			return nil
		}
		for _, t := range c.Delta.ToolCalls {
			r.add(t)
		}
		if c.FinishReason == "" {
			continue
		}
		r.finish = string(c.FinishReason)
		for i := range r.calls {
			if !r.yield(agent.Delta{Call: &r.calls[i]}) {
				return nil
			}
		}
		r.calls = nil
	}
}

// add joins one piece of a tool call: id and name come with the first piece of
// an index, arguments with any.
func (r *reply) add(t api.ToolCall) {
	i := len(r.calls) - 1
	switch {
	case t.Index != nil:
		i = slices.Index(r.index, *t.Index)
	case t.ID != "": // servers without an index send whole calls
		i = -1
	}
	if i < 0 {
		n := len(r.calls)
		if t.Index != nil {
			n = *t.Index
		}
		i = len(r.calls)
		r.calls, r.index = append(r.calls, agent.ToolCall{}), append(r.index, n)
	}
	c := &r.calls[i]
	if c.ID == "" {
		c.ID = t.ID
	}
	if c.Name == "" {
		c.Name = t.Function.Name
	}
	c.Arguments += t.Function.Arguments
}

// word is the vendor's short word for an error.
func word(e *api.APIError) string {
	if s, ok := e.Code.(string); ok && s != "" {
		return s
	}
	return e.Type
}

// openaiError maps what ended a request. The caller's own end of ctx is
// returned as it is; the vendor's words are not, for they may echo the key.
func openaiError(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	var vendor *api.APIError
	var net interface{ Timeout() bool }
	switch {
	case errors.Is(cause, errNoFirst), errors.Is(cause, errIdle):
		return fmt.Errorf("openai: reply: %w: %w", agent.ErrUnavailable, cause)
	case cause != nil:
		return cause
	case errors.Is(err, errCut):
		return fmt.Errorf("openai: reply: %w: %w", agent.ErrUnavailable, err)
	case errors.Is(err, agent.ErrBusy), errors.Is(err, agent.ErrCredentials), errors.Is(err, agent.ErrUnavailable), errors.Is(err, agent.ErrProtocol):
		return fmt.Errorf("openai: reply: %w", err)
	case errors.As(err, &vendor): // in the middle of a stream
		if w := word(vendor); strings.Contains(w, "rate_limit") {
			return fmt.Errorf("openai: reply: %w in the middle of a stream", agent.ErrBusy)
		}
		return fmt.Errorf("openai: reply: %w: error in the middle of a stream", agent.ErrUnavailable)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &net):
		return fmt.Errorf("openai: reply: %w: %w", agent.ErrUnavailable, err)
	}
	return fmt.Errorf("openai: reply: %w: stream is not as promised", agent.ErrProtocol)
}
