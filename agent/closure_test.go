package agent

import "testing"

func TestClosure(t *testing.T) {
	tests := map[closure][]string{
		open: {
			"", "…", "Um.", "I'd like to book, um", "I want a table for", "I want a table for.", "and", "It was on Tuesday and.",
			"I was thinking maybe,", "so I went to the -", "Well...", "My name is", "My name is.", "my phone number is", "The thing is.",
			"I'd like to", "Can I.", "could you", "because", "I would go but.", "it's the", "on the corner of", "I'm", "I'm looking for",
			"Let me see.", "I mean", "you know.", "we have", "What about the", "that is because.", "she said that", "Is there a",
			"I'm calling about", "Dr.", "I'll have the", "if", "either that or.", "a sort of", "my number is four one five.",
			"My number is 415.", "it's two oh seven", "four one five five five", "Do you have any", "to", "five hundred and",
			"I live in", "he can", "Ich hätte gern ein", "Ich möchte", "mit dem Auto und.", "weil", "Me llamo", "quiero una", "y.",
			"Je voudrais", "parce que", "avec.", "Vorrei", "ik wil", "I want to, uh.", "Just a", "that would be very",
		},
		closed: {
			"I want a table.", "Yes.", "yes", "no", "No thanks", "That's all", "okay thank you", "bye", "What time do you open?",
			"What is it for?", "Where are you from?", "Turn it on.", "I think so.", "I'd like to come in.", "That's it!", "He said that.",
			"It's for 7.", "I have no idea.", "Call me back, please", "two coffees please", "Let's go.", "I can't see you.", "Who is that?",
			"sure", "I don't know", "cancel", "Ja.", "danke", "Das ist alles.", "¿A qué hora abren?", "gracias", "no, gracias",
			"Je comprends.", "merci", "好的。", "いつですか？", "हाँ।", "Room 415.", "\"That is right.\"", "We arrive on Monday.", "I moved the van.",
			"john at gmail dot com.", "One more time.", "It costs five hundred.", "I mean the blue one.", "my name is Anna.",
		},
		neutral: {
			"a table for four", "tomorrow evening", "four one five five five five one two three four", "one two three four",
			"I want a table", "my name is Anna", "what time do you open", "J O", "my name is J O.", "at seven", "morgen um acht", "mañana por la tarde",
		},
	}
	n := 0
	for want, texts := range tests {
		for _, text := range texts {
			n++
			if got := closureOf(text); got != want {
				t.Errorf("%q is %d, want %d", text, got, want)
			}
		}
	}
	if n < 80 {
		t.Errorf("only %d utterances", n)
	}
}

func TestDigitsAreCounted(t *testing.T) {
	for text, want := range map[string]int{"": 0, "four one five": 3, "415-55": 5, "double five oh": 3, "triple 7": 3, "eins zwo drei": 3, "none": 0} {
		if got := digitsIn(text); got != want {
			t.Errorf("%q has %d digits, want %d", text, got, want)
		}
	}
}

func TestAddresses(t *testing.T) {
	tests := map[string][2]bool{ // begun, whole
		"jane":                           {false, false},
		"jane dot doe":                   {true, false},
		"jane dot doe at":                {true, false},
		"jane at gmail":                  {true, false},
		"jane at gmail dot":              {true, false},
		"jane at gmail dot com":          {true, true},
		"jane@gmail":                     {true, false},
		"jane@gmail.":                    {true, false},
		"jane@gmail.com":                 {true, true},
		"It's jane.doe@mail.example.org": {true, true},
		"jane at gmail.com.":             {true, true},
	}
	for text, want := range tests {
		if begun, whole := addressed(text); begun != want[0] || whole != want[1] {
			t.Errorf("%q: begun %v, whole %v, want %v", text, begun, whole, want)
		}
	}
}

func TestHalfDates(t *testing.T) {
	for text, want := range map[string]bool{"in May": true, "the third": true, "the third of May": false, "May 5th": false,
		"tomorrow": false, "5/12": false, "on the 5th": true, "next Tuesday": false} {
		if got := halfDate(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func FuzzClosure(f *testing.F) {
	for _, s := range []string{"and then…", "my number is 415", "jane at", "\xff", "．", "the third of"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		closureOf(s)
		addressed(s)
		halfDate(s)
		digitsIn(s)
	})
}
