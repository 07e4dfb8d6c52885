package media

// dot multiplies two vectors and sums up, as far as both go.
//
//go:noescape
func dot(a, b []float32) float32
