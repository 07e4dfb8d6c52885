package identity

// Work returns how many passwords were worked on.
func (h *Hasher) Work() int64 { return h.work.Load() }
