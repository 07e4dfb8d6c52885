package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// blobsOf tells whether a deletion of a class takes a blob of its objects.
func blobsOf(class string, b Blob) bool {
	recording := strings.HasSuffix(strings.TrimSuffix(b.Key, ".part"), ".wav")
	switch class {
	case KeepCalls:
		return true
	case KeepRecordings:
		return recording
	case KeepMessages:
		return !recording
	}
	return false
}

// finish deletes the files of d, then its rows.
func (k *Keeper) finish(ctx context.Context, d Deletion) error {
	var blobs []Blob
	if blobsOf(d.Class, Blob{Key: ".wav"}) || blobsOf(d.Class, Blob{}) {
		var err error
		if blobs, err = k.find(ctx, d); err != nil {
			return fmt.Errorf("look for the files of %s: %w", d.Class, err)
		}
	}
	if !d.Counted {
		if err := k.count(ctx, &d, blobs); err != nil {
			return err
		}
		if err := k.Store.NoteBlobs(ctx, d); err != nil {
			return fmt.Errorf("note the files of %s: %w", d.Class, err)
		}
	}
	for _, b := range blobs {
		if err := k.Files.Remove(ctx, b); err != nil {
			return fmt.Errorf("delete the files of %s: %w", d.Class, err)
		}
	}
	done, err := k.Store.FinishDeletion(ctx, d, k.now(), k.mac)
	if err != nil {
		return fmt.Errorf("delete the rows of %s: %w", d.Class, err)
	}
	k.note(done.Class, done.Rows, done.Blobs)
	return nil
}

// find lists the files of a deletion's objects.
func (k *Keeper) find(ctx context.Context, d Deletion) (blobs []Blob, err error) {
	objects := make(map[uuid.UUID]bool, len(d.Objects))
	for _, id := range d.Objects {
		objects[id] = true
	}
	err = k.Files.Blobs(ctx, tenantOf(ctx), func(b Blob) error {
		if objects[b.Object] && blobsOf(d.Class, b) {
			blobs = append(blobs, b)
		}
		return nil
	})
	slices.SortFunc(blobs, func(a, b Blob) int { return strings.Compare(a.Key, b.Key) })
	return blobs, err
}

// count notes how many files there are, and what they begin with: a sealed one
// with a salt that no other has.
func (k *Keeper) count(ctx context.Context, d *Deletion, blobs []Blob) error {
	h := sha256.New()
	for _, b := range blobs {
		begin, err := k.Files.Begins(ctx, b)
		if err != nil {
			return fmt.Errorf("read a file of %s: %w", d.Class, err)
		}
		_, _ = fmt.Fprintf(h, "%s %d %x\n", b.Key, b.Size, begin) // a hash takes all
		d.Blobs++
		d.Bytes += b.Size
	}
	if d.Blobs > 0 {
		d.Hash = k.mac(hex.EncodeToString(h.Sum(nil)))
	}
	return nil
}

// partsAfter is how long the file of a call stays half written after the call
// is over: its line has had its time to come back.
const partsAfter = 24 * time.Hour

// sweepParts deletes what recordings of calls left half written that do not
// come back, and tells of files that no call names. It runs last: a tenant with
// a hold keeps them with the rest.
func (k *Keeper) sweepParts(ctx context.Context) error {
	held, err := k.Store.LegalHolds(ctx, Page{Limit: 200})
	if err != nil {
		return fmt.Errorf("read legal holds: %w", err)
	}
	if slices.ContainsFunc(held, func(h LegalHold) bool { return h.LiftedAt.IsZero() }) {
		return nil
	}
	orphans, dropped := 0, 0
	var some []Blob
	look := func() error {
		if len(some) == 0 {
			return nil
		}
		ids := make([]uuid.UUID, len(some))
		for i, b := range some {
			ids[i] = b.Object
		}
		known, err := k.Store.EndedCalls(ctx, ids, k.now().Add(-partsAfter))
		if err != nil {
			return err
		}
		for _, b := range some {
			over, is := known[b.Object]
			old := b.Written.Before(k.now().Add(-partsAfter))
			switch {
			case b.Part && old && (over || !is):
				if err := k.Files.Remove(ctx, b); err != nil {
					return err
				}
				dropped++
			case !is && old:
				orphans++
			}
		}
		some = some[:0]
		return k.pause(ctx, 0)
	}
	err = k.Files.Blobs(ctx, tenantOf(ctx), func(b Blob) error {
		if some = append(some, b); len(some) < k.size() {
			return nil
		}
		return look()
	})
	if err == nil {
		err = look()
	}
	if err != nil {
		return fmt.Errorf("look for files that nobody finishes: %w", err)
	}
	k.note("parts", 0, dropped)
	k.note("orphans", 0, orphans)
	if orphans > 0 {
		k.Log.WarnContext(ctx, "files among the recordings belong to no call: look whether the database was brought back from a backup", "tenant", tenantOf(ctx), "number", orphans)
	}
	return nil
}
