package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A machine is where figures were measured.
type machine struct {
	CPU    string    `json:"cpu"`
	Cores  int       `json:"cores"`
	Memory int64     `json:"memory_mib"`
	Kernel string    `json:"kernel"`
	Go     string    `json:"go"`
	At     time.Time `json:"at"`
}

func thisMachine() machine {
	m := machine{Cores: onlineCores(), Go: runtime.Version(), At: time.Now().UTC().Truncate(time.Second)}
	m.CPU = field("/proc/cpuinfo", "model name")
	if kib, err := strconv.ParseInt(strings.Fields(field("/proc/meminfo", "MemTotal") + " 0")[0], 10, 64); err == nil {
		m.Memory = kib >> 10
	}
	b, _ := os.ReadFile("/proc/sys/kernel/osrelease") // absent elsewhere: unnamed
	m.Kernel = strings.TrimSpace(string(b))
	return m
}

// field returns the first value of a key in a file of "key: value" lines.
func field(file, key string) string {
	b, _ := os.ReadFile(file) // absent: no value
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func onlineCores() int {
	all, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*") // the pattern is good
	return max(len(all), runtime.NumCPU())
}

func lastCore() int { return onlineCores() - 1 }

// otherCores lists the cores that are not measured, as taskset takes them.
func otherCores(measured int) (string, error) {
	if runtime.GOOS != "linux" {
		return "", errors.New("processes are pinned and measured by Linux's means only")
	}
	var list []string
	for c := range onlineCores() {
		if c != measured {
			list = append(list, strconv.Itoa(c))
		}
	}
	if len(list) == 0 {
		return "", errors.New("one core is too few: what is measured needs its own")
	}
	return strings.Join(list, ","), nil
}

// A process is a program under measurement.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error
}

// startOn starts a program on one core. It ends with this process.
func startOn(core int, env []string, out io.Writer, program string, args ...string) (*process, error) {
	cmd := exec.Command("taskset", append([]string{"-c", strconv.Itoa(core), program}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go func() { // ends with the process, which stop waits for
		p.err = cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// stop ends the process and waits for it, 60 s at most before it is killed.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone
	select {
	case <-p.exited:
	case <-time.After(60 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
		return errors.New("it had to be killed")
	}
	return p.err
}

func (p *process) alive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// usage is what a process has used so far.
type usage struct {
	at  time.Time
	cpu time.Duration // of all its threads
	rss int64         // bytes
	fds int
}

// tick is the unit of CPU times under /proc (USER_HZ, proc(5)).
const tick = 10 * time.Millisecond

func (p *process) usage() (u usage, err error) {
	dir := fmt.Sprintf("/proc/%d", p.cmd.Process.Pid)
	b, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return u, fmt.Errorf("the measured process is gone: %w", err)
	}
	u.at = time.Now()
	// The name, in brackets, may hold anything; after it come fields 3 and on.
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	for _, i := range []int{14 - 3, 15 - 3} {
		n, err := strconv.ParseInt(string(f[i]), 10, 64)
		if err != nil {
			return u, fmt.Errorf("read %s/stat: %w", dir, err)
		}
		u.cpu += time.Duration(n) * tick
	}
	kib, _, _ := strings.Cut(field(dir+"/status", "VmRSS"), " ")
	n, err := strconv.ParseInt(kib, 10, 64)
	if err != nil {
		return u, fmt.Errorf("read %s/status: %w", dir, err)
	}
	u.rss = n << 10
	open, _ := os.ReadDir(dir + "/fd") // of a process that ends: none
	u.fds = len(open)
	return u, nil
}

// stolenTime is what the host took from this machine's cores since it started.
func stolenTime() time.Duration {
	b, _ := os.ReadFile("/proc/stat") // absent elsewhere: none
	line, _, _ := strings.Cut(string(b), "\n")
	const steal = 8 // after the name (proc(5))
	f := strings.Fields(line)
	if len(f) <= steal {
		return 0
	}
	n, _ := strconv.ParseInt(f[steal], 10, 64) // a number
	return time.Duration(n) * tick
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
