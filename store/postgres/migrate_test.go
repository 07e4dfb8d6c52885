package postgres_test

import (
	"fmt"
	"testing"

	"parley/store/postgres"
)

// What was stored before there were chats is carried over, though row security
// binds the owner who migrates.
func TestMigrateKeepsConversations(t *testing.T) {
	db := server.New(t)
	seed(t, db, "a")
	super := dial(t, db.SuperURL)
	steps, err := postgres.MigrateStatus(t.Context(), db.MigrateURL)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(steps); i > 2; i-- { // 2 is the last without chats
		if err := postgres.MigrateDown(t.Context(), db.MigrateURL); err != nil {
			t.Fatal(err)
		}
	}
	if err := postgres.MigrateUp(t.Context(), db.MigrateURL); err != nil {
		t.Fatal(err)
	}
	got := list(t, super, `
		SELECT channel || ' ' || (c.flow_id = f.id) || ' ' || p.percent || ' ' || (p.version_id = e.published_id)
		FROM conversations c JOIN flows f ON f.tenant_id = c.tenant_id JOIN flow_publications p ON p.flow_id = f.id
		JOIN flow_environments e ON e.flow_id = f.id AND e.name = p.environment`)
	if fmt.Sprint(got) != "[voice true 100 true]" {
		t.Errorf("carried over: %v", got)
	}
	s, err := postgres.Open(t.Context(), db.AppURL, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Verify(t.Context()); err != nil {
		t.Errorf("the walls do not stand: %v", err)
	}
}
