//go:build !linux

package cluster

import "syscall"

// dieWithParent: other kernels cannot. The next Start ends what was left.
func dieWithParent(*syscall.SysProcAttr) {}
