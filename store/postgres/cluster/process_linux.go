package cluster

import "syscall"

// dieWithParent has the kernel ask the server to shut down fast when the thread
// that started it ends, which it does with the process, even by kill -9.
func dieWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGINT }
