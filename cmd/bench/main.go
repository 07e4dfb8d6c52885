// Command bench measures the gateway against bare relays of the same audio, on
// this machine, in one run.
//
// The gateway under test is the real program with a real Postgres. It and the
// floors take turns on one core; callers, stand-ins of the vendors and storage
// have the others. The main number is the CPU time that a call costs in the
// gateway as a ratio to the relay floor's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// options are what a run is told.
type options struct {
	only    string        // scenarios, as "S1,S4"; empty: all
	out     string        // file for the JSON
	gateway string        // the program under test
	calls   int           // of the scenarios at load
	measure time.Duration // how long a load is held and measured
	soak    time.Duration
	profile string // folder for the gateway's profiles and logs
	core    int    // of what is measured
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// run plays the role that the first argument names. Without one it starts
// itself again as the load, on the cores that are not measured.
func run(ctx context.Context, args []string) error {
	role := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		role, args = args[0], args[1:]
	}
	switch role {
	case roleRelay, roleEcho:
		return serveFloor(ctx, role, args)
	case roleRTC:
		return serveRTCFloor(ctx, args)
	case "load":
		o, err := parse(args)
		if err != nil {
			return err
		}
		return bench(ctx, o)
	case "":
		return pinned(args)
	}
	return fmt.Errorf("there is no role %q", role)
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.only, "only", "", "scenarios to run, as S1,S4; empty: all")
	f.StringVar(&o.out, "out", "bench.json", "file to write the figures to")
	f.StringVar(&o.gateway, "gateway", "bin/parley", "the program to measure")
	f.IntVar(&o.calls, "calls", 100, "calls at once in the scenarios that hold a load")
	f.DurationVar(&o.measure, "measure", 20*time.Second, "how long a load is measured")
	f.DurationVar(&o.soak, "soak", 40*time.Second, "how long the soak lasts")
	f.StringVar(&o.profile, "profile", "", "folder for the gateway's logs, and for its profiles at that many calls")
	f.IntVar(&o.core, "core", lastCore(), "the core for what is measured")
	err := f.Parse(args)
	if err == nil && f.NArg() > 0 {
		err = fmt.Errorf("what is %q?", f.Arg(0))
	}
	return o, err
}

// pinned goes on as the load process on all cores but the measured one.
func pinned(args []string) error {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	cores, err := otherCores(o.core)
	if err != nil {
		return err
	}
	taskset, err := exec.LookPath("taskset")
	if err != nil {
		return fmt.Errorf("cores cannot be told apart without taskset (util-linux): %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	argv := append([]string{taskset, "-c", cores, self, "load"}, args...)
	return fmt.Errorf("run %s: %w", taskset, syscall.Exec(taskset, argv, os.Environ()))
}
