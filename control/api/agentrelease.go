package api

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/agent/flow"
	"parley/control"
)

// agentReleases are the routes between an agent's settings and what calls run.
func (s *Server) agentReleases() error {
	read, write, big := control.AgentsRead, control.AgentsWrite, int64(256<<10)
	return errors.Join(
		operation(s, reads("/v1/agents/{agent}/draft", read), "get-agent-draft", "Get the settings that are worked on", 200, s.getAgentDraft),
		operation(s, writes("PUT", "/v1/agents/{agent}/draft", write, big), "put-agent-draft", "Keep settings that are worked on, faults and all", 200, s.putAgentDraft),
		operation(s, writes("DELETE", "/v1/agents/{agent}/draft", write, NoBody), "delete-agent-draft", "Forget them", 200, s.deleteAgentDraft),
		operation(s, reads("/v1/agents/{agent}/versions", read), "list-agent-versions", "List versions", 200, s.listAgentVersions),
		operation(s, reads("/v1/agents/{agent}/versions/{number}", read), "get-agent-version", "Get a version with its settings", 200, s.getAgentVersion),
		operation(s, writes("POST", "/v1/agents/{agent}/versions", write, big), "create-agent-version", "Add a version, not yet published", 201, s.createAgentVersion),
		operation(s, writes("POST", "/v1/agents/{agent}/publish", write, 4<<10), "publish-agent", "Publish a version to all new calls, or to some", 200, s.publishAgent),
		operation(s, writes("POST", "/v1/agents/{agent}/rollback", write, 4<<10), "roll-back-agent", "End a trial, or publish what was published before", 200, s.rollbackAgent),
		operation(s, reads("/v1/agents/{agent}/publications", read), "list-agent-publications", "List what was published when, where, and by whom", 200, s.listAgentPublications),
		operation(s, reads("/v1/agents/{agent}/diff", read), "diff-agent", "Compare two versions", 200, s.diffAgent),
		operation(s, writes("POST", "/v1/agents/{agent}/validate", read, big), "validate-agent", "Say what keeps settings from being a version", 200, s.validateAgent),
	)
}

type agentVersionJSON struct {
	ID        uuid.UUID              `json:"id"`
	AgentID   uuid.UUID              `json:"agent_id"`
	Number    int                    `json:"number"`
	Label     string                 `json:"label,omitempty" doc:"What its author calls it."`
	Hash      string                 `json:"hash,omitempty" doc:"Base64 of SHA-256 of the settings."`
	Settings  *control.AgentSettings `json:"settings,omitempty"`
	CreatedAt time.Time              `json:"created_at"`
}

// newAgentVersionJSON leaves the settings out.
func newAgentVersionJSON(v control.Version) agentVersionJSON {
	return agentVersionJSON{v.ID, v.Of, v.Number, v.Label, v.Hash, nil, v.CreatedAt}
}

// draftedSettings reads settings that were stored, however old.
func draftedSettings(document []byte) (*control.AgentSettings, error) {
	set := new(control.AgentSettings)
	return set, json.Unmarshal(document, set)
}

type agentDraftOut struct {
	ETag string `header:"ETag"`
	Body struct {
		Settings  *control.AgentSettings    `json:"settings"`
		UpdatedAt time.Time                 `json:"updated_at"`
		Problems  []control.SettingsProblem `json:"problems" doc:"What keeps it from being a version, and what is worth a look."`
	}
}

func (s *Server) getAgentDraft(ctx context.Context, in *AgentPath) (*agentDraftOut, error) {
	_, a, err := s.o.Agents.Find(ctx, in.Agent)
	if err != nil {
		return nil, err
	}
	d, err := s.o.Agents.Store.Draft(ctx, control.SubjectAgent, a.ID)
	if err != nil {
		return nil, err
	}
	out := &agentDraftOut{ETag: etag(a.Revision)}
	out.Body.UpdatedAt = d.UpdatedAt
	if out.Body.Settings, err = draftedSettings(d.Document); err != nil {
		return nil, err
	}
	if out.Body.Problems, err = s.settingsProblems(ctx, *out.Body.Settings); err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Server) settingsProblems(ctx context.Context, set control.AgentSettings) ([]control.SettingsProblem, error) {
	list, err := s.o.Agents.Problems(ctx, set)
	return append([]control.SettingsProblem{}, list...), err
}

