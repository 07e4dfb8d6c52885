package main

import (
	"fmt"
	"os"

	"parley/media"
)

// readVADWeights reads the file that the operator named, if he did.
func readVADWeights(name string) (*media.VADWeights, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("PARLEY_VAD_WEIGHTS cannot be read: %w", err)
	}
	defer func() { _ = f.Close() }()
	w, err := media.ReadVADWeights(f)
	if err != nil {
		return nil, fmt.Errorf("PARLEY_VAD_WEIGHTS names %s: %w", name, err)
	}
	return w, nil
}
