package control

import (
	_ "embed" // the list
	"encoding/json"
	"math"
	"math/bits"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/agent"
)

// A Price is what a vendor takes for a kind of use, from a time on.
type Price struct {
	ID        uuid.UUID // zero: built in
	Kind      string
	Vendor    string
	Model     string // empty: any that has no price of its own
	Currency  string // ISO 4217
	Micros    int64  // millionths of the currency's unit, for Per units
	Per       int64
	Increment int64 // amounts are rounded up to a multiple of it
	ValidFrom time.Time
	Source    string // built in: where the vendor says what it is today
	List      string // built in: the list's version
}

// name says which price it is, for the ledger.
func (p Price) name() string {
	if p.ID == uuid.Nil {
		return p.List
	}
	return p.ID.String()
}

// Cost is what an amount costs, to the nearest millionth. What is more than fits
// is the most that fits.
func (p Price) Cost(amount int64) Money {
	if over := amount % p.Increment; over > 0 {
		amount += p.Increment - over
	}
	hi, lo := bits.Mul64(uint64(max(0, amount)), uint64(p.Micros))
	lo, carry := bits.Add64(lo, uint64(p.Per)/2, 0)
	if hi += carry; hi >= uint64(p.Per) {
		return Money{p.Currency, math.MaxInt64}
	}
	q, _ := bits.Div64(hi, lo, uint64(p.Per))
	return Money{p.Currency, int64(min(q, math.MaxInt64))}
}

//go:embed prices.json
var priceList []byte

// BuiltInPrices returns examples: what vendors' lists were about when this version
// of the program was made, each with the page that says what it is today. Nobody
// has compared them with those pages. A tenant's own prices come first.
func BuiltInPrices() ([]Price, error) {
	var list struct {
		Version string `json:"version"`
		Prices  []struct {
			Kind      string `json:"kind"`
			Vendor    string `json:"vendor"`
			Model     string `json:"model"`
			Currency  string `json:"currency"`
			Micros    int64  `json:"micros"`
			Per       int64  `json:"per"`
			Increment int64  `json:"increment"`
			Source    string `json:"source"`
		} `json:"prices"`
	}
	if err := json.Unmarshal(priceList, &list); err != nil {
		return nil, err
	}
	var out []Price
	for _, p := range list.Prices {
		out = append(out, Price{Kind: p.Kind, Vendor: p.Vendor, Model: p.Model, Currency: p.Currency, Micros: p.Micros,
			Per: p.Per, Increment: max(1, p.Increment), Source: p.Source, List: list.Version})
	}
	return out, nil
}

// PriceOf finds the price of a use at a time: the tenant's own before the
// built-in ones, the model's before the vendor's, the latest that is valid.
func PriceOf(own, builtIn []Price, u agent.Use, at time.Time) (Price, bool) {
	var best Price
	found := false
	for _, p := range slices.Concat(own, builtIn) {
		if p.Kind != u.Kind || p.Vendor != u.Vendor || p.Model != "" && p.Model != u.Model || p.ValidFrom.After(at) {
			continue
		}
		if !found || p.before(best) {
			best, found = p, true
		}
	}
	return best, found
}

func (p Price) before(q Price) bool {
	switch {
	case (p.ID == uuid.Nil) != (q.ID == uuid.Nil):
		return p.ID != uuid.Nil
	case (p.Model == "") != (q.Model == ""):
		return p.Model != ""
	}
	return p.ValidFrom.After(q.ValidFrom)
}

// Priced completes an entry with its price at its time, if there is one.
func (e UsageEntry) Priced(own, builtIn []Price) UsageEntry {
	if p, ok := PriceOf(own, builtIn, e.Use, e.At); ok {
		e.Cost, e.Price = p.Cost(e.Amount), p.name()
	}
	return e
}

// UseKinds lists all kinds of use.
func UseKinds() []string {
	return []string{agent.UseHeard, agent.UseInput, agent.UseCached, agent.UseOutput, agent.UseCharacters, agent.UseSpoken,
		UseCarried, UseRecorded}
}

var (
	currencyCode = regexp.MustCompile(`^[A-Z]{3}$`)
	vendorName   = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
)

// Validate checks a tenant's own price. now is the time of the request: what was
// used already has its price, so that none is valid from before.
func (p Price) Validate(now time.Time) error {
	switch {
	case !slices.Contains(UseKinds(), p.Kind):
		return Invalidf("kind", "must be one of %s", strings.Join(UseKinds(), ", "))
	case !vendorName.MatchString(p.Vendor):
		return Invalidf("vendor", "must be a vendor's or a carrier's name, as in the ledger")
	case len(p.Model) > 100:
		return Invalidf("model", "must be at most 100 bytes")
	case !currencyCode.MatchString(p.Currency):
		return Invalidf("currency", "must be three capital letters, as in ISO 4217")
	case p.Micros < 0 || p.Micros > 1e15:
		return Invalidf("micros", "must be 0 to 10^15")
	case p.Per < 1 || p.Per > 1e12:
		return Invalidf("per", "must be 1 to 10^12")
	case p.Increment < 1 || p.Increment > 1e12:
		return Invalidf("increment", "must be 1 to 10^12")
	case p.ValidFrom.Before(now.Add(-time.Minute)):
		return Invalidf("valid_from", "must not lie in the past: what was used has its price")
	}
	return RefuseToken("model", p.Model)
}
