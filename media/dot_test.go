package media

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestDot compares both ways to compute with a sum in float64, for every length
// that takes another path, aligned or not.
func TestDot(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	a, b := make([]float32, 80), make([]float32, 80)
	for i := range a {
		a[i], b[i] = rnd.Float32()-0.5, 65536*(rnd.Float32()-0.5)
	}
	for n := range 70 {
		for shift := range 4 {
			x, y := a[shift:shift+n], b[2*shift:2*shift+n+3]
			want, size := 0.0, 0.0
			for i := range x {
				p := float64(x[i]) * float64(y[i])
				want, size = want+p, size+math.Abs(p)
			}
			for name, f := range map[string]func(a, b []float32) float32{"dot": dot, "dotGo": dotGo} {
				for order, got := range map[string]float32{"": f(x, y), " turned": f(y, x)} {
					if math.Abs(float64(got)-want) > 1e-6*size {
						t.Errorf("%s%s of %d at %d: %v, want %v", name, order, n, shift, got, want)
					}
				}
			}
		}
	}
}
