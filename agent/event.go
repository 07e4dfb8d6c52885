package agent

import "time"

// An Event is what a screen or an operator sees of a running session. It is
// sent as JSON over the browser's data channel and over server-sent events.
type Event struct {
	// Type is "state", "transcript", "agent", "latency", "digit", "ended".
	Type string `json:"type"`

	State string `json:"state,omitempty"` // state: listening, thinking, speaking, paused, holding, closing

	// transcript: what the caller says. agent: what the agent says.
	Turn  int    `json:"turn"`            // index of the turn in the call; one list item a turn
	Text  string `json:"text,omitempty"`  // transcript: words so far. agent: all text of the turn so far
	Heard string `json:"heard,omitempty"` // agent: the part that was heard
	Phase string `json:"phase,omitempty"` // transcript: interim, final. agent: speaking, heard, cut

	LatencyMS int64  `json:"latency_ms,omitempty"` // latency: end of speech → first audio
	Digit     string `json:"digit,omitempty"`
	Reason    string `json:"reason,omitempty"` // ended

	Node string `json:"node,omitempty"` // state: the flow's node, if one asks or speaks

	At time.Time `json:"at"`
}