func (s *Server) putAgentDraft(ctx context.Context, in *struct {
	AgentPath
	Match
	Body struct {
		Settings control.AgentSettings `json:"settings"`
	}
}) (*agentOut, error) {
	document, _, err := in.Body.Settings.Document()
	if err != nil {
		return nil, err
	}
	return s.agentChange(ctx, in.AgentPath, in.Match, func(r *control.Releases, id uuid.UUID, revision int) error {
		return r.SaveDraft(ctx, id, document, revision)
	})
}

func (s *Server) deleteAgentDraft(ctx context.Context, in *struct {
	AgentPath
	Match
}) (*agentOut, error) {
	return s.agentChange(ctx, in.AgentPath, in.Match, func(r *control.Releases, id uuid.UUID, revision int) error {
		return r.DropDraft(ctx, id, revision)
	})
}

// agentChange changes an agent and returns it.
func (s *Server) agentChange(ctx context.Context, path AgentPath, m Match, change func(*control.Releases, uuid.UUID, int) error) (*agentOut, error) {
	_, a, err := s.o.Agents.Find(ctx, path.Agent)
	if err != nil {
		return nil, err
	}
	revision, err := m.revision()
	if err != nil {
		return nil, err
	}
	if err := m.matched(change(s.o.Agents.Releases(), a.ID, revision)); err != nil {
		return nil, err
	}
	return s.getAgent(ctx, &AgentPath{a.ID.String()})
}

func (s *Server) listAgentVersions(ctx context.Context, in *struct {
	AgentPath
	PageQuery
}) (*listOut[agentVersionJSON], error) {
	_, a, err := s.o.Agents.Find(ctx, in.Agent)
	if err != nil {
		return nil, err
	}
	return listVersions(ctx, s.o.Agents.Releases(), a.ID, in.PageQuery, newAgentVersionJSON)
}

func (s *Server) getAgentVersion(ctx context.Context, in *struct {
	AgentPath
	Number int `path:"number" minimum:"1" maximum:"2147483647"`
}) (*reply[agentVersionJSON], error) {
	_, a, err := s.o.Agents.Find(ctx, in.Agent)
	if err != nil {
		return nil, err
	}
	v, err := s.o.Agents.Releases().Version(ctx, a.ID, in.Number)
	if err != nil {
		return nil, err
	}
	out := newAgentVersionJSON(v)
	if out.Settings, err = draftedSettings(v.Document); err != nil {
		return nil, err
	}
	return &reply[agentVersionJSON]{out}, nil
}

func (s *Server) createAgentVersion(ctx context.Context, in *struct {
	AgentPath
	Match
	Body struct {
		Settings *control.AgentSettings `json:"settings,omitempty" doc:"The draft by default, which is a draft no longer then."`
		Label    string                 `json:"label,omitempty" maxLength:"100" doc:"What you call it."`
	}
}) (*reply[agentVersionJSON], error) {
	var document []byte
	if in.Body.Settings != nil {
		var err error
		if document, _, err = in.Body.Settings.Document(); err != nil {
			return nil, err
		}
	}
	if err := control.RefuseSecret("label", in.Body.Label); err != nil {
		return nil, err
	}
	return s.agentRelease(ctx, in.AgentPath, in.Match, func(r *control.Releases, id uuid.UUID, revision int) (control.Version, error) {
		return addVersion(ctx, r, id, document, in.Body.Label, revision)
	})
}

// agentRelease does something with an agent's versions and returns the one that
// it came to.
func (s *Server) agentRelease(ctx context.Context, path AgentPath, m Match,
	do func(*control.Releases, uuid.UUID, int) (control.Version, error)) (*reply[agentVersionJSON], error) {
	_, a, err := s.o.Agents.Find(ctx, path.Agent)
	if err != nil {
		return nil, err
	}
	revision, err := m.revision()
	if err != nil {
		return nil, err
	}
	v, err := do(s.o.Agents.Releases(), a.ID, revision)
	if err != nil {
		return nil, m.matched(err)
	}
	return &reply[agentVersionJSON]{newAgentVersionJSON(v)}, nil
}

