package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// VendorTables are what the program knows of the vendors that agents may
// choose, by name: the vendors' own tables, since control knows none by itself.
type VendorTables struct{ STT, LLM, TTS map[string]VendorTable }

// A VendorTable is what is known of one vendor.
type VendorTable struct {
	Models    []string // the first is its default
	Voices    []string // likewise; of speech alone
	Languages []string // as in "en", of any region; none: any
	// Closed: it takes none but those. Others are passed on as they are: vendors
	// add models every month, and voices belong to accounts.
	Closed bool
}

// A SettingsProblem is one thing about an agent's settings.
type SettingsProblem struct {
	Severity string `json:"severity" enum:"error,warning" doc:"An error keeps it from being a version."`
	Field    string `json:"field" doc:"Such as settings.stt[0].model."`
	Reason   string `json:"reason" doc:"What is wrong, and what is right."`
}

// Validate reports the first thing that is wrong with a.
func (s *Agents) Validate(ctx context.Context, a Agent) error {
	if err := RefuseSecret("name", a.Name); err != nil {
		return err
	}
	if !agentName.MatchString(a.Name) || isUUID(a.Name) {
		return Invalidf("name", "must be 1 to 63 lower-case letters, digits and inner hyphens, and no UUID")
	}
	return s.ValidateSettings(ctx, a.Settings)
}

// ValidateSettings reports the first thing that is wrong with settings.
func (s *Agents) ValidateSettings(ctx context.Context, set AgentSettings) error {
	list, err := s.Problems(ctx, set)
	if err != nil {
		return err
	}
	for _, p := range list {
		if p.Severity == "error" {
			return &Invalid{p.Field, p.Reason}
		}
	}
	return nil
}

// Problems lists all that is wrong with settings, and what is worth a look. Its
// own error is storage's.
func (s *Agents) Problems(ctx context.Context, set AgentSettings) ([]SettingsProblem, error) {
	var c settingsCheck
	c.secrets(set)
	if len(c.list) > 0 {
		return c.list, nil // before a rule that says less of what was pasted
	}
	c.kind(set)
	c.limits(set)
	c.vendors("settings.stt", set.STT, s.Vendors.STT, set.Language)
	c.vendors("settings.llm", set.LLM, s.Vendors.LLM, "")
	c.vendors("settings.tts", set.TTS, s.Vendors.TTS, set.Language)
	c.take(set.Turns.validate())
	if set.AfterCall != nil {
		c.afterCall(set.AfterCall)
		c.vendors("settings.after_call.llm", set.AfterCall.LLM, s.Vendors.LLM, "")
	}
	c.tools(set)
	if err := c.flow(ctx, s.Flows, set); err != nil {
		return nil, err
	}
	return c.list, c.credentials(ctx, s.Secrets, set)
}

// A settingsCheck gathers what is found.
type settingsCheck struct{ list []SettingsProblem }

func (c *settingsCheck) wrong(field, format string, args ...any) {
	c.list = append(c.list, SettingsProblem{"error", field, fmt.Sprintf(format, args...)})
}

func (c *settingsCheck) doubt(field, format string, args ...any) {
	c.list = append(c.list, SettingsProblem{"warning", field, fmt.Sprintf(format, args...)})
}

// take notes an [*Invalid].
func (c *settingsCheck) take(err error) {
	var i *Invalid
	if errors.As(err, &i) {
		c.wrong(i.Field, "%s", i.Reason)
	}
}

