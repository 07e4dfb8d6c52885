package providertest

import "testing"

// A check that takes everything checks nothing.
func TestDocumentsRefuse(t *testing.T) {
	for _, tt := range []struct{ doc, schema, message string }{
		{"deepgram", "listen.controlMessagesRequest", `{"type":"Finalise"}`},
		{"deepgram", "listen.controlMessagesRequest", `{}`},
		{"deepgram", "listen.transcriptionResponse", `{"type":"Results","start":"now"}`},
		{"deepgram", "listen.transcriptionResponse", `{"type":"Results","begin":1}`},
		{"deepgram", "speak.textToSpeechRequest", `{"type":"Speak"}`},
		{"deepgram", "speak.controlMessagesRequest", `{"type":"Flushed"}`},
		{"openai", "CreateChatCompletionRequest", `{"model":"gpt-4.1-mini"}`},
		{"openai", "CreateChatCompletionRequest", `{"model":"gpt-4.1-mini","messages":[{"role":"nobody","content":"x"}]}`},
		{"openai", "CreateChatCompletionRequest", `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"x"}],"max_token":7}`},
		{"openai", "CreateChatCompletionStreamResponse", `{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":42},"finish_reason":null}]}`},
		{"openai", "CreateSpeechRequest", `{"model":"tts-1","input":"x"}`},
		{"openai", "CreateTranscriptionResponseJson", `{"text":7}`},
	} {
		d := openDocument(t, tt.doc)
		if err := d.valid(tt.schema, []byte(tt.message)); err == nil {
			t.Errorf("%s takes %s as %s", tt.doc, tt.message, tt.schema)
		}
	}
}
