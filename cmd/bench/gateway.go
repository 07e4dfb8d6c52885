package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/alicebob/miniredis/v2"

	"parley/store/postgres"
	"parley/store/postgres/cluster"
)

// benchAgent answers the calls: a model with the stand-ins for vendors.
const benchAgent = "bench"

// noLimit has the gateway take every call, as scenarios do that look for what
// it can bear.
const noLimit = "PARLEY_MAX_CALLS=100000"

// A stage is what the gateway stands on: storage, vendors and callers, all on
// the load's cores.
type stage struct {
	o       options
	dir     string
	pg      *cluster.Cluster
	redis   *miniredis.Miniredis
	vendors *vendors
	fleet   *fleet
	made    int // databases
}

func newStage(ctx context.Context, o options) (_ *stage, err error) {
	s := &stage{o: o, fleet: newFleet()}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.dir, err = os.MkdirTemp("", "parley-bench-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(s.dir, 0o711); err != nil { // the database may run as another user
		return nil, err
	}
	s.pg, err = cluster.Start(ctx, cluster.Options{Dir: filepath.Join(s.dir, "pg"), Throwaway: true,
		Roles: []string{postgres.RoleMigrate, postgres.RoleApp}})
	if err != nil {
		return nil, err
	}
	if s.redis, err = miniredis.Run(); err != nil {
		return nil, err
	}
	s.vendors, err = startVendors(s.fleet.find)
	return s, err
}

func (s *stage) close() {
	if s.vendors != nil {
		s.vendors.close()
	}
	if s.redis != nil {
		s.redis.Close()
	}
	if s.pg != nil {
		_ = s.pg.Stop(context.Background()) // it is thrown away
	}
	_ = os.RemoveAll(s.dir)
}

// A target is a process that takes calls: the gateway, or a floor.
type target struct {
	*process
	name       string
	url, admin string
	key        string // of the API
	place      func(context.Context, script) (*caller, error)
	idle       usage // before the first call
	log        *os.File
}

// database makes an empty one and returns the application's address of it.
func (s *stage) database(ctx context.Context) (string, error) {
	s.made++
	name := fmt.Sprintf("bench_%d", s.made)
	if err := postgres.CreateDatabase(ctx, s.pg.SuperURL(), name); err != nil {
		return "", err
	}
	if err := postgres.Bootstrap(ctx, s.pg.URL("postgres", name), postgres.Passwords{}); err != nil {
		return "", err
	}
	return s.pg.URL(postgres.RoleApp, name), postgres.MigrateUp(ctx, s.pg.URL(postgres.RoleMigrate, name))
}

// gateway starts the program under test with an agent that the stand-ins serve.
func (s *stage) gateway(ctx context.Context, env ...string) (*target, error) {
	db, err := s.database(ctx)
	if err != nil {
		return nil, fmt.Errorf("make a database: %w", err)
	}
	listen, admin := freeAddress(), freeAddress()
	data := filepath.Join(s.dir, fmt.Sprintf("data-%d", s.made))
	logFile, err := os.Create(filepath.Join(cmp.Or(s.o.profile, s.dir), fmt.Sprintf("gateway-%d.log", s.made)))
	if err != nil {
		return nil, err
	}
	env = append([]string{
		"DATABASE_URL=" + db, "REDIS_URL=redis://" + s.redis.Addr() + "/0", "PARLEY_LOG_FORMAT=json",
		"DEEPGRAM_API_KEY=stand-in", "DEEPGRAM_BASE_URL=http://" + s.vendors.addr,
		"OPENAI_API_KEY=stand-in", "OPENAI_BASE_URL=http://" + s.vendors.addr + "/v1",
	}, env...)
	p, err := startOn(s.o.core, env, logFile, s.o.gateway, "dev", "--listen", listen, "--admin-listen", admin, "--data", data)
	if err != nil {
		return nil, err
	}
	t := &target{process: p, name: "the gateway", url: "http://" + listen, admin: "http://" + admin, log: logFile}
	t.place = func(ctx context.Context, sc script) (*caller, error) { return s.fleet.call(ctx, t.url, sc) }
	if err := s.prepare(ctx, t, data); err != nil {
		_ = t.end()
		said, _ := os.ReadFile(logFile.Name())
		return nil, fmt.Errorf("%w; the gateway said:\n%s", err, said[max(0, len(said)-2000):])
	}
	return t, nil
}

