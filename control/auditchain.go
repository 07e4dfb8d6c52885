package control

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
)

// An AuditChain seals the audit trails of all tenants under a key that the
// database never sees:
//
//	mac(0) = HMAC(key, "parley audit 1 " tenant)
//	mac(n) = HMAC(key, mac(n-1) canonical(entry n))
//
// Triggers write entries in the transactions of what they tell of, in SQL,
// where the key must not be. Hence an [AuditSealer] in the process seals them in
// their order as soon as they have committed, within a second, and anchors the
// heads of the chains outside the database, every minute.
//
// Against somebody who may write anything into the database, but has neither the
// key nor the anchors, this is what an [AuditVerifier] finds:
//
//   - An entry that was sealed and then changed, moved or removed: always. So
//     is one that was put between two sealed ones.
//   - The newest entries cut off together with their seals: if the anchor had
//     them, after a minute; before that it shows only where the trail went on
//     in a process that had sealed them, which says so in its log.
//   - A chain sealed again under another key: always.
//
// Not found: an entry that is changed or removed before it is sealed, for which
// there is a second, or for as long as no process runs; and an entry that is
// added at the end, which is sealed as any. Whoever has the key file may write
// any history that the anchors do not contradict.
type AuditChain struct{ key []byte }

// NewAuditChain derives the chain's key.
func NewAuditChain(ring *Keyring) *AuditChain { return &AuditChain{ring.Key("audit-chain")} }

// Origin is what the chain of a tenant begins with.
func (c *AuditChain) Origin(tenant uuid.UUID) []byte {
	m := hmac.New(sha256.New, c.key)
	m.Write([]byte("parley audit 1 " + tenant.String()))
	return m.Sum(nil)
}

// Next returns the seal of an entry that follows the one sealed by prev.
func (c *AuditChain) Next(prev []byte, tenant uuid.UUID, e AuditEntry) ([]byte, error) {
	text, err := canonicalEntry(tenant, e)
	if err != nil {
		return nil, err
	}
	m := hmac.New(sha256.New, c.key)
	m.Write(prev)
	m.Write(text)
	return m.Sum(nil), nil
}

// auditTime is how times of entries are written: all that the database keeps.
const auditTime = "2006-01-02T15:04:05.000000Z"

// canonicalEntry is the one text of an entry, whatever stored it: a JSON array
// of the tenant, seq, the time in UTC with six digits of a second, actor, action,
// object, detail with sorted keys and numbers as they stand, and request.
func canonicalEntry(tenant uuid.UUID, e AuditEntry) ([]byte, error) {
	var detail any = struct{}{}
	if len(e.Detail) > 0 && string(e.Detail) != "{}" {
		d := json.NewDecoder(bytes.NewReader(e.Detail))
		d.UseNumber()
		if err := d.Decode(&detail); err != nil {
			return nil, fmt.Errorf("audit entry %d of tenant %s: its detail is no JSON", e.Seq, tenant)
		}
	}
	return json.Marshal([]any{tenant, e.Seq, e.At.UTC().Format(auditTime), e.Actor, e.Action, e.Object, detail, e.Request})
}