// secrets refuses secrets in clear wherever text may stand.
func (c *settingsCheck) secrets(set AgentSettings) {
	type text struct{ field, value string }
	texts := []text{{"settings.environment", set.Environment}, {"settings.greeting", set.Greeting},
		{"settings.language", set.Language}, {"settings.prompt", set.Prompt}}
	if a := set.AfterCall; a != nil {
		texts = append(texts, text{"settings.after_call.instructions", a.Instructions}, text{"settings.after_call.extract", string(a.Extract)},
			text{"settings.after_call.outcomes", strings.Join(a.Outcomes, " ")})
	}
	for i, t := range set.Transfers {
		texts = append(texts, text{fmt.Sprintf("settings.transfers[%d].name", i), t.Name}, text{fmt.Sprintf("settings.transfers[%d].to", i), t.To})
	}
	for _, t := range texts {
		c.take(RefuseSecret(t.field, t.value))
	}
	for field, v := range set.choices() {
		c.take(RefuseToken(field+".model", v.Model))
		c.take(RefuseToken(field+".voice", v.Voice))
		if v.Credential == "" {
			continue
		}
		if err := RefuseSecret(field+".credential", v.Credential); err != nil {
			c.take(err)
		} else if !storedKey.MatchString(v.Credential) {
			c.wrong(field+".credential", "must be the name of a secret, as put by PUT /v1/secrets/{key}")
		}
	}
}

// choices gives all vendors that are chosen, each with its field.
func (s AgentSettings) choices() func(yield func(string, VendorChoice) bool) {
	return func(yield func(string, VendorChoice) bool) {
		type choices struct {
			field string
			list  []VendorChoice
		}
		all := []choices{{"stt", s.STT}, {"llm", s.LLM}, {"tts", s.TTS}}
		if s.AfterCall != nil {
			all = append(all, choices{"after_call.llm", s.AfterCall.LLM})
		}
		for _, k := range all {
			for i, v := range k.list {
				if !yield(fmt.Sprintf("settings.%s[%d]", k.field, i), v) {
					return
				}
			}
		}
	}
}

func (c *settingsCheck) kind(set AgentSettings) {
	switch {
	case set.Kind != KindFlow && set.Kind != KindPrompt:
		c.wrong("settings.kind", "must be flow or prompt")
	case set.Kind == KindPrompt && strings.TrimSpace(set.Prompt) == "":
		c.wrong("settings.prompt", "is required for kind prompt")
	case set.Kind == KindFlow && set.FlowID == uuid.Nil:
		c.wrong("settings.flow_id", "is required for kind flow")
	}
}

// languageTag is the form of BCP 47 (RFC 5646 §2.1), not its registry.
var languageTag = regexp.MustCompile(`^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}$`)

func (c *settingsCheck) limits(set AgentSettings) {
	between := func(field string, v, least, most int) {
		if v != 0 && (v < least || v > most) {
			c.wrong("settings."+field, "must be %d to %d", least, most)
		}
	}
	if len(set.Prompt) > 64<<10 {
		c.wrong("settings.prompt", "must be at most 65536 bytes")
	}
	if len(set.Greeting) > 2000 {
		c.wrong("settings.greeting", "must be at most 2000 bytes")
	}
	switch set.Recording {
	case "", RecordingOff, RecordingOn:
	case RecordingAnnounce:
		if set.Kind == KindPrompt && strings.TrimSpace(set.Greeting) == "" {
			c.wrong("settings.recording", "announce needs the notice in settings.greeting, which is empty")
		}
	case RecordingAsk:
		if set.Kind == KindPrompt {
			c.wrong("settings.recording", "ask needs a flow that asks, and keeps the answer in %s: use announce", RecordingConsent)
		}
	default:
		c.wrong("settings.recording", "must be off, on, announce or ask")
	}
	if set.Language != "" && !languageTag.MatchString(set.Language) {
		c.wrong("settings.language", "must be a language of BCP 47, such as en-US")
	}
	between("max_seconds", set.MaxSeconds, 1, 4*3600)
	between("reply_tokens", set.ReplyTokens, 20, 4000)
	between("call_tokens", set.CallTokens, 1000, 100_000_000)
}

