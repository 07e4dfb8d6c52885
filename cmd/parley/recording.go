package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"parley/control"
	"parley/media"
)

// A recording is a call's two channels on their way to the blob store.
type recording struct {
	key     string
	blob    io.WriteCloser
	wav     *media.Recorder
	consent string // how it was had; "" where none is asked for
}

// record begins a call's recording, with silence for so many samples of its leg,
// or returns nil: a recording that cannot be made does not stop its call.
func (d *desk) record(ctx context.Context, v *control.Serving, rate int, silent int64, log *slog.Logger) *recording {
	fail := func(err error) *recording {
		log.Error("the call is not recorded", "err", err)
		d.unrecorded(ctx, v.Call, "begin", "the recording could not be begun", log)
		return nil
	}
	r := &recording{key: control.BlobKey(v.Call)}
	before, err := d.recordedBefore(ctx, r.key, rate)
	if err != nil {
		return fail(err)
	}
	if r.blob, err = d.blobs.Create(ctx, r.key); err != nil {
		return fail(err)
	}
	seek, ok := r.blob.(io.WriteSeeker)
	if !ok {
		_ = r.blob.Close()
		return fail(errors.New("the blob store cannot seek"))
	}
	if r.wav, err = media.NewRecorder(seek, rate); err != nil {
		_ = r.blob.Close()
		return fail(err)
	}
	// A call that came back goes on in the same recording, silence where it was away.
	var caller, agent []int16
	for i := 0; i+1 < len(before); i += 2 {
		caller, agent = append(caller, before[i]), append(agent, before[i+1])
	}
	if gap := int(media.Samples(v.Elapsed, rate)+silent) - len(caller); gap > 0 {
		caller, agent = append(caller, make([]int16, gap)...), append(agent, make([]int16, gap)...)
	}
	if err := r.wav.Write(caller, agent); err != nil {
		_ = r.blob.Close()
		return fail(err)
	}
	return r
}

// unrecorded reports on the call that it has no recording, or not all of it. It
// does not hold the call up for long.
func (d *desk) unrecorded(ctx context.Context, c control.Call, at, why string, log *slog.Logger) {
	d.noted.unrecorded.WithLabelValues(at).Inc()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := d.calls.Changes.FailRecording(ctx, c.ID, why); err != nil {
		log.Error("that the recording failed is not noted", "err", err)
	}
}

// hasRecording tells whether an earlier leg of the call was recorded.
func (d *desk) hasRecording(ctx context.Context, c control.Call) bool {
	b, err := d.blobs.Open(ctx, control.BlobKey(c))
	if parts, ok := d.blobs.(control.PartBlobs); ok && errors.Is(err, control.ErrNotFound) {
		b, err = parts.OpenPart(ctx, control.BlobKey(c))
	}
	if err != nil {
		return false
	}
	_ = b.Close()
	return true
}

// recordedBefore reads what an earlier leg of the call left.
func (d *desk) recordedBefore(ctx context.Context, key string, rate int) ([]int16, error) {
	read := media.ReadWAV
	b, err := d.blobs.Open(ctx, key)
	if parts, ok := d.blobs.(control.PartBlobs); ok && errors.Is(err, control.ErrNotFound) {
		b, err = parts.OpenPart(ctx, key)
		read = readPart
	}
	if errors.Is(err, control.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer b.Close()
	had, channels, pcm, err := read(b)
	if err != nil || had != rate || channels != 2 {
		return nil, err
	}
	return pcm, nil
}

// readPart reads what the process that wrote it did not live to finish, under a
// head from the beginning; nothing, where not even that came to the disk.
func readPart(r io.Reader) (rate, channels int, pcm []int16, err error) {
	rate, channels, pcm, err = media.ReadCutWAV(r)
	if errors.Is(err, media.ErrWAV) {
		err = nil
	}
	return rate, channels, pcm, err
}

// close puts the recording in place and returns its key, "" if there is none.
func (r *recording) close(log *slog.Logger) string {
	if r == nil {
		return ""
	}
	err := r.wav.Close()
	if cerr := r.blob.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		log.Error("the recording is lost", "err", err)
		return ""
	}
	return r.key
}
