package verify

// SeenCount is how many certificates are remembered.
func SeenCount(s *Seen) int { return len(s.certificates()) }