// vendors holds choices to the vendors' own tables.
func (c *settingsCheck) vendors(field string, choices []VendorChoice, known map[string]VendorTable, language string) {
	if len(choices) > 5 {
		c.wrong(field, "must be at most 5")
	}
	spoken, _, _ := strings.Cut(cmp.Or(language, "en-US"), "-")
	for i, v := range choices {
		at := fmt.Sprintf("%s[%d].", field, i)
		t, ok := known[v.Vendor]
		if !ok {
			c.wrong(at+"vendor", "must be one of %s", strings.Join(slices.Sorted(maps.Keys(known)), ", "))
			continue
		}
		c.listed(at+"model", v.Vendor, v.Model, t.Models, t.Closed)
		c.listed(at+"voice", v.Vendor, v.Voice, t.Voices, t.Closed)
		if len(t.Languages) > 0 && !slices.Contains(t.Languages, strings.ToLower(spoken)) {
			c.wrong(at+"vendor", "%s knows %s alone: choose another for this language", v.Vendor, strings.Join(t.Languages, ", "))
		}
	}
}

func (c *settingsCheck) listed(field, vendor, name string, known []string, closed bool) {
	switch {
	case name == "" || slices.Contains(known, name):
	case len(known) == 0:
		c.wrong(field, "must be left out: %s has none to choose", vendor)
	case closed:
		c.wrong(field, "must be one of %s", strings.Join(known, ", "))
	default:
		c.doubt(field, "is none that %s is known for (%s): it is passed on as it is", vendor, strings.Join(known, ", "))
	}
}

var transferTo = regexp.MustCompile(`^(\+[1-9][0-9]{6,14}|sips?:[^\s<>"]{3,250}|client:[A-Za-z0-9_.-]{1,120})$`)

func (c *settingsCheck) tools(set AgentSettings) {
	for i, t := range set.Tools {
		if !slices.Contains([]string{"end_call", "transfer", "press_digits"}, t) {
			c.wrong(fmt.Sprintf("settings.tools[%d]", i), "must be end_call, transfer or press_digits")
		}
	}
	if slices.Contains(set.Tools, "transfer") && len(set.Transfers) == 0 {
		c.doubt("settings.transfers", "is empty: the model may transfer, and has nowhere to")
	}
	names := map[string]bool{}
	for i, t := range set.Transfers {
		at := fmt.Sprintf("settings.transfers[%d].", i)
		switch {
		case t.Name == "" || len(t.Name) > 100:
			c.wrong(at+"name", "must be 1 to 100 bytes")
		case names[t.Name]:
			c.wrong(at+"name", "is there twice: each needs a name of its own")
		}
		names[t.Name] = true
		if !transferTo.MatchString(t.To) {
			c.wrong(at+"to", "must be a +E.164 number, a sip: address or a client: name")
		}
	}
}

// flow wants a flow that is published where the agent runs it.
func (c *settingsCheck) flow(ctx context.Context, flows FlowStore, set AgentSettings) error {
	if set.Kind != KindFlow || set.FlowID == uuid.Nil {
		return nil
	}
	f, err := flows.Flow(ctx, set.FlowID)
	switch {
	case err != nil && !errors.Is(err, ErrNotFound):
		return err
	case err != nil || len(f.Environments) == 0:
		c.wrong("settings.flow_id", "must name a published flow")
	case f.In(set.Environment).Published == uuid.Nil:
		c.wrong("settings.environment", "must name one where the flow is published")
	}
	return nil
}

// credentials wants secrets that are there.
func (c *settingsCheck) credentials(ctx context.Context, secrets SecretStore, set AgentSettings) error {
	if secrets == nil {
		return nil
	}
	for field, v := range set.choices() {
		if v.Credential == "" {
			continue
		}
		_, err := secrets.StoredSecret(ctx, v.Credential)
		if errors.Is(err, ErrNotFound) {
			c.wrong(field+".credential", "names no secret of yours: put it first, by PUT /v1/secrets/{key}")
		} else if err != nil {
			return err
		}
	}
	return nil
}