func (s *Server) publishAgent(ctx context.Context, in *struct {
	AgentPath
	Match
	Body *ReleaseBody
}) (*reply[agentVersionJSON], error) {
	return s.agentRelease(ctx, in.AgentPath, in.Match, func(r *control.Releases, id uuid.UUID, revision int) (control.Version, error) {
		return r.Publish(ctx, id, in.Body.release(), revision)
	})
}

func (s *Server) rollbackAgent(ctx context.Context, in *struct {
	AgentPath
	Match
	Body *RollbackBody
}) (*reply[agentVersionJSON], error) {
	return s.agentRelease(ctx, in.AgentPath, in.Match, func(r *control.Releases, id uuid.UUID, revision int) (control.Version, error) {
		return r.Rollback(ctx, id, in.Body.where(), revision)
	})
}

func (s *Server) listAgentPublications(ctx context.Context, in *struct {
	AgentPath
	PageQuery
	Environment string `query:"environment" doc:"Only there."`
}) (*listOut[publicationJSON], error) {
	_, a, err := s.o.Agents.Find(ctx, in.Agent)
	if err != nil {
		return nil, err
	}
	return listPublications(ctx, s.o.Agents.Releases(), a.ID, in.Environment, in.PageQuery)
}

type agentDiffJSON struct {
	From    int           `json:"from"`
	To      int           `json:"to"`
	Changes []flow.Change `json:"changes"`
}

func (s *Server) diffAgent(ctx context.Context, in *struct {
	AgentPath
	From int `query:"from" minimum:"1" maximum:"2147483647" required:"true" doc:"Number of a version."`
	To   int `query:"to" minimum:"1" maximum:"2147483647" doc:"Number of a version; the newest by default."`
}) (*reply[agentDiffJSON], error) {
	_, a, err := s.o.Agents.Find(ctx, in.Agent)
	if err != nil {
		return nil, err
	}
	from, err := s.o.Agents.Releases().Version(ctx, a.ID, in.From)
	if err != nil {
		return nil, err
	}
	to, err := s.o.Agents.Releases().Version(ctx, a.ID, in.To)
	if err != nil {
		return nil, err
	}
	changes, err := flow.Diff(from.Document, to.Document)
	if err != nil {
		return nil, err
	}
	return &reply[agentDiffJSON]{agentDiffJSON{from.Number, to.Number, append([]flow.Change{}, changes...)}}, nil
}

type settingsValidityJSON struct {
	Valid    bool                      `json:"valid" doc:"No problem is an error: it may be a version."`
	Problems []control.SettingsProblem `json:"problems"`
}

func (s *Server) validateAgent(ctx context.Context, in *struct {
	AgentPath
	Body *struct {
		Number   int                    `json:"number,omitempty" minimum:"1" maximum:"2147483647" doc:"The version; the newest by default."`
		Settings *control.AgentSettings `json:"settings,omitempty" doc:"Looked at instead of a version."`
	}
}) (*reply[settingsValidityJSON], error) {
	_, a, err := s.o.Agents.Find(ctx, in.Agent)
	if err != nil {
		return nil, err
	}
	var number int
	var set *control.AgentSettings
	if in.Body != nil {
		number, set = in.Body.Number, in.Body.Settings
	}
	if set == nil {
		v, err := s.o.Agents.Releases().Version(ctx, a.ID, number)
		if err != nil {
			return nil, err
		}
		if set, err = draftedSettings(v.Document); err != nil {
			return nil, err
		}
	}
	out := settingsValidityJSON{Valid: true}
	if out.Problems, err = s.settingsProblems(ctx, *set); err != nil {
		return nil, err
	}
	for _, p := range out.Problems {
		out.Valid = out.Valid && p.Severity != "error"
	}
	return &reply[settingsValidityJSON]{out}, nil
}
