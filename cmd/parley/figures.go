package main

import "parley/control"

// figures rolls up what calls and conversations came to.
func (g *gateway) figures() *control.Figures {
	return &control.Figures{Store: g.db, Log: g.log}
}
