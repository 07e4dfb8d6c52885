package main

import "errors"

// callCommand calls an agent from the terminal.
type callCommand struct {
	Agent string `arg:"" help:"The agent's name or id."`
}

// Run calls.
func (callCommand) Run() error { return errors.New("not there yet") }
