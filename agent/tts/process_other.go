//go:build !linux

package tts

import "os/exec"

// tie does nothing here: the program ends when its input does.
func tie(*exec.Cmd) {}
