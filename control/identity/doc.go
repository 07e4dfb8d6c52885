// Package identity says who somebody is: people with their passwords and
// sessions, API keys, and tokens. Whatever lets somebody in ends as a
// [control.Principal], and package control alone says what that one may do.
package identity
