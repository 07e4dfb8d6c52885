package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"

	"parley/agent"
)

// A record is one thing that a session leaves behind, as its journal queues it
// and the spool keeps it: one of the fields after Hold is set.
type record struct {
	Tenant uuid.UUID `json:"tenant"`
	Hold   Hold      `json:"hold"`

	Turn      *agent.Turn `json:"turn,omitempty"`
	At        time.Time   `json:"at,omitzero"` // of Turn: when it was handed over
	Commit    *committed  `json:"commit,omitempty"`
	Recording *Recording  `json:"recorded,omitempty"`
	Ending    *ending     `json:"ending,omitempty"`
	Settled   *settled    `json:"settled,omitempty"`
}

// A committed is a step of a conversation.
type committed struct {
	Conversation Conversation `json:"conversation"`
	Revision     Revision     `json:"revision"`
}

// An ending is how a session ended, and when.
type ending struct {
	Reason   string    `json:"reason"`
	Transfer string    `json:"transfer,omitempty"`
	At       time.Time `json:"at"`

	Uses []agent.Use `json:"uses,omitempty"` // since the last turn
}

// what names the record's kind in logs.
func (r record) what() string {
	switch {
	case r.Turn != nil:
		return "turn"
	case r.Commit != nil:
		return "commit"
	case r.Ending != nil:
		return "ending"
	case r.Settled != nil:
		return "command"
	}
	return "recording"
}

// store writes r. Writing it again changes nothing.
func (s *Calls) store(ctx context.Context, r record) error {
	ctx = WithTenant(ctx, r.Tenant)
	var err error
	switch {
	case r.Turn != nil:
		at := r.At
		if at.IsZero() {
			at = time.Now().UTC() // spooled by a version that did not note it
		}
		return s.Records.WriteTurn(ctx, r.Hold, *r.Turn, at)
	case r.Commit != nil:
		return s.Records.WriteCommit(ctx, r.Hold, r.Commit.Conversation, r.Commit.Revision)
	case r.Settled != nil:
		return s.settle(ctx, *r.Settled)
	case r.Recording != nil:
		return s.Changes.SetRecording(ctx, r.Hold.Call, *r.Recording)
	case r.Ending == nil:
		return nil // of another version of the program
	}
	if err := s.Records.WriteUsage(ctx, r.Hold, NoTurn, r.Ending.Uses, r.Ending.At); err != nil {
		return err
	}
	switch {
	case r.Ending.Reason == "transfer" && r.Ending.Transfer != "":
		_, err = s.Changes.TransferCall(ctx, r.Hold, r.Ending.Transfer)
	default:
		_, err = s.Changes.EndCall(ctx, r.Hold, r.Ending.Reason, r.Ending.At)
	}
	return err
}

// spool keeps records that could not be written before the program's end, for
// the next start on the same machine to write.
func (s *Calls) spool(records []record) (err error) {
	if s.Spool == "" {
		return fmt.Errorf("%d records of calls are lost: storage is away", len(records))
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep %d unwritten records of calls: %w", len(records), err)
		}
	}()
	f, err := os.OpenFile(s.Spool+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) // they hold what was said
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	for i, r := range records {
		line, lineErr := s.spoolLine(i, r)
		_, writeErr := w.Write(append(line, '\n'))
		err = errors.Join(err, lineErr, writeErr)
	}
	if err := errors.Join(err, w.Flush(), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(s.Spool+".new", s.Spool)
}

// spoolLine is a record as its line of the spool: sealed, it is base64.
func (s *Calls) spoolLine(n int, r record) ([]byte, error) {
	line, err := json.Marshal(r)
	if err == nil && s.Ring != nil {
		line = base64.StdEncoding.AppendEncode(nil, s.Ring.Seal("spool", strconv.Itoa(n), line))
	}
	return line, err
}

// readSpoolLine is its inverse; a line in clear may be from before there was a
// keyring.
func (s *Calls) readSpoolLine(n int, line []byte) (r record, err error) {
	if s.Ring != nil && !bytes.HasPrefix(line, []byte("{")) {
		sealed, err := base64.StdEncoding.AppendDecode(nil, line)
		if err == nil {
			line, err = s.Ring.Unseal("spool", strconv.Itoa(n), sealed)
		}
		if err != nil {
			return r, err
		}
	}
	return r, json.Unmarshal(line, &r)
}

// spooled reads what an earlier process could not write. A line that is cut
// short ends it.
func (s *Calls) spooled() ([]record, error) {
	f, err := os.Open(s.Spool)
	if s.Spool == "" || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read unwritten records of calls: %w", err)
	}
	defer f.Close()
	var all []record
	for from := bufio.NewReader(f); ; {
		line, err := from.ReadBytes('\n')
		if len(line) == 0 && errors.Is(err, io.EOF) {
			return all, nil
		}
		r, err := s.readSpoolLine(len(all), bytes.TrimSpace(line))
		if err != nil {
			s.Log.Error("the file of unwritten records is damaged: its rest is left out", "read", len(all), "error", err)
			return all, nil
		}
		all = append(all, r)
	}
}

// Recover writes what an earlier process on this machine had to leave in
// Spool. Until all of it is written no call begins here. It is called before
// the first call, and by [Calls.Run] again while storage is away.
func (s *Calls) Recover(ctx context.Context) error {
	s.mu.Lock()
	left, read := s.left, s.recovered
	s.mu.Unlock()
	if !read {
		var err error
		if left, err = s.spooled(); err != nil {
			return err
		}
	}
	written := 0
	var err error
	for _, r := range left {
		if err = s.store(ctx, r); err != nil && (errors.Is(err, ErrUnavailable) || ctx.Err() != nil) {
			break
		}
		if err != nil {
			s.Log.Error("a record of an earlier process was refused", "record", r.what(), "call", r.Hold.Call, "error", err)
		}
		err = nil
		written++
	}
	s.mu.Lock()
	s.left, s.recovered = left[written:], true
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("write the records of an earlier process: %w", err)
	}
	if written == 0 {
		return nil
	}
	s.Log.Info("wrote the records of an earlier process", "records", written)
	return os.Remove(s.Spool)
}

// waits reports that records of an earlier process are not yet written.
func (s *Calls) waits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.left) > 0
}
