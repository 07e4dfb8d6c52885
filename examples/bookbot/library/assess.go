package library

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"slices"
)

// A level of reading, from the score where it begins.
type level struct {
	name, description string
	from              float64
	next              []string
}

var levels = []level{
	{"beginner", "Reads short texts in plain words, best with pictures.", 0,
		[]string{"Read aloud together for ten minutes a day.", "Choose books with few words to a page."}},
	{"intermediate", "Reads stories with chapters alone, and can tell what happened.", 0.45,
		[]string{"Try a book with chapters.", "Tell somebody how you think it will end."}},
	{"advanced", "Reads long books alone, and between the lines.", 0.75,
		[]string{"Try a book that is older than your grandparents.", "Compare a book with its film."}},
}

func levelOf(name string) *level {
	for i := range levels {
		if levels[i].name == name {
			return &levels[i]
		}
	}
	return nil
}

// A test is what a reader has shown. Each part may be missing.
type test struct {
	UserID string `json:"user_id"`
	Data   struct {
		Quiz *struct {
			Correct int `json:"correct"`
			Total   int `json:"total"`
		} `json:"quiz_answers"`
		Comprehension *float64 `json:"comprehension_score"` // 0 to 1
		Vocabulary    *float64 `json:"vocabulary_score"`    // 0 to 1
		Sample        *struct {
			Words  int `json:"words"`
			Errors int `json:"errors"`
		} `json:"reading_sample"` // read aloud
	} `json:"assessment_data"`
	Current string `json:"current_reading_level"`
	Age     *int   `json:"age"`
}

// A part of a test is worth its weight.
type component struct {
	name, good, poor string
	weight           float64
	score            float64 // 0 to 1
}

// An Assessment is a test's outcome.
type Assessment struct {
	ReadingLevel string             `json:"reading_level"`
	Description  string             `json:"level_description"`
	Score        float64            `json:"score"`      // 0 to 1
	Confidence   float64            `json:"confidence"` // 0 to 1
	Components   map[string]float64 `json:"components"` // each 0 to 1
	Strengths    []string           `json:"strengths"`
	Improve      []string           `json:"areas_for_improvement"`
	NextSteps    []string           `json:"next_steps"`
}

func (l *Library) assessment(who caller, r *http.Request) (any, error) {
	var t test
	if err := read(r, &t); err != nil {
		return nil, err
	}
	if err := own(who, t.UserID); err != nil {
		return nil, err
	}
	parts, err := t.components()
	if err != nil {
		return nil, err
	}
	return assess(parts, t.Current), nil
}

// Limits of a test.
const (
	mostQuestions = 200
	mostWords     = 10_000
	// fullQuiz is the number of questions that say all that a quiz can say.
	fullQuiz = 5
	// fluent and lost are the shares of words read rightly aloud at which a text
	// is easy, and too hard to be read alone.
	fluent, lost = 0.98, 0.88
)

// components checks a test and weighs its parts.
func (t test) components() ([]component, error) {
	d := t.Data
	var out []component
	if q := d.Quiz; q != nil {
		if q.Total < 1 || q.Total > mostQuestions || q.Correct < 0 || q.Correct > q.Total {
			return nil, invalid("assessment_data.quiz_answers", "must be 0 to total correct ones, of 1 to %d", mostQuestions)
		}
		weight := 0.4 * math.Min(1, float64(q.Total)/fullQuiz)
		out = append(out, component{"quiz", "answers questions on a text well", "answering questions on a text", weight, float64(q.Correct) / float64(q.Total)})
	}
	for _, s := range []struct {
		component
		field string
		score *float64
	}{
		{component{"comprehension", "understands what a text means", "telling in own words what a text means", 0.3, 0}, "comprehension_score", d.Comprehension},
		{component{"vocabulary", "knows many words", "learning new words", 0.2, 0}, "vocabulary_score", d.Vocabulary},
	} {
		if s.score == nil {
			continue
		}
		if !(*s.score >= 0 && *s.score <= 1) {
			return nil, invalid("assessment_data."+s.field, "must be 0 to 1")
		}
		s.component.score = *s.score
		out = append(out, s.component)
	}
	if s := d.Sample; s != nil {
		if s.Words < 1 || s.Words > mostWords || s.Errors < 0 || s.Errors > s.Words {
			return nil, invalid("assessment_data.reading_sample", "must be 0 to words errors, in 1 to %d words", mostWords)
		}
		right := 1 - float64(s.Errors)/float64(s.Words)
		score := math.Max(0, math.Min(1, (right-lost)/(fluent-lost)))
		out = append(out, component{"reading_sample", "reads fluently", "reading aloud", 0.1, score})
	}
	if len(out) == 0 {
		return nil, invalid("assessment_data", "must have quiz_answers, comprehension_score, vocabulary_score or reading_sample")
	}
	if t.Current != "" && levelOf(t.Current) == nil {
		return nil, invalid("current_reading_level", "must be one of beginner, intermediate, advanced")
	}
	return out, checkAge("age", t.Age)
}

// assess weighs parts. The score is their weighted mean; confidence is the
// weight of what was tested, less the more the parts disagree. Where that is
// little, one test does not move a reader more than one level.
func assess(parts []component, current string) Assessment {
	var weight, sum float64
	low, high := 1.0, 0.0
	out := Assessment{Components: map[string]float64{}, Strengths: []string{}, Improve: []string{}}
	for _, p := range parts {
		weight += p.weight
		sum += p.weight * p.score
		low, high = math.Min(low, p.score), math.Max(high, p.score)
		out.Components[p.name] = round(p.score)
		switch {
		case p.score >= 0.75:
			out.Strengths = append(out.Strengths, p.good)
		case p.score < 0.5:
			out.Improve = append(out.Improve, p.poor)
		}
	}
	score := sum / weight
	out.Score = round(score)
	out.Confidence = round(math.Min(1, weight) * (1 - (high-low)/2))
	at := slices.IndexFunc(levels, func(l level) bool { return score < l.from }) - 1
	if at < 0 {
		at = len(levels) - 1
	}
	if was := slices.IndexFunc(levels, func(l level) bool { return l.name == current }); was >= 0 && out.Confidence < 0.6 {
		at = was + cmp.Compare(at, was)
	}
	l := levels[at]
	out.ReadingLevel, out.Description, out.NextSteps = l.name, l.description, slices.Clone(l.next)
	if len(out.Improve) > 0 {
		out.NextSteps = append(out.NextSteps, fmt.Sprintf("Practise %s.", out.Improve[0]))
	}
	return out
}

// round keeps two digits: more would pretend.
func round(x float64) float64 { return math.Round(x*100) / 100 }
