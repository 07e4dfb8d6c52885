package flow

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
)

// Speech Synthesis Markup Language (W3C, SSML 1.1): a text may have marks for a
// voice that takes them. Values are escaped; whoever does not take marks gets
// the text without them.

// marked fills in a text of marks, and returns it without marks and with them.
func (t *turn) marked(l localText) (plain, marked string) {
	marked = t.markup(l.in(t.locale(), t.f.locale))
	return Plain(marked), t.spoken(marked)
}

// spoken is what a host that speaks is given besides the plain text.
func (t *turn) spoken(marked string) string {
	if !t.s.System.Voice || !strings.Contains(marked, "<") {
		return ""
	}
	return marked
}

// markup fills in a template whose own text has marks, and whose values have none.
func (t *turn) markup(tpl template) string {
	var b strings.Builder
	for _, p := range tpl {
		if p.ref == nil {
			b.WriteString(p.text)
			continue
		}
		b.WriteString(escapeXML(text(t.want(p.ref))))
	}
	return b.String()
}

func escapeXML(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a buffer takes all
	return b.String()
}

// checkSSML notes marks that no voice could read.
func (c *compiler) checkSSML(tpl template, ptr string) {
	var b strings.Builder
	for _, p := range tpl {
		if b.WriteString(p.text); p.ref != nil {
			b.WriteByte('x')
		}
	}
	d := xml.NewDecoder(strings.NewReader("<speak>" + b.String() + "</speak>"))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			c.problem("error", ptr, "bad-ssml", "the SSML is not well-formed", "close every tag, and write &amp; and &lt; for & and <")
			return
		}
	}
}

// Plain returns what SSML says, without its marks: an alias for what it stands
// for, letter by letter what is to be spelled, and a blank for a pause. What is
// no XML comes back as it is, without tags.
func Plain(ssml string) string {
	if !strings.ContainsAny(ssml, "<&") {
		return ssml
	}
	d := xml.NewDecoder(strings.NewReader(ssml))
	d.Strict = false
	var b strings.Builder
	spell, skip := 0, 0
	for {
		tok, err := d.Token()
		if err != nil {
			break
		}
		switch e := tok.(type) {
		case xml.StartElement:
			switch {
			case skip > 0:
				skip++
			case e.Name.Local == "sub":
				skip = 1
				b.WriteString(attribute(e, "alias"))
			case e.Name.Local == "metadata":
				skip = 1
			case spell > 0 || e.Name.Local == "say-as" && spells(attribute(e, "interpret-as")):
				spell++
			case e.Name.Local == "break", e.Name.Local == "p", e.Name.Local == "s":
				b.WriteByte(' ')
			}
		case xml.EndElement:
			switch {
			case skip > 0:
				skip--
			case spell > 0:
				spell--
			case e.Name.Local == "p", e.Name.Local == "s":
				b.WriteByte(' ')
			}
		case xml.CharData:
			if skip == 0 {
				b.WriteString(letters(string(e), spell > 0))
			}
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func spells(how string) bool {
	return how == "characters" || how == "spell-out" || how == "digits" || how == "telephone"
}

// letters parts the letters of s, if they are to be said one by one.
func letters(s string, apart bool) string {
	if !apart {
		return s
	}
	return strings.Join(strings.Split(strings.Join(strings.Fields(s), ""), ""), " ")
}
