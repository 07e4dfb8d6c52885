package cluster

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// A process is a running server and the goroutine that waits for it.
type process struct {
	os   *os.Process
	log  tail
	done chan struct{} // closed once it has ended and was waited for
}

// startProcess starts cmd as u. Its waiting goroutine ends with the process,
// for which stop waits. It holds on to its thread: the kernel ties the child's
// life to the thread that made it (prctl(2), PR_SET_PDEATHSIG).
func startProcess(cmd *exec.Cmd, u *osUser) (*process, error) {
	p := &process{done: make(chan struct{})}
	cmd.SysProcAttr, cmd.Dir, cmd.Env = u.attributes(), "/", environment()
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		p.os = cmd.Process
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended shows in its log
			close(p.done)
		}
	}()
	return p, <-started
}

// stop asks the server to end, fast and with a checkpoint; after the patience
// given or at the end of ctx, at once; and waits until it has.
func (p *process) stop(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		_ = p.os.Signal(sig) // fails if it has ended, which done tells
		select {
		case <-p.done:
			return nil
		case <-ctx.Done():
		}
		var next context.CancelFunc
		ctx, next = context.WithTimeout(context.WithoutCancel(ctx), 500*time.Millisecond)
		defer next()
	}
	_ = p.os.Kill()
	<-p.done
	return ctx.Err()
}

func (p *process) output() string { return p.log.String() }

// A tail keeps the last 8 KiB written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - 8<<10; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
