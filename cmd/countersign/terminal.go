package main

import (
	"os"

	"golang.org/x/term"
)

// narrowest is the narrowest terminal that lines are made for, in columns.
const narrowest = 40

// terminalWidth is how many columns a terminal has now.
func terminalWidth(f *os.File) int {
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		return 80
	}
	return max(width, narrowest)
}
