package views

// StateChip chooses rows of a list by how what they stand for is.
type StateChip struct {
	Label   string
	Count   string
	Href    string
	Current bool
}

// Rows says which rows of a list a page shows, and leads to the others.
type Rows struct {
	Shown   string // "1 to 100 of 12 345", where there are more than fit
	Earlier string // address of the rows before these; empty: none
	Later   string // likewise
}
