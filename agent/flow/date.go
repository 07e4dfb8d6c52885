package flow

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

var dateForms = []string{
	"2006-01-02", "2006/01/02", "01/02/2006", "1/2/2006", "02.01.2006", "2.1.2006",
	"2 January 2006", "January 2 2006", "2 Jan 2006", "Jan 2 2006", "Monday 2 January 2006", "Monday January 2 2006",
}

var weekdays = map[string]time.Weekday{
	"sunday": 0, "monday": 1, "tuesday": 2, "wednesday": 3, "thursday": 4, "friday": 5, "saturday": 6,
}

// readDate checks a date. A typed one is kept as typed; a spoken one, or one
// relative to today ("tomorrow", "next friday"), is written YYYY-MM-DD.
func readDate(s string, in Input, now time.Time) (string, bool) {
	if in.Mode == "dtmf" {
		d, err := time.Parse("01022006", s)
		return d.Format(time.DateOnly), err == nil
	}
	plain := strings.Join(strings.Fields(dayEnds.ReplaceAllString(strings.NewReplacer(",", " ", " of ", " ").Replace(s), "$1")), " ")
	for _, form := range dateForms {
		d, err := time.Parse(form, plain)
		if err != nil {
			d, err = time.Parse(form, strings.TrimRight(plain, "."))
		}
		if err == nil {
			if in.Mode == "speech" {
				return d.Format(time.DateOnly), true
			}
			return s, true
		}
	}
	if d, ok := relativeDay(words(s), now); ok {
		return d.Format(time.DateOnly), true
	}
	return s, false
}

var dayEnds = regexp.MustCompile(`(?i)\b([0-9]{1,2})(?:st|nd|rd|th)\b`)

// relativeDay reads today, tomorrow and the names of weekdays.
func relativeDay(w []string, now time.Time) (time.Time, bool) {
	if len(w) == 0 || len(w) > 5 {
		return time.Time{}, false
	}
	for i, s := range w {
		switch s {
		case "today", "tonight", "hoy":
			return now, true
		case "tomorrow", "mañana":
			if i > 1 && w[i-1] == "after" {
				return now.AddDate(0, 0, 2), true
			}
			return now.AddDate(0, 0, 1), true
		}
		if day, ok := weekdays[s]; ok {
			ahead := (int(day-now.Weekday())+6)%7 + 1 // 1 to 7 days
			return now.AddDate(0, 0, ahead), true
		}
	}
	return time.Time{}, false
}

var clock = regexp.MustCompile(`^([0-9]{1,2})(?:[:. h]([0-9]{2}))?(?::[0-9]{2})? ?([ap]\.?m\.?)?$`)

// readTime checks a time of day. A typed one is kept as typed; a spoken or
// keyed one is written HH:MM.
func readTime(s string, in Input) (string, bool) {
	low := strings.TrimSpace(strings.TrimSuffix(strings.ToLower(s), "o'clock"))
	switch low {
	case "noon", "midday":
		low = "12:00"
	case "midnight":
		low = "00:00"
	}
	if in.Mode == "dtmf" && isDigits(low) && (len(low) == 3 || len(low) == 4) {
		low = low[:len(low)-2] + ":" + low[len(low)-2:]
	}
	if in.Mode == "speech" {
		low = spokenTime(low)
	}
	m := clock.FindStringSubmatch(low)
	if m == nil {
		return s, false
	}
	h, _ := strconv.Atoi(m[1])
	min, _ := strconv.Atoi(m[2])
	if m[3] != "" {
		if h < 1 || h > 12 {
			return s, false
		}
		if h %= 12; m[3][0] == 'p' {
			h += 12
		}
	}
	if h > 23 || min > 59 || m[2] == "" && m[3] == "" && in.Mode != "speech" {
		return s, false
	}
	if in.Mode == "speech" || in.Mode == "dtmf" {
		return time.Date(2000, 1, 1, h, min, 0, 0, time.UTC).Format("15:04"), true
	}
	return s, true
}

// spokenTime writes "half past three pm" as "3:30 pm".
func spokenTime(s string) string {
	s = strings.TrimRight(strings.NewReplacer("p.m", "pm", "a.m", "am", "p m", "pm", "a m", "am").Replace(s), ". ")
	half := ""
	for _, end := range []string{"pm", "am"} {
		if cut, ok := strings.CutSuffix(s, end); ok {
			s, half = strings.TrimSpace(cut), " "+end
		}
	}
	minutes := ":00"
	for prefix, m := range map[string]string{"half past ": ":30", "quarter past ": ":15", "at ": ":00"} {
		if cut, ok := strings.CutPrefix(s, prefix); ok {
			s, minutes = cut, m
		}
	}
	w := words(s)
	h, used := wholeAt(w)
	if used == 0 || h > 23 {
		return s + half
	}
	if rest := w[used:]; len(rest) > 0 {
		m, n := wholeAt(rest)
		if n != len(rest) || m > 59 {
			return s + half
		}
		minutes = ":" + strconv.FormatInt(100+m, 10)[1:]
	}
	return strconv.FormatInt(h, 10) + minutes + half
}
