package library

import "net/http"

// A Profile is what the school knows of a reader.
type Profile struct {
	UserID       string   `json:"user_id"`
	Name         string   `json:"name"`
	ReadingLevel string   `json:"reading_level"`
	Interests    []string `json:"interests"` // genres
	School       struct {
		ID         string `json:"id"`
		Name       string `json:"name"`
		ClassGroup string `json:"class_group"`
	} `json:"school"`
	Statistics struct {
		BooksRead      int      `json:"books_read"`
		FavoriteGenres []string `json:"favorite_genres"`
	} `json:"statistics"`
	Recent []struct {
		ISBN     string `json:"isbn"`
		Title    string `json:"title"`
		Finished string `json:"finished"` // YYYY-MM-DD
	} `json:"recent_reading"` // the newest first
}

// profile answers a reader's own. Another's is not found, as one is that does
// not exist: who asks learns nothing of either.
func (l *Library) profile(who caller, r *http.Request) (any, error) {
	p, ok := l.readers[r.PathValue("id")]
	if !ok || who.user == "" || p.UserID != who.user {
		return nil, errNotFound
	}
	return p, nil
}
