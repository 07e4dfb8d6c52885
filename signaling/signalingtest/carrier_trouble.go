package signalingtest

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
)

// Trouble is how a [REST] does not do what it is asked. The zero value is a
// connection that breaks before anything was done.
type Trouble struct {
	Status, Code int    // refused with them, where Status is not 0
	RetryAfter   int    // seconds, in the answer's header; 0: none
	Text         string // of the answer with Status, instead of Twilio's JSON
	Silent       bool   // nothing is answered until the client gives up
	Late         bool   // it is done first; its answer is lost in one of these ways
}

// Vex has f tell, of every request that is in order, what goes wrong with it; nil
// is nothing. sid is the call's, "" for one to place. f may be nil.
func (r *REST) Vex(f func(sid string, form url.Values) *Trouble) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.vex = f
}

// Strays returns what Twilio's own document does not know of the requests, and of
// the answers of this stand-in, so far.
func (r *REST) Strays() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.strays...)
}

// ServeHTTP implements [http.Handler]. What Twilio's document does not know is
// refused, and kept for [REST.Strays], where that document is at hand.
func (r *REST) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.reading.Do(func() {
		var text []byte
		if text, r.unread = twilioDocument(); r.unread == nil {
			r.document, r.unread = newAPIDocument(text)
		}
	})
	if r.unread != nil {
		restError(w, http.StatusInternalServerError, 20500, r.unread.Error())
		return
	}
	if req.ParseForm() != nil {
		restError(w, http.StatusBadRequest, 20001, "form cannot be read")
		return
	}
	operation, err := r.document.check(req)
	if err != nil {
		r.stray(w, err)
		return
	}
	trouble := r.troubleOf(req)
	if trouble != nil && !trouble.Late {
		trouble.answer(w, req)
		return
	}
	answer := &heldAnswer{header: http.Header{}, status: http.StatusOK}
	r.serve(answer, req)
	if err := operation.checkAnswer(answer.status, answer.body.Bytes()); err != nil {
		r.stray(w, err)
		return
	}
	if trouble != nil {
		trouble.answer(w, req)
		return
	}
	answer.send(w)
}

func (r *REST) stray(w http.ResponseWriter, err error) {
	r.mu.Lock()
	r.strays = append(r.strays, err.Error())
	r.mu.Unlock()
	restError(w, http.StatusBadRequest, 20001, err.Error())
}

func (r *REST) troubleOf(req *http.Request) *Trouble {
	r.mu.Lock()
	f := r.vex
	r.mu.Unlock()
	if f == nil {
		return nil
	}
	_, sid, _ := restPath(req.URL.Path)
	return f(sid, req.PostForm)
}

func (t *Trouble) answer(w http.ResponseWriter, req *http.Request) {
	switch {
	case t.Silent:
		<-req.Context().Done()
	case t.Status == 0:
	default:
		if t.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(t.RetryAfter))
		}
		if t.Text == "" {
			restError(w, t.Status, t.Code, "in trouble")
			return
		}
		w.WriteHeader(t.Status)
		_, _ = w.Write([]byte(t.Text)) // a client that is gone needs no answer
		return
	}
	panic(http.ErrAbortHandler) // net/http: how a handler breaks its connection
}

// A heldAnswer is one that is looked at before it is sent.
type heldAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *heldAnswer) Header() http.Header         { return a.header }
func (a *heldAnswer) WriteHeader(status int)      { a.status = status }
func (a *heldAnswer) Write(b []byte) (int, error) { return a.body.Write(b) }

func (a *heldAnswer) send(w http.ResponseWriter) {
	for k, v := range a.header {
		w.Header()[k] = v
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes()) // likewise
}
