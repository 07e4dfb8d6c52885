package control

import (
	"errors"
	"reflect"
	"testing"
	"unicode/utf8"
)

func TestParseWordQuery(t *testing.T) {
	for _, tt := range []struct {
		text string
		want WordQuery
	}{
		{"hello world", WordQuery{All: [][]string{{"hello"}, {"world"}}}},
		{`"Order Number" 42`, WordQuery{All: [][]string{{"order", "number"}, {"42"}}}},
		{`refund -angry -"call back"`, WordQuery{All: [][]string{{"refund"}}, Not: [][]string{{"angry"}, {"call", "back"}}}},
		{`don't & (stop | go) !x:* <->`, WordQuery{All: [][]string{{"don't"}, {"stop"}, {"go"}, {"x"}}}},
		{`'); DROP TABLE turns; --`, WordQuery{All: [][]string{{"drop"}, {"table"}, {"turns"}}}},
		{`"never closed`, WordQuery{All: [][]string{{"never", "closed"}}}},
		{`Ärger 東京`, WordQuery{All: [][]string{{"ärger"}, {"東京"}}}},
	} {
		if got, err := ParseWordQuery(tt.text); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %v, %v, want %v", tt.text, got, err, tt.want)
		}
	}
	for _, text := range []string{"", "  ", "-angry", `""`, "& | ! ( )"} {
		if _, err := ParseWordQuery(text); !errors.As(err, new(*Invalid)) {
			t.Errorf("%q: %v, want Invalid", text, err)
		}
	}
}

func TestAround(t *testing.T) {
	q, err := ParseWordQuery(`"order number"`)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := q.Around("What is your Order number, please?"); !ok || s.Text != "What is your Order number, please" ||
		!reflect.DeepEqual(s.Marks, [][2]int{{13, 18}, {19, 25}}) {
		t.Errorf("%+v %v", s, ok)
	}
	if _, ok := q.Around("the number of the order"); ok {
		t.Error("words apart are taken for a phrase")
	}
}

func FuzzWordQuery(f *testing.F) {
	for _, s := range []string{"a b", `"a b" -c`, "\xff\x00'\\:*", `'' & ! | ( ) <2>`, "don’t"} {
		f.Add(s, "say don't a b")
	}
	f.Fuzz(func(t *testing.T, text, said string) {
		q, err := ParseWordQuery(text)
		if err != nil {
			if !errors.As(err, new(*Invalid)) {
				t.Fatal(err)
			}
			return
		}
		for _, phrase := range append(q.All, q.Not...) {
			for _, w := range phrase {
				if w == "" || !utf8.ValidString(w) || len(w) > maxWordBytes {
					t.Fatalf("word %q", w)
				}
			}
		}
		s, ok := q.Around(said)
		for _, m := range s.Marks {
			if !ok || m[0] < 0 || m[1] > len(s.Text) || m[0] >= m[1] {
				t.Fatalf("%+v", s)
			}
		}
	})
}
