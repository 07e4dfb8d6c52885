package providertest

import "testing"

// A check that takes everything checks nothing.
func TestDocumentsRefuse(t *testing.T) {
	for _, tt := range []struct {
		doc             source
		schema, message string
	}{
		{deepgramSource, "listen/messages/controlMessagesRequest", `{"type":"Finalise"}`},
		{deepgramSource, "listen/messages/controlMessagesRequest", `{}`},
		{deepgramSource, "listen/messages/transcriptionResponse", `{"type":"Results","start":"now"}`},
		{deepgramSource, "listen/messages/transcriptionResponse", `{"type":"Results","begin":1}`},
		{deepgramSource, "speak/messages/textToSpeechRequest", `{"type":"Speak"}`},
		{deepgramSource, "speak/messages/controlMessagesRequest", `{"type":"Flushed"}`},
		{openAISource, "CreateChatCompletionRequest", `{"model":"gpt-4.1-mini"}`},
		{openAISource, "CreateChatCompletionRequest", `{"model":"gpt-4.1-mini","messages":[{"role":"nobody","content":"x"}]}`},
		{openAISource, "CreateChatCompletionRequest", `{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"x"}],"max_token":7}`},
		{openAISource, "CreateChatCompletionStreamResponse", `{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":42},"finish_reason":null}]}`},
		{openAISource, "CreateSpeechRequest", `{"model":"tts-1","input":"x"}`},
		{openAISource, "CreateTranscriptionResponseJson", `{"text":7}`},
	} {
		d := openDocument(t, tt.doc)
		if d == nil {
			continue
		}
		if err := d.valid(tt.schema, []byte(tt.message)); err == nil {
			t.Errorf("%s takes %s as %s", tt.doc.file, tt.message, tt.schema)
		}
	}
}
