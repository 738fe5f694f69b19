// Package parts holds what two pages share: one component for each thing that has a name. Components take exactly what
// they show, do no I/O and decide nothing beyond how to show it. Text from strangers goes through [Text].
package parts
