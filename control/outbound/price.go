package outbound

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// Prices is what a minute costs, by the beginning of the number called; the
// longest that fits counts. It is what is set aside before a call, and taken for
// its cost until the carrier's bill is known.
type Prices map[string]Money

// DefaultPrices stands where the operator gives no table: a guess on the safe
// side, in US dollars.
func DefaultPrices() Prices { return Prices{"+": 500_000, "+1": 20_000} }

// ParsePrices reads lines such as "+44 0.025": a prefix and the price of a
// minute. Empty lines, and what follows a #, count for nothing. The prefix "+"
// stands for all others and is required.
func ParsePrices(r io.Reader) (Prices, error) {
	p := Prices{}
	s := bufio.NewScanner(r)
	for n := 1; s.Scan(); n++ {
		line, _, _ := strings.Cut(s.Text(), "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 2 || !prefixForm.MatchString(f[0]) {
			return nil, fmt.Errorf("line %d is not a prefix and a price, such as +44 0.025", n)
		}
		price, err := strconv.ParseFloat(f[1], 64)
		if err != nil || math.IsNaN(price) || price < 0 || price > 1000 {
			return nil, fmt.Errorf("line %d: the price of a minute is a number from 0 to 1000", n)
		}
		p[f[0]] = Money(math.Ceil(price * 1e6))
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read prices: %w", err)
	}
	if _, ok := p["+"]; !ok {
		return nil, fmt.Errorf("a line for all other numbers is missing, such as + 0.50")
	}
	return p, nil
}

// Minute is what a minute to a number costs.
func (p Prices) Minute(number string) Money {
	for n := len(number); n > 0; n-- {
		if price, ok := p[number[:n]]; ok {
			return price
		}
	}
	return 0
}

// Cost is what so long a call costs at m a minute: carriers round up to minutes.
func (m Money) Cost(d time.Duration) Money {
	return m * Money((max(d, 0)+time.Minute-1)/time.Minute)
}
