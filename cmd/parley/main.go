// Command parley is the real-time voice agent gateway: it takes calls from
// telephones and browsers and has agents answer them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	_ "time/tzdata" // quiet hours and numbers' routes have time zones, on machines without them too

	"github.com/alecthomas/kong"

	"parley/control/class"
)

// version of the program, from its module where it was built by release.
var version = buildVersion()

func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "development"
}

// commands are what the program can be told to do.
type commands struct {
	Dev     devCommand     `cmd:"" help:"Everything on this machine: embedded database, demo agent, no key needed."`
	Serve   serveCommand   `cmd:"" help:"The gateway, in production."`
	Migrate migrateCommand `cmd:"" help:"Bring the database's schema up, or down, or show it."`
	Call    callCommand    `cmd:"" help:"Call an agent from the terminal."`
	Flow    flowCommand    `cmd:"" help:"Check, try and test flows, without a server."`
	Replay  replayCommand  `cmd:"" help:"Run a stored conversation again, exactly, or against another version of its flow."`
	Audit   auditCommand   `cmd:"" help:"Verify and export the audit trail, without a server."`
	Keys    keysCommand    `cmd:"" help:"Look after the keys that seal recordings and transcripts."`
	Erase   eraseCommand   `cmd:"" help:"Forget a caller: calls, words, recordings, all of it."`
	Tenant  tenantCommand  `cmd:"" help:"Make and list tenants, without a server."`
	Tokens  tokensCommand  `cmd:"" help:"Look after the keys that tokens are signed with."`
	Doctor  doctorCommand  `cmd:"" help:"Look for what keeps the gateway from working or from being safe: settings, storage, TLS, clocks, vendors."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

// stdio is where commands write, so that tests can look.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // it did not hold
	exitUsage  = 2 // it was called wrongly
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program on the spot
	collectOften()
	status := run(ctx, os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(status)
}

// collectOften holds memory down, unless GOGC says otherwise. Calls make little
// garbage, so that collecting it twice as often as Go would costs about one
// percent of the CPU time, and saves a third of what a call takes.
func collectOften() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

// usageError is a wrong call, which kong could not know.
type usageError struct{ error }

// run performs a command line and returns the exit status.
func run(ctx context.Context, args []string, io stdio) int {
	var c commands
	exited := -1
	parser, err := kong.New(&c, kong.Name("parley"), kong.Writers(io.out, io.err),
		kong.Description("Real-time voice agent gateway."), kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Exit(func(status int) { exited = status }), kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(io))
	if err != nil {
		fmt.Fprintln(io.err, "parley:", err)
		return exitUsage
	}
	k, err := parser.Parse(args)
	if exited >= 0 {
		return exited
	}
	if err != nil {
		fmt.Fprintf(io.err, "parley: %v\nTry parley --help.\n", err)
		return exitUsage
	}
	err = k.Run()
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintln(io.err, "parley:", err)
		return exitUsage
	case errors.Is(err, errSaid):
		return exitFailed
	}
	fmt.Fprintln(io.err, "parley:", err)
	return exitFailed
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run(io stdio) error {
	_, err := fmt.Fprintln(io.out, version)
	return err
}

// logger writes as the settings say, and nothing of a class that logs do not
// take: whoever logs in this program, its libraries too, logs by it.
func (s Settings) logger(w io.Writer, format string) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.LogLevel)) // the flag's enum allows nothing else
	o := &slog.HandlerOptions{Level: level}
	if s.LogFormat != "" {
		format = s.LogFormat
	}
	var to slog.Handler = slog.NewJSONHandler(w, o)
	if format == "text" {
		to = slog.NewTextHandler(w, o)
	}
	return slog.New(class.NewHandler(to, logKeys, logMost, fromContext))
}
