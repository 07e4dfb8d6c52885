package outbound

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nyaruka/phonenumbers"

	"parley/control"
)

// Kinds of numbers that cost whoever calls them, or whoever is made to: the
// usual aims of toll fraud.
const (
	RiskPremium   = "premium_rate"
	RiskShared    = "shared_cost"
	RiskSatellite = "satellite"
	RiskListed    = "operator_list"
)

// satellite are the country codes of satellites and of networks without a
// country (ITU-T E.164, list of assigned codes: 870 Inmarsat, 881 global mobile
// satellite, 882 and 883 international networks, 888, 979 premium rate).
var satellite = []int32{870, 881, 882, 883, 888, 979}

// A Callee is what a number tells of itself.
type Callee struct {
	Number  string // E.164
	Country string // ISO 3166-1 alpha-2, or "001" for none
	Code    int32  // country calling code
	Zones   []*time.Location
	Risk    string // "" for none
}

// Prefixes are beginnings of numbers, with the plus: "+1", "+4420". "+" is all.
type Prefixes []string

// Has tells whether one of them begins the number.
func (p Prefixes) Has(number string) bool {
	return slices.ContainsFunc(p, func(prefix string) bool { return strings.HasPrefix(number, prefix) })
}

// Inspect reads a number in E.164. listed are prefixes that the operator takes
// for risky too. The zones are all in which the number may be: those of its area,
// or of its whole country where it is bound to none, as mobile numbers are; none
// if that is not known. An [*control.Invalid] of field "to" tells why it cannot be called.
func Inspect(number string, listed Prefixes) (Callee, error) {
	c := Callee{Number: number}
	n, err := phonenumbers.Parse(number, "")
	if err == nil {
		c.Code, c.Country = n.GetCountryCode(), phonenumbers.GetRegionCodeForNumber(n)
	}
	if err != nil || !strings.HasPrefix(number, "+") || !phonenumbers.IsPossibleNumber(n) ||
		phonenumbers.Format(n, phonenumbers.E164) != number {
		return c, control.Invalidf("to", "must be a number that there can be, in E.164: +12025550123")
	}
	switch kind := phonenumbers.GetNumberType(n); {
	case listed.Has(number):
		c.Risk = RiskListed
	case slices.Contains(satellite, c.Code):
		c.Risk = RiskSatellite
	case kind == phonenumbers.PREMIUM_RATE:
		c.Risk = RiskPremium
	case kind == phonenumbers.SHARED_COST:
		c.Risk = RiskShared
	}
	names, err := timezones(n)
	if err != nil {
		names = nil // not known
	}
	for _, name := range names {
		if zone, err := time.LoadLocation(name); err == nil && name != "Etc/Unknown" {
			c.Zones = append(c.Zones, zone)
		}
	}
	return c, nil
}

// timezones are those that a number's prefix stands for. The tables name one for
// the prefixes of mobile numbers too, which nobody leaves behind who moves; only
// in some countries they belong to an area.
func timezones(n *phonenumbers.PhoneNumber) ([]string, error) {
	kind, code := phonenumbers.GetNumberType(n), n.GetCountryCode()
	if kind == phonenumbers.FIXED_LINE || kind == phonenumbers.FIXED_LINE_OR_MOBILE || phonenumbers.GEO_MOBILE_COUNTRIES[code] && kind == phonenumbers.MOBILE {
		return phonenumbers.GetTimezonesForNumber(n)
	}
	return phonenumbers.GetTimezonesForPrefix(strconv.Itoa(int(code)))
}
