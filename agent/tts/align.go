package tts

import (
	"strconv"
	"strings"
	"time"

	"parley/agent"
)

// A segment is one phone of the speech.
type segment struct {
	phone      string
	start, end time.Duration
}

// parseSegments reads flite's -psdur: "phone:end" in seconds, a line a
// sentence, where each line counts from its own start.
func parseSegments(out string) []segment {
	var all []segment
	var base time.Duration
	for line := range strings.Lines(out) {
		last := base
		for f := range strings.FieldsSeq(line) {
			phone, end, ok := strings.Cut(f, ":")
			seconds, err := strconv.ParseFloat(end, 64)
			if !ok || err != nil || seconds < 0 || seconds > 3600 {
				continue
			}
			at := max(last, base+time.Duration(seconds*float64(time.Second)))
			all = append(all, segment{phone, last, at})
			last = at
		}
		base = last
	}
	return all
}

// align gives each token its place in the speech of the given length. With the
// phones of each word it matches them to the segments; without, it shares the
// voiced segments out by letters.
func align(tokens []string, perWord [][]string, segments []segment, length time.Duration) []agent.Word {
	var voiced []segment
	for _, s := range segments {
		if s.phone != "pau" {
			voiced = append(voiced, s)
		}
	}
	if len(voiced) == 0 {
		return nil
	}
	var want []string
	var owner []int
	for i, tok := range tokens {
		sounds := strings.Split(tok, "")
		if perWord != nil {
			sounds = perWord[i]
		}
		for _, p := range sounds {
			want, owner = append(want, p), append(owner, i)
		}
	}
	if len(want) == 0 {
		return nil
	}
	at := match(want, voiced)
	words := make([]agent.Word, 0, len(tokens))
	for i, o := range owner {
		s := voiced[at[i]]
		if len(words) == 0 || o != owner[i-1] {
			words = append(words, agent.Word{Text: tokens[o], Start: min(s.start, length), End: min(s.end, length)})
			continue
		}
		words[len(words)-1].End = min(s.end, length)
	}
	return words
}

// match returns for each wanted phone the index of its voiced segment, in
// order, by the cheapest edit between the two.
func match(want []string, voiced []segment) []int {
	n, m := len(want), len(voiced)
	at := make([]int, n)
	if n*m > 4_000_000 { // minutes of speech: not a clause
		for i := range at {
			at[i] = i * m / n
		}
		return at
	}
	cost := make([][]int32, n+1)
	for i := range cost {
		cost[i] = make([]int32, m+1)
		cost[i][0] = int32(i)
	}
	for j := range m + 1 {
		cost[0][j] = int32(j)
	}
	differ := func(i, j int) int32 {
		if want[i] == voiced[j].phone {
			return 0
		}
		return 1
	}
	for i := range n {
		for j := range m {
			cost[i+1][j+1] = min(cost[i][j]+differ(i, j), cost[i][j+1]+1, cost[i+1][j]+1)
		}
	}
	for i, j := n, m; i > 0; {
		switch {
		case j > 0 && cost[i][j] == cost[i-1][j-1]+differ(i-1, j-1):
			i, j = i-1, j-1
			at[i] = j
		case j > 0 && cost[i][j] == cost[i][j-1]+1:
			j--
		default: // a wanted phone that was not spoken shares its neighbour's
			i--
			at[i] = min(j, m-1)
		}
	}
	return at
}
