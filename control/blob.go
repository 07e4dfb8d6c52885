package control

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Blobs keeps recordings. A key is made of a tenant's and an object's UUID and
// a suffix: [BlobKey], [MessageKey].
type Blobs interface {
	// Create returns a writer; nothing of it is seen until Close succeeds.
	Create(ctx context.Context, key string) (io.WriteCloser, error)
	// Open returns the blob to be read from anywhere; ErrNotFound.
	Open(ctx context.Context, key string) (io.ReadSeekCloser, error)
	Stat(ctx context.Context, key string) (BlobInfo, error)
	// Delete removes the blob; one that is not there is no error.
	Delete(ctx context.Context, key string) error
}

// BlobInfo describes a blob.
type BlobInfo struct {
	Size    int64
	Written time.Time
}

// MessageKey is the key of a message that a caller has left in a call. It begins
// as the recording's does: all files of a call are found by its id.
func MessageKey(tenant, call, message uuid.UUID) string {
	return tenant.String() + "/" + call.String() + "." + strings.ReplaceAll(message.String(), "-", "")
}

// BlobKey is the key of the recording of a call.
func BlobKey(c Call) string { return c.Tenant.String() + "/" + c.ID.String() + ".wav" }
