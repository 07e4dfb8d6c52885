package signaling

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// twiml is a <Response>, its verbs in the order of the fields; encoding/xml
// does the escaping.
// https://www.twilio.com/docs/voice/twiml
type twiml struct {
	XMLName  xml.Name       `xml:"Response"`
	Connect  *twimlConnect  `xml:"Connect"`
	Gather   *twimlGather   `xml:"Gather"`
	Say      *twimlSay      `xml:"Say"`
	Dial     *twimlDial     `xml:"Dial"`
	Reject   *twimlReject   `xml:"Reject"`
	Pause    *twimlPause    `xml:"Pause"`
	Redirect *twimlRedirect `xml:"Redirect"`
	Hangup   *struct{}      `xml:"Hangup"`
}

type twimlSay struct {
	Language string `xml:"language,attr"`
	Text     string `xml:",chardata"`
}

type twimlConnect struct {
	Action string      `xml:"action,attr"`
	Stream twimlStream `xml:"Stream"`
}

type twimlStream struct {
	URL            string `xml:"url,attr"`
	StatusCallback string `xml:"statusCallback,attr"`
}

type twimlDial struct {
	Action   string `xml:"action,attr,omitempty"`
	Timeout  string `xml:"timeout,attr,omitempty"`
	CallerID string `xml:"callerId,attr,omitempty"`
	Number   string `xml:"Number,omitempty"`
	Sip      string `xml:"Sip,omitempty"`
	Client   string `xml:"Client,omitempty"`

	Conference *twimlConference `xml:"Conference"`
}

type twimlReject struct {
	Reason string `xml:"reason,attr,omitempty"`
}

type twimlPause struct {
	Seconds int `xml:"length,attr"`
}

type twimlRedirect struct {
	Method string `xml:"method,attr"`
	URL    string `xml:",chardata"`
}

var hangup = twiml{Hangup: &struct{}{}}

// say has Twilio's own voice speak before it ends the call. It ends at 4,096
// characters (https://www.twilio.com/docs/voice/twiml/say).
func say(text, language string) twiml {
	if language == "" {
		language = "en-US"
	}
	return twiml{Say: &twimlSay{language, text}, Hangup: &struct{}{}}
}

// NextWebhook returns the address that tells a call what to do after its
// stream, for a gateway that is reached at base ("https://gw.example"). A
// stream that was lost is told of by [REST.Redirect] to it.
func NextWebhook(base string) string {
	return strings.TrimRight(base, "/") + "/twilio/next" + overrides
}

// elsewhere has the call ask address once more: the balancer sends it to a
// process that stays, or, where there is only one, to its successor.
func elsewhere(address string) twiml {
	address, _, _ = strings.Cut(address, "#")
	return twiml{Pause: &twimlPause{1}, Redirect: &twimlRedirect{"POST", address + overrides}}
}

// connect sends the call's audio to our media socket, and the call to next
// once the socket has closed.
func connect(base, media, token string) twiml {
	return twiml{Connect: &twimlConnect{
		Action: NextWebhook(base),
		Stream: twimlStream{
			URL:            socketScheme(media) + "/twilio/media/" + token,
			StatusCallback: base + "/twilio/status" + overrides,
		},
	}}
}

// defaultRing is how long a transfer rings where the agent does not say.
const defaultRing = 30 * time.Second

// dial transfers the call, and sends it to next with the outcome.
func dial(base string, n Next) twiml {
	ring := n.Timeout
	if ring <= 0 {
		ring = defaultRing
	}
	d := &twimlDial{
		Action:   NextWebhook(base),
		Timeout:  strconv.Itoa(int(max(1, ring/time.Second))),
		CallerID: n.CallerID,
	}
	switch {
	case strings.HasPrefix(n.Dial, "sip:"), strings.HasPrefix(n.Dial, "sips:"):
		d.Sip = n.Dial
	case strings.HasPrefix(n.Dial, "conference:"):
		d.Timeout = ""
		d.Conference = newConference(strings.TrimPrefix(n.Dial, "conference:"))
	case strings.HasPrefix(n.Dial, "client:"):
		d.Client = strings.TrimPrefix(n.Dial, "client:")
	default:
		d.Number = n.Dial
	}
	return twiml{Dial: d}
}

// socketScheme returns an http address as a websocket's.
func socketScheme(base string) string {
	return "ws" + strings.TrimPrefix(base, "http")
}

// writeTwiML answers a webhook.
func writeTwiML(w http.ResponseWriter, t twiml) {
	b, err := xml.Marshal(t)
	if err != nil { // no value of ours fails to marshal
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprintf(w, "%s%s", xml.Header, b)
}
