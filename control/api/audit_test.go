package api_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/agent"
	"parley/control"
)

// trail returns the actions of the tenant's trail, newest first.
func (p *plane) trail(query string) (actions []string) {
	p.t.Helper()
	for _, e := range p.want(200, "GET", "/v1/audit?"+query, p.demo.APIKey, "")["items"].([]any) {
		actions = append(actions, e.(map[string]any)["action"].(string)+" "+e.(map[string]any)["object"].(string))
	}
	return actions
}

// recorded has a call that is over, with a recording.
func (p *plane) recorded(audio string) uuid.UUID {
	p.t.Helper()
	c, err := p.o.Calls.Arrive(p.t.Context(), control.Arrival{Carrier: "webrtc", Agent: p.demo.Agents[0].ID.String()})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, v, err := p.o.Calls.Begin(p.t.Context(), c.ID.String(), func(string) {})
	if err != nil {
		p.t.Fatal(err)
	}
	w, err := p.o.Blobs.Create(ctx, control.BlobKey(c))
	if err != nil {
		p.t.Fatal(err)
	}
	_, _ = io.WriteString(w, audio)
	if err := errors.Join(w.Close(), p.o.Calls.Finish(ctx, v, agent.Ending{Reason: "goodbye"}, control.BlobKey(c))); err != nil {
		p.t.Fatal(err)
	}
	return c.ID
}

// asSuper changes the database as nobody of ours can.
func (p *plane) asSuper(q string) {
	p.t.Helper()
	conn, err := pgx.Connect(p.t.Context(), p.db.SuperURL)
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close(p.t.Context())
	if _, err := conn.Exec(p.t.Context(), q); err != nil {
		p.t.Fatal(err)
	}
}

// An export is noted, streams every entry with its seal, and says at its end
// whether there is more.
func TestAuditExport(t *testing.T) {
	p := newPlane(t)
	ring, err := control.NewKeyring([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	chain := control.NewAuditChain(ring)
	sealer := &control.AuditSealer{Store: p.store, Chain: chain}
	if err := sealer.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	export := func(query string) (lines []control.ExportedEntry, end map[string]any) {
		t.Helper()
		resp, _ := p.do("GET", "/v1/audit/export"+query, p.demo.APIKey, "")
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-ndjson" {
			t.Fatalf("export%s: %d %s", query, resp.StatusCode, resp.Header.Get("Content-Type"))
		}
		in := bufio.NewScanner(resp.Body)
		for in.Scan() {
			var e control.ExportedEntry
			if err := json.Unmarshal(in.Bytes(), &e); err != nil {
				t.Fatal(err)
			}
			if e.Seq == 0 {
				_ = json.Unmarshal(in.Bytes(), &end)
				continue
			}
			lines = append(lines, e)
		}
		return lines, end
	}
	all, end := export("")
	if n := len(all); n < 3 || all[0].Seq != 1 || all[0].MAC == nil || all[n-1].Action != "audit.export" || end["complete"] != true {
		t.Fatalf("%d lines, first %+v, last %+v, end %v", n, all[0], all[n-1], end)
	}
	head := p.want(200, "GET", "/v1/audit/head", p.demo.APIKey, "")
	if int(head["entries"].(float64)) != len(all) || int(head["sealed"].(float64)) != len(all)-1 || head["mac"] == nil {
		t.Errorf("head %v of %d entries", head, len(all))
	}
	if some, end := export("?after=1&limit=1"); len(some) != 1 || some[0].Seq != 2 || end["complete"] != false || end["last"] != 2.0 {
		t.Errorf("one after the first: %+v, %v", some, end)
	}
	for _, bad := range []string{"?after=x", "?limit=0", "?limit=100001", "?after=-1"} {
		p.want(422, "GET", "/v1/audit/export"+bad, p.demo.APIKey, "")
	}
	viewer := p.want(201, "POST", "/v1/keys", p.demo.APIKey, `{"name":"v","scopes":["calls.read"]}`)["secret"].(string)
	p.want(403, "GET", "/v1/audit/export", viewer, "")
}

// Listening to a recording is one entry, however many ranges a player asks for,
// and nobody listens where it cannot be written.
func TestAuditOfPlays(t *testing.T) {
	p := newPlane(t)
	call := p.recorded("0123456789")
	path := "/v1/calls/" + call.String() + "/recording"
	for _, r := range []string{"bytes=0-3", "bytes=4-7", "bytes=0-"} {
		p.want(206, "GET", path, p.demo.APIKey, "", "Range", r)
	}
	if got, want := p.trail("action=recording"), []string{"recording.play call:" + call.String()}; !slices.Equal(got, want) {
		t.Errorf("trail %q, want %q", got, want)
	}
	other := p.want(201, "POST", "/v1/keys", p.demo.APIKey, `{"name":"v","scopes":["calls.listen"]}`)["secret"].(string)
	p.want(200, "GET", path, other, "")
	if got := p.trail("action=recording"); len(got) != 2 {
		t.Errorf("with somebody else: %q", got)
	}
	p.want(404, "GET", "/v1/calls/"+uuid.NewString()+"/recording", other, "")
	p.asSuper(`REVOKE INSERT ON audit FROM parley_app`)
	third := p.recorded("abc")
	resp, _ := p.do("GET", "/v1/calls/"+third.String()+"/recording", other, "")
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode < 500 || strings.Contains(string(b), "abc") {
		t.Errorf("without an entry: %d %q", resp.StatusCode, b)
	}
}
