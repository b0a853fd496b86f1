// Package ext stands in for the module that Traefik replaces by a directory of its repository,
// which no module zip has: fields that another edition of Traefik adds to its configuration.
package ext

// HTTP adds nothing to the HTTP part of the dynamic configuration.
type HTTP struct{}

// Router adds nothing to a router.
type Router struct{}
