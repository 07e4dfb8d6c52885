package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Kinds of agents.
const (
	KindFlow   = "flow"   // a flow decides where the conversation goes
	KindPrompt = "prompt" // a language model does, led by a prompt
)

// An Agent answers calls.
type Agent struct {
	ID        uuid.UUID
	Name      string // unique in the tenant: lower-case letters, digits, hyphens
	Public    bool   // anybody may call it from the page /call/{agent}
	Settings  AgentSettings
	Revision  int // counts from 1 with every change
	CreatedAt time.Time
	UpdatedAt time.Time
}

// AgentSettings is how an agent hears, thinks and speaks. Its JSON form is both
// the API's and the table's.
type AgentSettings struct {
	Kind        string    `json:"kind" enum:"flow,prompt" doc:"Who leads the conversation: a flow or a language model."`
	Prompt      string    `json:"prompt,omitempty" doc:"Kind prompt: what the model is told."`
	Greeting    string    `json:"greeting,omitempty" doc:"Kind prompt: the first words."`
	FlowID      uuid.UUID `json:"flow_id,omitzero" doc:"Kind flow: the published flow to run."`
	Environment string    `json:"environment,omitempty" doc:"Kind flow: where it is published, such as staging. Default live."`
	Language    string    `json:"language,omitempty" doc:"BCP 47. Default en-US."`

	// In order of preference: the next is used when one fails. Empty: the
	// program's default.
	STT []VendorChoice `json:"stt,omitempty"`
	LLM []VendorChoice `json:"llm,omitempty"`
	TTS []VendorChoice `json:"tts,omitempty"`

	Turns       TurnTaking       `json:"turns,omitzero"`
	InBandDTMF  bool             `json:"in_band_dtmf,omitempty" doc:"Listen for keys as tones too, on lines that send no digits beside the audio."`
	Record      bool             `json:"record,omitempty" doc:"Keep a stereo recording."`
	NoListening bool             `json:"no_listening,omitempty" doc:"Nobody may listen in on a call in progress, as where callers have not agreed to it."`
	MaxSeconds  int              `json:"max_seconds,omitempty" doc:"Longest call. Default 3600, at most 14400."`
	ReplyTokens int              `json:"reply_tokens,omitempty" doc:"Kind prompt: longest reply of the model, in tokens. Default 300. 20 to 4000."`
	CallTokens  int              `json:"call_tokens,omitempty" doc:"Kind prompt: what the model may read and write in one call, in tokens; then the call is ended politely. Default 1000000. 1000 to 100000000."`
	Tools       []string         `json:"tools,omitempty" doc:"What the model may do: end_call, transfer, press_digits."`
	Transfers   []TransferTarget `json:"transfers,omitempty" doc:"Where a call may be transferred to."`
}

// A VendorChoice names a vendor and what to ask of it.
type VendorChoice struct {
	Vendor string `json:"vendor"`
	Model  string `json:"model,omitempty"`
	Voice  string `json:"voice,omitempty"`
	// Credential names a secret of the tenant; never a key itself.
	Credential string `json:"credential,omitempty" doc:"Name of the secret that holds the vendor's key, as put by PUT /v1/secrets/{key} and bound to the vendor's host; empty for the program's own. A key itself is refused."`
}

// A TransferTarget is a place a caller may be sent to.
type TransferTarget struct {
	Name string `json:"name" doc:"What the model or the flow calls it."`
	To   string `json:"to" doc:"+E.164 number, sip: address or client: name."`
}

// MaxDuration returns the longest call, with its default of an hour.
func (s AgentSettings) MaxDuration() time.Duration {
	if s.MaxSeconds == 0 {
		return time.Hour
	}
	return time.Duration(s.MaxSeconds) * time.Second
}

// VendorNames are the vendors that the program knows, for validation: control
// knows none by itself.
type VendorNames struct{ STT, LLM, TTS []string }

