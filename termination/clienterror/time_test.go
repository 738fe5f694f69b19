package clienterror_test

import "time"

func termTime() time.Time { return time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) }
