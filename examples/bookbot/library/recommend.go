package library

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
)

// A Book is what a reader is told of one.
type Book struct {
	ISBN         string   `json:"isbn"`
	Title        string   `json:"title"`
	Author       string   `json:"author"`
	ReadingLevel string   `json:"reading_level"`
	AgeFrom      int      `json:"age_from"`
	Genres       []string `json:"genres"`
	Description  string   `json:"description"`
}

// Limits of a request for books.
const (
	usualBooks  = 5
	mostBooks   = 20
	mostGenres  = 20
	mostExclude = 200
)

// A wish is a request for recommendations.
type wish struct {
	UserID      string `json:"user_id"`
	Preferences struct {
		Genres       []string `json:"genres"` // the dearest first
		ReadingLevel string   `json:"reading_level"`
		Age          *int     `json:"age"` // years
	} `json:"preferences"`
	Limit        *int     `json:"limit"` // 1 to 20, 5 if missing
	ExcludeISBNs []string `json:"exclude_isbns"`
}

// Recommendations are books for a wish, the best first.
type Recommendations struct {
	Books []Book `json:"recommendations"`
	Count int    `json:"count"`
	// Spoken lists the titles in words, for a voice to say.
	Spoken       string `json:"spoken"`
	ReadingLevel string `json:"user_reading_level,omitempty"`
	// Filters are what was asked for, as it was understood.
	Filters Filters `json:"filters_applied"`
	// Fallback: nothing fits the wish, and these are read by many.
	Fallback bool `json:"fallback"`
}

// Filters narrow recommendations.
type Filters struct {
	Genres       []string `json:"genres"`
	ReadingLevel string   `json:"reading_level,omitempty"`
	Age          *int     `json:"age,omitempty"`
	ExcludeISBNs []string `json:"exclude_isbns"`
	Limit        int      `json:"limit"`
}

func (l *Library) recommendations(who caller, r *http.Request) (any, error) {
	var w wish
	if err := read(r, &w); err != nil {
		return nil, err
	}
	if err := own(who, w.UserID); err != nil {
		return nil, err
	}
	f, err := w.filters()
	if err != nil {
		return nil, err
	}
	out := Recommendations{Books: l.choose(f), ReadingLevel: f.ReadingLevel, Filters: f}
	if len(out.Books) == 0 {
		out.Books, out.Fallback = l.popular(f), true
	}
	out.Count, out.Spoken = len(out.Books), spoken(out.Books)
	return out, nil
}

// filters checks a wish.
func (w wish) filters() (Filters, error) {
	p := w.Preferences
	f := Filters{Genres: nonNil(p.Genres), ReadingLevel: p.ReadingLevel, Age: p.Age, ExcludeISBNs: nonNil(w.ExcludeISBNs), Limit: usualBooks}
	if w.Limit != nil {
		f.Limit = *w.Limit
	}
	if f.Limit < 1 || f.Limit > mostBooks {
		return f, invalid("limit", "must be 1 to %d", mostBooks)
	}
	if f.ReadingLevel != "" && levelOf(f.ReadingLevel) == nil {
		return f, invalid("preferences.reading_level", "must be one of beginner, intermediate, advanced")
	}
	for i, g := range f.Genres {
		f.Genres[i] = strings.ToLower(g)
	}
	return f, cmp.Or(
		words("preferences.genres", f.Genres, mostGenres, 40),
		words("exclude_isbns", f.ExcludeISBNs, mostExclude, 20),
		checkAge("preferences.age", f.Age),
	)
}

func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// choose returns the books that fit f: more of the dearest genres first.
func (l *Library) choose(f Filters) []Book {
	list := []Book{}
	score := map[string]int{}
	for _, b := range l.books {
		if f.excludes(b) || f.ReadingLevel != "" && b.ReadingLevel != f.ReadingLevel {
			continue
		}
		for i, g := range f.Genres {
			if slices.Contains(b.Genres, g) {
				score[b.ISBN] += len(f.Genres) - i
			}
		}
		if len(f.Genres) == 0 || score[b.ISBN] > 0 {
			list = append(list, b)
		}
	}
	slices.SortStableFunc(list, func(a, b Book) int { return score[b.ISBN] - score[a.ISBN] })
	return list[:min(f.Limit, len(list))]
}

// popular returns what fits the age alone, in the order of the shelf, and what
// is nearest to the reading level first.
func (l *Library) popular(f Filters) []Book {
	list := []Book{}
	for _, b := range l.books {
		if !f.excludes(b) {
			list = append(list, b)
		}
	}
	if f.ReadingLevel != "" {
		slices.SortStableFunc(list, func(a, b Book) int {
			return apart(a.ReadingLevel, f.ReadingLevel) - apart(b.ReadingLevel, f.ReadingLevel)
		})
	}
	return list[:min(f.Limit, len(list))]
}

// apart is how many levels lie between two.
func apart(a, b string) int {
	at := func(name string) int { return slices.IndexFunc(levels, func(l level) bool { return l.name == name }) }
	return max(at(a)-at(b), at(b)-at(a))
}

func (f Filters) excludes(b Book) bool {
	return f.Age != nil && b.AgeFrom > *f.Age || slices.Contains(f.ExcludeISBNs, b.ISBN)
}

// spoken joins titles as a person lists them.
func spoken(list []Book) string {
	titles := make([]string, len(list))
	for i, b := range list {
		titles[i] = b.Title
	}
	if n := len(titles); n > 1 {
		return strings.Join(titles[:n-1], ", ") + " or " + titles[n-1]
	}
	return strings.Join(titles, "")
}
