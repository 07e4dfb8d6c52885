package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file of weights that is none keeps the program from starting, and it says
// why and what to do.
func TestStartRefusesWrongWeights(t *testing.T) {
	key := file(t, strings.Repeat("k", 32))
	for _, tt := range []struct {
		name, file string
		says       []string
	}{
		{"missing", filepath.Join(t.TempDir(), "nothing"), []string{"PARLEY_VAD_WEIGHTS", "no such file"}},
		{"wrong", file(t, "<html>404</html>"), []string{"PARLEY_VAD_WEIGHTS", "not the weights of the voice activity network", "silero_vad_16k.safetensors"}},
		{"folder", os.TempDir(), []string{"PARLEY_VAD_WEIGHTS", "is a directory"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, out, errs := parley(t, "", "serve", "--listen", "127.0.0.1:0", "--admin-listen", "", "--key-file", key,
				"--public-url", "https://voice.example.com", "--database-url", "postgres://parley_app@127.0.0.1:1/parley",
				"--redis-url", "redis://127.0.0.1:1", "--vad-weights", tt.file)
			if status != exitFailed {
				t.Errorf("status %d, want %d\n%s%s", status, exitFailed, out, errs)
			}
			for _, want := range tt.says {
				if !strings.Contains(errs, want) {
					t.Errorf("it says %q, want %q in it", errs, want)
				}
			}
		})
	}
}