// AgentStore keeps agents, each in its tenant.
type AgentStore interface {
	// LocateAgent finds an agent by id, or by name where the context has no
	// tenant: the oldest of that name, so that a later tenant cannot take it.
	LocateAgent(ctx context.Context, idOrName string) (Located, error)

	Agent(ctx context.Context, id uuid.UUID) (Agent, error)
	AgentByName(ctx context.Context, name string) (Agent, error)
	Agents(ctx context.Context, p Page) ([]Agent, error)
	// InsertAgent fails with ErrConflict if the name is taken.
	InsertAgent(ctx context.Context, a Agent) error
	// UpdateAgent writes a if its stored revision is a.Revision, and counts it
	// up; else ErrConflict.
	UpdateAgent(ctx context.Context, a Agent) (Agent, error)
}

// A Page asks for a stretch of a list, newest first.
type Page struct {
	After uuid.UUID // the last id of the page before; zero for the first
	Limit int       // 1 to 200
}

// Agents is the service of agents.
type Agents struct {
	Store   AgentStore
	Flows   FlowStore
	Secrets SecretStore // nil: whether a secret exists is not checked
	Vendors VendorNames
}

// Find returns an agent by id or name. Without a tenant in ctx it looks over
// all tenants, as pages and webhooks must; the context returned has the
// agent's tenant.
func (s *Agents) Find(ctx context.Context, idOrName string) (context.Context, Agent, error) {
	if _, err := uuid.Parse(idOrName); err != nil && !agentName.MatchString(idOrName) {
		return ctx, Agent{}, ErrNotFound // no name that an agent can have, nor one that storage could look for
	}
	if _, ok := TenantOf(ctx); ok {
		if id, err := uuid.Parse(idOrName); err == nil {
			a, err := s.Store.Agent(ctx, id)
			return ctx, a, err
		}
		a, err := s.Store.AgentByName(ctx, idOrName)
		return ctx, a, err
	}
	at, err := s.Store.LocateAgent(ctx, idOrName)
	if err != nil {
		return ctx, Agent{}, err
	}
	ctx = WithTenant(ctx, at.Tenant)
	a, err := s.Store.Agent(ctx, at.ID)
	return ctx, a, err
}

// Create validates and stores a new agent. Errors: [Invalid], ErrConflict.
func (s *Agents) Create(ctx context.Context, a Agent) (Agent, error) {
	if err := s.Validate(ctx, a); err != nil {
		return Agent{}, err
	}
	if a.ID == uuid.Nil {
		a.ID = NewID()
	}
	a.Revision = 1
	a.CreatedAt = time.Now().UTC()
	a.UpdatedAt = a.CreatedAt
	if err := s.Store.InsertAgent(ctx, a); err != nil {
		return Agent{}, fmt.Errorf("create agent: %w", err)
	}
	return a, nil
}

// Update validates and stores a over its revision.
func (s *Agents) Update(ctx context.Context, a Agent) (Agent, error) {
	if err := s.Validate(ctx, a); err != nil {
		return Agent{}, err
	}
	return s.Store.UpdateAgent(ctx, a)
}

