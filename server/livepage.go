package server

// liveRoutes lists the routes of the Live page.
func (s *Server) liveRoutes() []route { return nil }
