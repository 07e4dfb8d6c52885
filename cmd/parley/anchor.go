package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"parley/control"
	"parley/control/egress"
)

// anchorTime is how long an anchor's record may take to be put.
const anchorTime = 10 * time.Second

// anchorPath is where the audit trail is anchored: a folder or a URL.
func (s Settings) anchorPath() string {
	return cmp.Or(s.AuditAnchor, filepath.Join(s.Data, "audit-anchors"))
}

// buildAudit seals and anchors the audit trail.
func (g *gateway) buildAudit(ring *control.Keyring) error {
	put, err := openAnchor(g.settings.anchorPath(), g.settings.EgressAllow, g.db, g)
	if err != nil {
		return err
	}
	g.sealer = &control.AuditSealer{Store: g.db, Chain: control.NewAuditChain(ring), Log: g.log, Noted: newAuditMetrics(g.metrics),
		Anchor: &control.AuditAnchor{Put: put, Log: g.log, Ring: ring}}
	return nil
}

// openAnchor returns what adds a line to the anchor.
func openAnchor(path string, allow []string, audit control.Audit, g *gateway) (func(context.Context, []byte) error, error) {
	u, err := url.Parse(path)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, fmt.Errorf("PARLEY_AUDIT_ANCHOR: the folder cannot be made: %w", err)
		}
		return anchorFolder(path).put, nil
	}
	client, err := newEgress(egress.Options{Allow: allow, MaxRedirects: -1, MaxRequest: 64 << 20, Timeout: anchorTime}, g.settings.EgressProxy, audit, g.log)
	if err != nil {
		return nil, err
	}
	g.closers = append(g.closers, client.Close)
	return anchorPost{client, u}.put, nil
}

// An anchorFolder holds a file a day, which is only ever added to: the folder
// may be one that forbids everything else (chattr +a).
type anchorFolder string

func (f anchorFolder) put(_ context.Context, line []byte) error {
	name := filepath.Join(string(f), time.Now().UTC().Format(time.DateOnly)+".ndjson")
	file, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(bytes.Clone(line), '\n')) // in one piece: others write there too
	return errors.Join(err, file.Sync(), file.Close())
}

// An anchorPost sends each line to a server that keeps it.
type anchorPost struct {
	client *egress.Client
	to     *url.URL
}

func (p anchorPost) put(ctx context.Context, line []byte) error {
	r := (&http.Request{Method: http.MethodPost, URL: p.to, Host: p.to.Host, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(line))}).WithContext(ctx)
	res, err := p.client.Do(r)
	if err == nil && res.StatusCode/100 != 2 {
		err = fmt.Errorf("%s answers %d", p.to.Host, res.StatusCode)
	}
	return err
}

// readAnchors reads files and folders of anchors.
func readAnchors(paths []string, rings []*control.Keyring) (*control.Anchored, error) {
	a := new(control.Anchored)
	for _, path := range paths {
		files := []string{path}
		if info, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("anchors cannot be read: %w", err)
		} else if info.IsDir() {
			if files, err = filepath.Glob(filepath.Join(path, "*.ndjson")); err != nil {
				return nil, err
			}
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("anchors cannot be read: %w", err)
			}
			for line := range strings.Lines(string(text)) {
				if line = strings.TrimSpace(line); line != "" {
					a.ReadAnchor([]byte(line), rings...)
				}
			}
		}
	}
	a.Finish()
	return a, nil
}
