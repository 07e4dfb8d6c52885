package main

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel end the program when this one is killed.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}
