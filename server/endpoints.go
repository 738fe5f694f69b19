package server

// endpointRoutes lists the routes of the Endpoints pages.
func (s *Server) endpointRoutes() []route { return nil }
