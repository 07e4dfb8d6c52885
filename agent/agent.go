// Package agent holds one conversation on one leg: it hears, takes turns,
// thinks and speaks, and remembers what was truly heard.
//
// One goroutine, the conductor, owns a session's state; hear and speak carry
// audio. Providers of speech and language stand behind [STT], [LLM] and [TTS].
package agent
