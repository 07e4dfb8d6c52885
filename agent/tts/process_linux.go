package tts

import (
	"os/exec"
	"syscall"
)

// tie has the kernel kill the program when the gateway dies without a word.
func tie(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
