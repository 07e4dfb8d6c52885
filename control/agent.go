package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"

	"parley/agent/flow"
)

// Kinds of agents.
const (
	KindFlow   = "flow"   // a flow decides where the conversation goes
	KindPrompt = "prompt" // a language model does, led by a prompt
)

// An Agent answers calls. What it is told stands in its versions, as [Releases]
// keeps them.
type Agent struct {
	ID           uuid.UUID
	Name         string        // unique in the tenant: lower-case letters, digits, hyphens
	Public       bool          // anybody may call it from the page /call/{agent}
	Settings     AgentSettings // of Version
	Version      uuid.UUID     // what is live, unless the agent was read at another one
	Number       int           // of Version
	Environments               // where it is published
	Revision     int           // counts from 1 with every change, versions included
	CreatedAt    time.Time
	UpdatedAt    time.Time
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
	Record      bool             `json:"record,omitempty" doc:"Keep a stereo recording: recording on, in its short form."`
	Recording   string           `json:"recording,omitempty" enum:"off,on,announce,ask" doc:"Whether calls are recorded. announce: once the agent's first words, which hold the notice, were heard to their end. ask: once the flow's variable recording_consent is true. Before that nothing is stored. An outbound order with consent.recording needs neither."`
	NoListening bool             `json:"no_listening,omitempty" doc:"Nobody may listen in on a call in progress, as where callers have not agreed to it."`
	MaxSeconds  int              `json:"max_seconds,omitempty" doc:"Longest call. Default 3600, at most 14400."`
	ReplyTokens int              `json:"reply_tokens,omitempty" doc:"Kind prompt: longest reply of the model, in tokens. Default 300. 20 to 4000."`
	CallTokens  int              `json:"call_tokens,omitempty" doc:"Kind prompt: what the model may read and write in one call, in tokens; then the call is ended politely. Default 1000000. 1000 to 100000000."`
	Tools       []string         `json:"tools,omitempty" doc:"What the model may do: end_call, transfer, press_digits."`
	Transfers   []TransferTarget `json:"transfers,omitempty" doc:"Where a call may be transferred to."`
	AfterCall   *AfterCall       `json:"after_call,omitempty" doc:"What a model makes of each answered call after its end; see GET /v1/calls/{id}."`
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

// Modes of AgentSettings.Recording.
const (
	RecordingOff      = "off"
	RecordingOn       = "on"       // the operator sees to consent elsewhere, or needs none
	RecordingAnnounce = "announce" // once the notice in the agent's first words was heard
	RecordingAsk      = "ask"      // once the flow's variable RecordingConsent is true
)

// RecordingConsent is the variable in which a flow keeps the caller's answer.
const RecordingConsent = "recording_consent"

// RecordingMode is whether calls are recorded, with its default.
func (s AgentSettings) RecordingMode() string {
	switch {
	case s.Recording != "":
		return s.Recording
	case s.Record:
		return RecordingOn
	}
	return RecordingOff
}

// MaxDuration returns the longest call, with its default of an hour.
func (s AgentSettings) MaxDuration() time.Duration {
	if s.MaxSeconds == 0 {
		return time.Hour
	}
	return time.Duration(s.MaxSeconds) * time.Second
}

// Document is the settings as a version has them, with their hash.
func (s AgentSettings) Document() (document []byte, hash string, err error) {
	if document, err = json.Marshal(s); err != nil {
		return nil, "", fmt.Errorf("settings: %w", err)
	}
	return document, flow.Hash(document), nil
}

// ParseSettings reads the document of an agent's version.
func ParseSettings(document []byte) (AgentSettings, error) {
	var s AgentSettings
	d := json.NewDecoder(bytes.NewReader(document))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, Invalidf("settings", "must be an object of the fields that an agent has, each of its type")
	}
	return s, nil
}

