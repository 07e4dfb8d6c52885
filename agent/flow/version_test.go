package flow

import (
	"reflect"
	"testing"
)

func TestRange(t *testing.T) {
	tests := []struct {
		in      string
		has     []string
		has_not []string
	}{
		{"1.4.2", []string{"1.4.2", "v1.4.2", "1.4.2+build"}, []string{"1.4.3", "1.4", "1.4.2-beta", ""}},
		{"1.4.2-beta", []string{"1.4.2-beta"}, []string{"1.4.2", "1.4.2-alpha"}},
		{"^1.2", []string{"1.2.0", "1.2", "1.9.9"}, []string{"1.1.9", "2.0.0", "1.3.0-rc", "one"}},
		{"^1.2.3", []string{"1.2.3", "1.3.0"}, []string{"1.2.2", "2.0.0"}},
		{"^0.2.3", []string{"0.2.3", "0.2.9"}, []string{"0.3.0", "0.2.2"}},
		{"^0.0.3", []string{"0.0.3"}, []string{"0.0.4"}},
		{"^0", []string{"0.0.1", "0.9.0"}, []string{"1.0.0"}},
		{"^0.0", []string{"0.0.1"}, []string{"0.1.0"}},
		{"~1.4.0", []string{"1.4.0", "1.4.7"}, []string{"1.5.0", "1.3.9"}},
		{"~1.4", []string{"1.4.7"}, []string{"1.5.0"}},
		{"~1", []string{"1.9.0"}, []string{"2.0.0", "0.9.0"}},
		{"1.x", []string{"1.0.0", "1.9.9"}, []string{"2.0.0", "0.9.0"}},
		{"1.4.x", []string{"1.4.9"}, []string{"1.5.0"}},
		{"1", []string{"1.9.9"}, []string{"2.0.0"}},
		{"*", []string{"0.0.1", "9.9.9"}, []string{"", "x"}},
	}
	for _, tt := range tests {
		r, err := ParseRange(tt.in)
		if err != nil {
			t.Errorf("ParseRange(%q): %v", tt.in, err)
			continue
		}
		for _, v := range tt.has {
			if !r.Has(v) {
				t.Errorf("%s has not %q", tt.in, v)
			}
		}
		for _, v := range tt.has_not {
			if r.Has(v) {
				t.Errorf("%s has %q", tt.in, v)
			}
		}
	}
	for _, in := range []string{"", "^", "~x", "one", "1.2.3.4", "1.-2", "1.2-beta", ">=1", "1..2", "^^1"} {
		if _, err := ParseRange(in); err == nil {
			t.Errorf("ParseRange(%q) is taken", in)
		}
	}
}

func TestNewer(t *testing.T) {
	ordered := []string{"", "0.9.9", "1.0.0-rc", "1.0.0", "1.2.0", "1.10.0", "2"}
	for i, a := range ordered {
		for j, b := range ordered {
			if got, want := Newer(a, b), i > j; got != want {
				t.Errorf("Newer(%q, %q) = %v", a, b, got)
			}
		}
	}
}

func TestUses(t *testing.T) {
	f := mustParse(t, `{"nodes": [
		{"id": "a", "type": "composite", "content": {"flow": "address", "version": "^1.2"}, "connections": {"default": "b"}},
		{"id": "b", "type": "composite", "content": {"flow": "address", "version": 3}, "connections": {"default": "c"}},
		{"id": "c", "type": "composite", "content": {"nodes": [{"type": "composite", "content": {"flow_id": "pay"}}]}, "connections": {"default": "d"}},
		{"id": "d", "type": "composite", "content": {"flow": "address", "version": "^1.2"}}]}`)
	want := []Use{{"address", "#3"}, {"address", "^1.2"}, {"pay", ""}}
	if got := f.Uses(); !reflect.DeepEqual(got, want) {
		t.Errorf("Uses() = %v, want %v", got, want)
	}
	// A file that was given by hand stands in for any version but a wrong one.
	said := func(version string) string {
		sub := mustParse(t, `{"id": "address"`+version+`, "nodes": [{"id": "m", "type": "message", "content": {"text": "sub"}}]}`)
		main := mustParse(t, `{"nodes": [{"id": "a", "type": "composite", "content": {"flow": "address", "version": "^1.2"}}]}`)
		k := newTalk(t, main.With(map[string]*Flow{"address": sub}), Init{})
		return k.s.Session.Status
	}
	for version, want := range map[string]string{``: Completed, `, "version": "1.3.0"`: Completed, `, "version": "2.0.0"`: Failed} {
		if got := said(version); got != want {
			t.Errorf("with%s: %s, want %s", version, got, want)
		}
	}
}
