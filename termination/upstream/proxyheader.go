package upstream

// Unclaimed is the PROXY header of a connection that is our own, as that of a health check; nil where the target gets none.
func (t *Target) Unclaimed() []byte { return nil }