// prepare waits for the gateway, makes the agent, and has one call warm it up.
func (s *stage) prepare(ctx context.Context, t *target, data string) error {
	if err := t.await(ctx, t.url+"/readyz"); err != nil {
		return err
	}
	var dev struct {
		APIKey string `json:"api_key"`
	}
	b, err := os.ReadFile(filepath.Join(data, "dev.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &dev); err != nil {
		return err
	}
	t.key = dev.APIKey
	agent := `{"name":"` + benchAgent + `","public":true,"settings":{"kind":"prompt","prompt":"Answer the telephone.","language":"en-US",
		"stt":[{"vendor":"deepgram"}],"llm":[{"vendor":"openai","model":"` + firstChoice + `"},{"vendor":"openai","model":"second"}],
		"tts":[{"vendor":"openai","model":"` + firstChoice + `"},{"vendor":"openai","model":"second"}],"turns":{"idle_seconds":120},"tools":["end_call"]}}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url+"/v1/agents", bytes.NewReader([]byte(agent)))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+dev.APIKey)
	req.Header.Set("Content-Type", "application/json")
	res, err := s.fleet.client.Do(req)
	if err != nil {
		return fmt.Errorf("make an agent: %w", err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusCreated {
		return fmt.Errorf("make an agent: status %d: %s", res.StatusCode, b)
	}
	return s.warm(ctx, t)
}

// warm has one caller talk for a turn, so that what is made once is made.
func (s *stage) warm(ctx context.Context, t *target) error {
	c, err := t.place(ctx, talk)
	if err != nil {
		return fmt.Errorf("call: %w", err)
	}
	for range 100 {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		if c.tally.turns.Load() > 0 {
			break
		}
	}
	if s.fleet.hangUpAll(); s.fleet.take().turns.Load() == 0 {
		return errors.New("the first call was not answered")
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	t.idle, err = t.usage()
	return err
}

// floor starts a floor's process.
func (s *stage) floor(ctx context.Context, role string) (*target, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	listen := freeAddress()
	p, err := startOn(s.o.core, nil, os.Stderr, self, role, "-listen", listen, "-recognizer", "ws://"+s.vendors.addr+"/v1/listen")
	if err != nil {
		return nil, err
	}
	t := &target{process: p, name: "the " + role, url: "http://" + listen}
	t.place = func(ctx context.Context, _ script) (*caller, error) {
		return s.fleet.dial(ctx, listen, "/", "CA", streaming)
	}
	if err := t.await(ctx, t.url); err != nil {
		_ = t.end()
		return nil, err
	}
	if err := pause(ctx, 500*time.Millisecond); err != nil {
		return nil, err
	}
	t.idle, err = t.usage()
	return t, err
}

// await waits until the target answers.
func (t *target) await(ctx context.Context, url string) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for range 300 {
		if !t.alive() {
			return errors.New("it ended at once")
		}
		if res, err := client.Get(url); err == nil {
			res.Body.Close()
			if res.StatusCode < 500 {
				return nil
			}
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("it does not answer")
}

// end stops the process.
func (t *target) end() error {
	err := t.stop()
	if t.log != nil {
		_ = t.log.Close()
	}
	return err
}

// save writes what an address of the gateway's admin listener gives to a file.
func (t *target) save(ctx context.Context, path, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.admin+path, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o644)
}

// freeAddress is a loopback address that nobody listens on; "" if there is none.
func freeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return ""
	}
	defer l.Close()
	return l.Addr().String()
}
