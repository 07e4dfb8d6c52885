package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// readDevFile reads what parley dev has left in its data folder; a folder
// without it is no error.
func readDevFile(data string) (f devFile, err error) {
	path := filepath.Join(data, "dev.json")
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f, nil
	case err != nil:
		return f, fmt.Errorf("%s cannot be read: %w", path, err)
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return f, fmt.Errorf("%s cannot be read (%w): start parley dev again to write it anew", path, err)
	}
	return f, nil
}

// A client speaks to a gateway's API with a key.
type client struct{ url, key string }

// A refusal is what the API answered instead.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

// apiPatience is the longest that one request may take.
const apiPatience = 30 * time.Second

// do sends a request and reads the answer into out; nil: it is not looked at.
func (g client) do(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, apiPatience)
	defer cancel()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, g.url+path, body)
	if err != nil {
		return usageError{fmt.Errorf("--url %q is not an address: write it as http://127.0.0.1:8080", g.url)}
	}
	r.Header.Set("Authorization", "Bearer "+g.key)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("no gateway answers at %s (%w): start it with parley dev, or name another by --url", g.url, bareURL(err))
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", g.url, err)
	}
	if res.StatusCode > 299 {
		return refusedBy(res.StatusCode, answer)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// bareURL is an error without the address that it repeats.
func bareURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return bare(err)
}

// refusedBy reads a problem+json, each fault on a line of its own.
func refusedBy(status int, answer []byte) error {
	var p struct {
		Title, Detail string
		Errors        []struct{ Message, Location string }
	}
	if json.Unmarshal(answer, &p) != nil || p.Title == "" {
		return &refusal{status, fmt.Sprintf("the gateway answers %d", status)}
	}
	if status == http.StatusUnauthorized {
		return &refusal{status, "the gateway does not take the API key"}
	}
	text := cmp.Or(p.Detail, p.Title)
	for _, e := range p.Errors {
		text += "\n  " + strings.TrimSpace(e.Location+" "+e.Message)
	}
	return &refusal{status, text}
}