var agentName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Validate reports the first thing that is wrong with a.
func (s *Agents) Validate(ctx context.Context, a Agent) error {
	set := a.Settings
	if err := s.noSecrets(ctx, a); err != nil {
		return err // before a rule that says less of what was pasted
	}
	switch {
	case !agentName.MatchString(a.Name) || isUUID(a.Name):
		return Invalidf("name", "must be 1 to 63 lower-case letters, digits and inner hyphens, and no UUID")
	case set.Kind != KindFlow && set.Kind != KindPrompt:
		return Invalidf("settings.kind", "must be flow or prompt")
	case set.Kind == KindPrompt && strings.TrimSpace(set.Prompt) == "":
		return Invalidf("settings.prompt", "is required for kind prompt")
	case set.Kind == KindFlow && set.FlowID == uuid.Nil:
		return Invalidf("settings.flow_id", "is required for kind flow")
	case len(set.Prompt) > 64<<10:
		return Invalidf("settings.prompt", "must be at most 65536 bytes")
	case len(set.Greeting) > 2000:
		return Invalidf("settings.greeting", "must be at most 2000 bytes")
	case set.MaxSeconds < 0 || set.MaxSeconds > 4*3600:
		return Invalidf("settings.max_seconds", "must be 1 to 14400")
	case set.ReplyTokens != 0 && (set.ReplyTokens < 20 || set.ReplyTokens > 4000):
		return Invalidf("settings.reply_tokens", "must be 20 to 4000")
	case set.CallTokens != 0 && (set.CallTokens < 1000 || set.CallTokens > 100_000_000):
		return Invalidf("settings.call_tokens", "must be 1000 to 100000000")
	}
	if set.Kind == KindFlow {
		f, err := s.Flows.Flow(ctx, set.FlowID)
		if err != nil || len(f.Environments) == 0 {
			return Invalidf("settings.flow_id", "must name a published flow")
		}
		if f.In(set.Environment).Published == uuid.Nil {
			return Invalidf("settings.environment", "must name one where the flow is published")
		}
	}
	for _, err := range []error{
		validVendors("settings.stt", set.STT, s.Vendors.STT),
		validVendors("settings.llm", set.LLM, s.Vendors.LLM),
		validVendors("settings.tts", set.TTS, s.Vendors.TTS),
		set.Turns.validate(),
		validTools(set),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func isUUID(s string) bool { _, err := uuid.Parse(s); return err == nil }

func validVendors(field string, choices []VendorChoice, known []string) error {
	if len(choices) > 5 {
		return Invalidf(field, "must be at most 5")
	}
	for i, c := range choices {
		if !slices.Contains(known, c.Vendor) {
			return Invalidf(fmt.Sprintf("%s[%d].vendor", field, i), "must be one of %s", strings.Join(known, ", "))
		}
	}
	return nil
}

// noSecrets refuses secrets in clear wherever text may stand, and names of
// secrets that are not there.
func (s *Agents) noSecrets(ctx context.Context, a Agent) error {
	set := a.Settings
	texts := map[string]string{"name": a.Name, "settings.prompt": set.Prompt, "settings.greeting": set.Greeting,
		"settings.language": set.Language, "settings.environment": set.Environment}
	for i, t := range set.Transfers {
		texts[fmt.Sprintf("settings.transfers[%d].name", i)] = t.Name
		texts[fmt.Sprintf("settings.transfers[%d].to", i)] = t.To
	}
	for kind, choices := range map[string][]VendorChoice{"stt": set.STT, "llm": set.LLM, "tts": set.TTS} {
		for i, c := range choices {
			at := fmt.Sprintf("settings.%s[%d].", kind, i)
			for name, id := range map[string]string{"model": c.Model, "voice": c.Voice} {
				if err := RefuseToken(at+name, id); err != nil {
					return err
				}
			}
			if err := s.credential(ctx, at+"credential", c.Credential); err != nil {
				return err
			}
		}
	}
	for _, field := range slices.Sorted(maps.Keys(texts)) {
		if err := RefuseSecret(field, texts[field]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Agents) credential(ctx context.Context, field, key string) error {
	if key == "" {
		return nil
	}
	if err := RefuseSecret(field, key); err != nil {
		return err
	}
	if !storedKey.MatchString(key) {
		return Invalidf(field, "must be the name of a secret, as put by PUT /v1/secrets/{key}")
	}
	if s.Secrets == nil {
		return nil
	}
	_, err := s.Secrets.StoredSecret(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return Invalidf(field, "names no secret of yours: put it first, by PUT /v1/secrets/{key}")
	}
	return err
}

var transferTo = regexp.MustCompile(`^(\+[1-9][0-9]{6,14}|sips?:[^\s<>"]{3,250}|client:[A-Za-z0-9_.-]{1,120})$`)

func validTools(set AgentSettings) error {
	for i, t := range set.Tools {
		if !slices.Contains([]string{"end_call", "transfer", "press_digits"}, t) {
			return Invalidf(fmt.Sprintf("settings.tools[%d]", i), "must be end_call, transfer or press_digits")
		}
	}
	for i, t := range set.Transfers {
		if t.Name == "" || len(t.Name) > 100 {
			return Invalidf(fmt.Sprintf("settings.transfers[%d].name", i), "must be 1 to 100 bytes")
		}
		if !transferTo.MatchString(t.To) {
			return Invalidf(fmt.Sprintf("settings.transfers[%d].to", i), "must be a +E.164 number, a sip: address or a client: name")
		}
	}
	return nil
}
