package identity

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// The decision record's table says what the program does.
func TestTableOfTokenTypes(t *testing.T) {
	text, err := os.ReadFile("../../docs/adr/auth.md")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][3]string{ // form, life, audience
		"browser session":  {"parley_session", lives(SessionIdle) + " idle, " + lives(SessionLife), ""},
		"access token":     {typeAccess, lives(AccessLife), AudienceAPI},
		"refresh token":    {refreshHead, lives(RefreshIdle) + " idle, " + lives(RefreshLife), ""},
		"API key":          {"parley_", "until its expiry, if it has one", ""},
		"previous API key": {"parley_", lives(RotationGrace) + ", at most " + lives(RotationGraceMost), ""},
		"temporary token":  {temporaryHead, lives(TemporaryLife) + ", at most " + lives(TemporaryMost), ""},
		"call token":       {callTokenHead, lives(CallTokenLife), ""},
		"service token":    {typeService, lives(ServiceLife), ""},
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 7 || strings.HasPrefix(cells[0], "---") || strings.TrimSpace(cells[0]) == "type" {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		w, ok := want[cells[0]]
		seen[cells[0]] = true
		switch {
		case !ok:
			t.Errorf("the program has no %q", cells[0])
		case !strings.Contains(cells[1], w[0]) || cells[3] != w[1] || !strings.Contains(cells[6], w[2]):
			t.Errorf("%s: form %s, lives %q, for %s; want %s, %q, %s", cells[0], cells[1], cells[3], cells[6], w[0], w[1], w[2])
		}
	}
	for name := range want {
		if !seen[name] {
			t.Errorf("the table lacks the %s", name)
		}
	}
	for what, said := range map[string]string{
		"skew": fmt.Sprintf("by %d seconds", int(ClockSkew.Seconds())), "period": "signs for " + lives(SigningPeriod),
		"fresh": fmt.Sprintf("again within %d seconds", int(signingFresh.Seconds())),
	} {
		if !strings.Contains(string(text), said) {
			t.Errorf("%s: the record does not say %q", what, said)
		}
	}
}

// lives is a duration in words.
func lives(d time.Duration) string {
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{48 * time.Hour, "days"}, {time.Hour, "hour"}, {time.Minute, "minutes"}} {
		if d < u.of {
			continue
		}
		if u.name == "days" {
			return fmt.Sprintf("%d days", d/(24*time.Hour))
		}
		n := d / u.of
		if u.name == "hour" && n > 1 {
			return fmt.Sprintf("%d hours", n)
		}
		return fmt.Sprintf("%d %s", n, u.name)
	}
	return d.String()
}
