// Package rate counts how often the clients of an identity come, and says when that is more often than the identity
// may. It keeps one point in time for each identity that has a rate and has come, and no goroutine.
package rate
