package tts

import (
	"encoding/xml"
	"strings"
)

// fliteMarks turns SSML into what flite reads: pauses, emphasis and prosody
// alone. flite would load what a voice or an audio tag names, and reads entities
// as words.
func fliteMarks(ssml string) string {
	d := xml.NewDecoder(strings.NewReader(ssml))
	d.Strict = false
	var b strings.Builder
	b.WriteString("<speak>")
	for {
		tok, err := d.Token()
		if err != nil {
			break
		}
		switch e := tok.(type) {
		case xml.StartElement:
			if !fliteTakes(e.Name.Local) {
				b.WriteByte(' ')
				continue
			}
			b.WriteString("<" + e.Name.Local)
			for _, a := range e.Attr {
				if strings.Trim(a.Value, "abcdefghijklmnopqrstuvwxyz0123456789.%+-") == "" {
					b.WriteString(" " + a.Name.Local + `="` + a.Value + `"`)
				}
			}
			if b.WriteByte('>'); e.Name.Local == "break" {
				b.WriteString("</break>")
			}
		case xml.EndElement:
			if fliteTakes(e.Name.Local) && e.Name.Local != "break" {
				b.WriteString("</" + e.Name.Local + ">")
			}
		case xml.CharData:
			b.WriteString(strings.NewReplacer("&", " and ", "<", " less than ", ">", " greater than ").Replace(string(e)))
		}
	}
	b.WriteString("</speak>")
	return b.String()
}

func fliteTakes(tag string) bool { return tag == "break" || tag == "emphasis" || tag == "prosody" }
