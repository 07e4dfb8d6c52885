package class

import (
	"context"
	"fmt"
	"log/slog"
)

// A Handler passes records of a log on without what the log may not hold.
//
// A value whose key is not in the table is personal, whoever logs it: our own
// code, or a library. Values of classes that the log does not take are masked.
// Of those it takes, texts and errors are scrubbed ([Scrub]); structures, maps
// and bytes, whose parts nobody has labelled, are masked.
type Handler struct {
	next slog.Handler
	keys map[string]Class
	most Class
	more func(context.Context) []slog.Attr
}

// NewHandler returns a Handler into next, for classes up to most. more returns
// what is known of a record by its context; it may be nil.
func NewHandler(next slog.Handler, keys map[string]Class, most Class, more func(context.Context) []slog.Attr) *Handler {
	return &Handler{next, keys, most, more}
}

// Enabled implements [slog.Handler].
func (h *Handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// Handle implements [slog.Handler].
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level, Scrub(r.Message), r.PC)
	has := map[string]bool{}
	r.Attrs(func(a slog.Attr) bool {
		has[a.Key] = true
		out.AddAttrs(h.attr(a))
		return true
	})
	if h.more != nil {
		for _, a := range h.more(ctx) {
			if !has[a.Key] {
				out.AddAttrs(h.attr(a))
			}
		}
	}
	return h.next.Handle(ctx, out)
}

// WithAttrs implements [slog.Handler].
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = h.attr(a)
	}
	to := *h
	to.next = h.next.WithAttrs(clean)
	return &to
}

// WithGroup implements [slog.Handler].
func (h *Handler) WithGroup(name string) slog.Handler {
	to := *h
	to.next = h.next.WithGroup(name)
	return &to
}

func (h *Handler) attr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	if a.Key == "" && v.Kind() != slog.KindGroup { // nothing, or nothing to look up
		return slog.Attr{}
	}
	if v.Kind() == slog.KindGroup {
		var parts []slog.Attr
		for _, part := range v.Group() {
			parts = append(parts, h.attr(part))
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(parts...)}
	}
	if c := h.keys[a.Key]; c == "" || !c.Within(h.most) {
		return slog.String(a.Key, c.Mask())
	}
	return slog.Attr{Key: a.Key, Value: clean(v)}
}

func clean(v slog.Value) slog.Value {
	switch v.Kind() {
	case slog.KindString:
		return slog.StringValue(Scrub(v.String()))
	case slog.KindAny:
		switch x := v.Any().(type) {
		case nil:
			return v
		case error:
			return slog.StringValue(Scrub(text(x.Error)))
		case fmt.Stringer:
			return slog.StringValue(Scrub(text(x.String)))
		case []string:
			out := make([]string, len(x))
			for i, s := range x {
				out[i] = Scrub(s)
			}
			return slog.AnyValue(out)
		case bool, int8, int16, int32, uint8, uint16, uint32, float32:
			return v
		}
		return slog.StringValue(Personal.Mask())
	}
	return v
}

// text calls a method that may be one of a nil pointer.
func text(method func() string) (s string) {
	defer func() {
		if recover() != nil {
			s = "<nil>"
		}
	}()
	return method()
}