// AgentStore keeps agents, each in its tenant.
type AgentStore interface {
	VersionStore
	VersionChanges

	// LocateAgent finds an agent by id, or by name where the context has no
	// tenant: the oldest of that name, so that a later tenant cannot take it.
	LocateAgent(ctx context.Context, idOrName string) (Located, error)

	// Agent and the two below return agents with what is live.
	Agent(ctx context.Context, id uuid.UUID) (Agent, error)
	AgentByName(ctx context.Context, name string) (Agent, error)
	Agents(ctx context.Context, p Page) ([]Agent, error)
	// InsertAgent stores a, its settings as its first version, a.Version or a
	// new one, which is live. ErrConflict: the name is taken.
	InsertAgent(ctx context.Context, a Agent) error
	// UpdateAgent writes the name and who may call if the stored revision is
	// a.Revision, and counts it up; else ErrConflict. Where v is not nil, it
	// stores that too, and publishes it live.
	UpdateAgent(ctx context.Context, a Agent, v *Version) (Agent, error)
	// DeleteAgent deletes an agent that nothing uses, of a revision, or 0.
	// ErrConflict, as a [*Refusal] where a number or a call uses it.
	DeleteAgent(ctx context.Context, id uuid.UUID, revision int) error
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
	Vendors VendorTables
}

// Releases are the versions of agents.
func (s *Agents) Releases() *Releases {
	return &Releases{Subject: SubjectAgent, Store: s.Store, Changes: s.Store,
		Check: func(ctx context.Context, document []byte) error {
			set, err := ParseSettings(document)
			if err != nil {
				return err
			}
			return s.ValidateSettings(ctx, set)
		},
		Stamp: func(document []byte) (label, hash string) {
			if set, err := ParseSettings(document); err == nil {
				_, hash, _ = set.Document() // what was read can be written
			}
			return "", hash
		}}
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

// At returns an agent with the settings of one of its versions; of what is live
// where version is zero.
func (s *Agents) At(ctx context.Context, id, version uuid.UUID) (Agent, error) {
	a, err := s.Store.Agent(ctx, id)
	if err != nil || version == uuid.Nil || version == a.Version {
		return a, err
	}
	v, err := s.Store.Version(ctx, SubjectAgent, version)
	if err != nil {
		return a, err
	}
	if v.Of != id {
		return a, fmt.Errorf("version %s is of another agent: %w", version, ErrNotFound)
	}
	a.Version, a.Number, a.Settings = v.ID, v.Number, AgentSettings{} // nothing of what is live stays
	if err := json.Unmarshal(v.Document, &a.Settings); err != nil {   // leniently: it was checked when it was written
		return a, fmt.Errorf("version %s of agent %s: %w", version, id, err)
	}
	return a, nil
}

// Create validates and stores a new agent, which works at once: its settings
// are its first version, and live. Errors: [Invalid], ErrConflict.
func (s *Agents) Create(ctx context.Context, a Agent) (Agent, error) {
	if err := s.Validate(ctx, a); err != nil {
		return Agent{}, err
	}
	if a.ID == uuid.Nil {
		a.ID = NewID()
	}
	a.Revision, a.Version, a.Number = 1, NewID(), 1
	a.CreatedAt = time.Now().UTC()
	a.UpdatedAt = a.CreatedAt
	a.Environments = Environments{{Name: Live, Published: a.Version}}
	if err := s.Store.InsertAgent(ctx, a); err != nil {
		return Agent{}, fmt.Errorf("create agent: %w", err)
	}
	return a, nil
}

// Update validates and stores a over its revision. Other settings than those
// that are live become a version, which is live at once, for all calls: the
// short way from an idea to the telephone. The draft stays as it is.
func (s *Agents) Update(ctx context.Context, a Agent) (Agent, error) {
	if err := s.Validate(ctx, a); err != nil {
		return Agent{}, err
	}
	document, hash, err := a.Settings.Document()
	if err != nil {
		return Agent{}, err
	}
	live, err := s.Store.Agent(ctx, a.ID)
	if err != nil {
		return Agent{}, err
	}
	_, before, err := live.Settings.Document()
	if err != nil {
		return Agent{}, err
	}
	var v *Version
	if before != hash {
		v = &Version{ID: NewID(), Of: a.ID, Hash: hash, Document: document, CreatedAt: time.Now().UTC()}
	}
	return s.Store.UpdateAgent(ctx, a, v)
}

// Delete forgets an agent that nothing uses. ErrConflict, as a [*Refusal]: a
// number or a call uses it, or it is not at the revision.
func (s *Agents) Delete(ctx context.Context, id uuid.UUID, revision int) error {
	return s.Store.DeleteAgent(ctx, id, revision)
}

var agentName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func isUUID(s string) bool { _, err := uuid.Parse(s); return err == nil }
