// Package examples holds flows to learn from, and to try the gateway with.
package examples

import _ "embed"

// FrontDesk is the document of the demo agent's flow: a voice front desk.
//
//go:embed front-desk/flow.json
var FrontDesk []byte
