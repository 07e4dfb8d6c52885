package postgres

import (
	"context"
	"fmt"
	"time"
)

// An Examination is what a server says of itself and of the connection to it.
type Examination struct {
	Version   int  // 170004 is 17.4
	Encrypted bool // the connection is under TLS
	// Ahead is how far the server's clock is before ours, to half a round trip.
	Ahead, RoundTrip time.Duration
}

// Examine asks a server about itself over a connection of its own. The address
// may be of any role. Errors: control.ErrUnavailable.
func Examine(ctx context.Context, url string) (Examination, error) {
	conn, err := connect(ctx, url)
	if err != nil {
		return Examination{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	const q = `
		SELECT current_setting('server_version_num')::int, clock_timestamp(),
		       coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)`
	var e Examination
	var at time.Time
	began := time.Now()
	if err := conn.QueryRow(ctx, q).Scan(&e.Version, &at, &e.Encrypted); err != nil {
		return Examination{}, fmt.Errorf("examine postgres: %w", problem(err))
	}
	e.RoundTrip = time.Since(began)
	e.Ahead = at.Sub(began.Add(e.RoundTrip / 2))
	return e, nil
}
