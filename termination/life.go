package termination

import "time"

// LifeWarnings returns from when on a certificate's end is worth a warning, and from when on it is urgent: below 20 % and
// below 5 % of its life. What lives longer than a year must also be within 30 and within 7 days of its end. So neither
// short-lived certificates nor old roots cry all day.
func LifeWarnings(from, until time.Time) (warn, urgent time.Time) {
	const day = 24 * time.Hour
	total := max(until.Sub(from), 0)
	soft, hard := total/5, total/20
	if total > 366*day {
		soft, hard = min(soft, 30*day), min(hard, 7*day)
	}
	return until.Add(-soft), until.Add(-hard)
}
