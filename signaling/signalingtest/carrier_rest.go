package signalingtest

import (
	"crypto/subtle"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// A REST is Twilio's REST API as far as calls in progress need it; calls with
// it in their options can be redirected and ended. It is a handler to serve
// where TWILIO_BASE_URL points:
//
//	POST /2010-04-01/Accounts/{AC}/Calls.json         Place is asked
//	POST /2010-04-01/Accounts/{AC}/Calls/{sid}.json   Status=completed, Url or Twiml
//	GET  /2010-04-01/Accounts/{AC}/Calls/{sid}.json   also of one that is over
//	GET  /2010-04-01/Accounts/{AC}/Calls.json         by From and To
//
// https://www.twilio.com/docs/voice/api/call-resource. Requests are held to Twilio's
// own OpenAPI document, as are its answers. A nil *REST knows no
// calls. It is safe for concurrent use.
type REST struct {
	AccountSID string // empty: any
	AuthToken  string // empty: not checked

	// Tokens are those of further accounts, by AccountSid; Place is told whose a
	// call is by the form's AccountSid.
	Tokens map[string]string

	// Place makes the call that a POST to Calls.json asks for, and returns its
	// sid. Nil: 400.
	Place func(form url.Values) (sid string, err error)

	// End is asked for calls that are known by Note alone; nil: they go on.
	End func(sid string)

	mu       sync.Mutex
	calls    map[string]*CarrierCall
	requests []url.Values
	rooms    map[string]*meeting
	placed   []Placed
	vex      func(sid string, form url.Values) *Trouble
	strays   []string

	reading  sync.Once
	document *apiDocument // Twilio's
	unread   error        // why there is none
}

func (r *REST) add(c *CarrierCall) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls == nil {
		r.calls = map[string]*CarrierCall{}
	}
	r.calls[c.SID] = c
}

func (r *REST) remove(c *CarrierCall) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.calls, c.SID)
}

// Requests returns the forms of all POSTs so far, with the call's sid as
// CallSid.
func (r *REST) Requests() []url.Values {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]url.Values(nil), r.requests...)
}

// serve answers a request that is in order.
func (r *REST) serve(w http.ResponseWriter, req *http.Request) {
	account, sid, ok := restPath(req.URL.Path)
	user, secret, _ := req.BasicAuth()
	token, further := r.Tokens[account]
	if !further {
		token = r.AuthToken
	}
	same := subtle.ConstantTimeCompare([]byte(secret), []byte(token)) == 1
	switch {
	case !ok || r.AccountSID != "" && account != r.AccountSID && !further:
		restError(w, http.StatusNotFound, 20404, "not found")
	case token != "" && (user == "" || !same):
		restError(w, http.StatusUnauthorized, 20003, "authenticate")
	case sid == "" && req.Method == http.MethodGet:
		r.list(w, req.URL.Query())
	case sid == "":
		r.place(w, req)
	default:
		r.call(w, req, sid)
	}
}

// restPath splits /2010-04-01/Accounts/{account}/Calls[/{sid}].json.
func restPath(path string) (account, sid string, ok bool) {
	path, okJSON := strings.CutSuffix(path, ".json")
	path, okPath := strings.CutPrefix(path, "/2010-04-01/Accounts/")
	account, rest, _ := strings.Cut(path, "/")
	noun, sid, _ := strings.Cut(rest, "/")
	return account, sid, okJSON && okPath && noun == "Calls"
}

func (r *REST) place(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodPost || r.Place == nil {
		restError(w, http.StatusBadRequest, 21205, "calls cannot be placed here")
		return
	}
	r.note("", req.PostForm)
	form := maps.Clone(req.PostForm)
	account, _, _ := restPath(req.URL.Path)
	form.Set("AccountSid", account)
	sid, err := r.Place(form)
	if err != nil {
		restError(w, http.StatusBadRequest, 21211, err.Error())
		return
	}
	p, ok := r.Lookup(sid)
	if !ok {
		p = Placed{SID: sid, From: req.PostForm.Get("From"), To: req.PostForm.Get("To"), Status: "queued", Created: time.Now()}
	}
	writeREST(w, http.StatusCreated, p.resource())
}

func (r *REST) call(w http.ResponseWriter, req *http.Request, sid string) {
	if req.Method == http.MethodPost {
		r.note(sid, req.PostForm)
	}
	r.mu.Lock()
	c := r.calls[sid]
	r.mu.Unlock()
	if p, ok := r.Lookup(sid); ok && (c == nil || isOver(p.Status)) {
		r.known(w, req, p)
		return
	}
	if c == nil {
		restError(w, http.StatusNotFound, 20404, "no such call in progress")
		return
	}
	f := req.PostForm
	switch {
	case req.Method != http.MethodPost:
	case f.Get("Status") == "completed", f.Get("Status") == "canceled":
		c.move(&step{twiml: "<Response><Hangup/></Response>"})
	case f.Get("Url") != "":
		c.move(&step{address: f.Get("Url")})
	case f.Get("Twiml") != "":
		c.move(&step{twiml: f.Get("Twiml")})
	default:
		restError(w, http.StatusBadRequest, 21218, "nothing to do")
		return
	}
	writeREST(w, http.StatusOK, map[string]any{"sid": sid, "status": c.Status()})
}

// known answers for a call that is over, or has no telephone here.
func (r *REST) known(w http.ResponseWriter, req *http.Request, p Placed) {
	switch {
	case req.Method != http.MethodPost:
	case isOver(p.Status):
		restError(w, http.StatusBadRequest, 21220, "the call is not in progress")
		return
	case r.End != nil:
		r.End(p.SID)
		p, _ = r.Lookup(p.SID)
	}
	writeREST(w, http.StatusOK, p.resource())
}

func (r *REST) note(sid string, form url.Values) {
	kept := url.Values{"CallSid": {sid}}
	for k, v := range form {
		kept[k] = v
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, kept)
}

func restError(w http.ResponseWriter, status, code int, message string) {
	writeREST(w, status, map[string]any{"code": code, "message": message, "status": status})
}

func writeREST(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that is gone needs no answer
}
