package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/vault/api"

	"parley/control"
)

// KV is a mount of the KV engine, version 2. A path holds a set of fields,
// whose versions count from 1. Paths are as [control.ParseSecretRef] takes them.
type KV struct {
	Client *Client
	Mount  string
}

// A Version of what a path holds.
type Version struct {
	Number    int
	CreatedAt time.Time
	DeletedAt time.Time // zero: it can be read
	Destroyed bool      // its value is gone for good
}

// Get returns the fields of a version, 0 for the newest, and its number.
// ErrNotFound: there is none, or it is deleted or destroyed.
func (k KV) Get(ctx context.Context, path string, version int) (fields map[string]string, number int, err error) {
	err = k.do(ctx, "read", path, func(ctx context.Context, kv *api.KVv2) error {
		var got *api.KVSecret
		if version == 0 {
			got, err = kv.Get(ctx, path)
		} else {
			got, err = kv.GetVersion(ctx, path, version)
		}
		if err != nil {
			return err
		}
		if got.Data == nil || got.VersionMetadata == nil { // deleted, which some answer with 200
			return control.ErrNotFound
		}
		fields, number = texts(got.Data), got.VersionMetadata.Version
		return nil
	})
	return fields, number, err
}

// texts keeps the fields that are text: others are not secrets of ours.
func texts(data map[string]any) map[string]string {
	out := map[string]string{}
	for name, v := range data {
		if s, ok := v.(string); ok {
			out[name] = s
		}
	}
	return out
}

// Put writes a version after the one that is expected to be the newest, 0 for
// none, and returns its number. ErrConflict: another is.
func (k KV) Put(ctx context.Context, path string, fields map[string]string, after int) (number int, err error) {
	data := make(map[string]any, len(fields))
	for name, v := range fields {
		data[name] = v
	}
	err = k.do(ctx, "write", path, func(ctx context.Context, kv *api.KVv2) error {
		got, err := kv.Put(ctx, path, data, api.WithCheckAndSet(after))
		if err == nil {
			number = got.VersionMetadata.Version
		}
		return err
	})
	return number, err
}

// Newest returns the number of the newest version, deleted or not; 0: none was
// ever written. It is what [KV.Put] wants to be told.
func (k KV) Newest(ctx context.Context, path string) (int, error) {
	meta, err := k.metadata(ctx, path)
	if errors.Is(err, control.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return meta.CurrentVersion, nil
}

// Versions lists what Vault still knows of, the newest first.
func (k KV) Versions(ctx context.Context, path string) ([]Version, error) {
	meta, err := k.metadata(ctx, path)
	if err != nil {
		return nil, err
	}
	var list []Version
	for _, v := range meta.Versions {
		list = append(list, Version{v.Version, v.CreatedTime, v.DeletionTime, v.Destroyed})
	}
	slices.SortFunc(list, func(a, b Version) int { return b.Number - a.Number })
	return list, nil
}

func (k KV) metadata(ctx context.Context, path string) (meta *api.KVMetadata, err error) {
	err = k.do(ctx, "read the versions of", path, func(ctx context.Context, kv *api.KVv2) (err error) {
		meta, err = kv.GetMetadata(ctx, path)
		return err
	})
	return meta, err
}

// Delete hides versions until [KV.Undelete].
func (k KV) Delete(ctx context.Context, path string, versions ...int) error {
	return k.do(ctx, "delete a version of", path, func(ctx context.Context, kv *api.KVv2) error {
		return kv.DeleteVersions(ctx, path, versions)
	})
}

// Undelete shows what was deleted.
func (k KV) Undelete(ctx context.Context, path string, versions ...int) error {
	return k.do(ctx, "undelete a version of", path, func(ctx context.Context, kv *api.KVv2) error {
		return kv.Undelete(ctx, path, versions)
	})
}

// Destroy erases the values of versions for good.
func (k KV) Destroy(ctx context.Context, path string, versions ...int) error {
	return k.do(ctx, "destroy a version of", path, func(ctx context.Context, kv *api.KVv2) error {
		return kv.Destroy(ctx, path, versions)
	})
}

// Forget erases all versions, and that they ever were. Numbers count from 1 again.
func (k KV) Forget(ctx context.Context, path string) error {
	return k.do(ctx, "forget", path, func(ctx context.Context, kv *api.KVv2) error {
		return kv.DeleteMetadata(ctx, path)
	})
}

func (k KV) do(ctx context.Context, what, path string, f func(context.Context, *api.KVv2) error) error {
	kv := k.Client.api.KVv2(k.Mount)
	return k.Client.do(ctx, fmt.Sprintf("vault: %s %s/%s", what, k.Mount, path), func(ctx context.Context) error { return f(ctx, kv) })
}
