// Package store keeps the configuration and the history of one gateway. It is the one place that knows SQL, and speaks
// in the words of package termination.
//
// # On the disk
//
// One directory of mode 0700, held by a lock, with files of mode 0600: countersign.db (configuration; every commit is
// synced), history.db (handshakes; may lose its last moments), store.key (opens the private keys that countersign.db
// holds sealed). [Open] makes what is missing and refuses, with a typed error that says what to do, what is locked,
// damaged, newer than this program, or not ours. Damage to the history stops nothing: its file is moved aside and a new
// one begun; see [Store.Warnings].
//
// # Reading
//
// [Store.Load] gives the whole [termination.Config] and the problems in it. [Store.Meta] adds when objects were made and
// changed, [Store.Audit] who did what.
//
// # Changing
//
// Every change of the configuration is one call of [Store.Change]:
//
//	config, problems, err := store.Change(ctx, store.Actor{Name: "rhea", Via: "dashboard"},
//		func(tx *store.Tx) error {
//			e, err := tx.Endpoint("api")
//			if err != nil {
//				return err
//			}
//			e.Enabled = false
//			return tx.UpdateEndpoint(e)
//		},
//		gateway.Check) // func(*termination.Config) error; its error undoes the change
//
// Within it: CreateAuthority, UpdateAuthority, DeleteAuthority and the same for certificates and endpoints; CreateLocalCA,
// DeleteLocalCA; SetDefaults, SetLimits, SetHistory, PutSetting; ReplaceDeclared for the configuration file. Lookups and
// deletions take a name or an ID. Endpoints name their authorities and certificates; the rows hold IDs, so renames carry
// through.
//
// Errors that a caller decides upon: [termination.ValidationError] (what would be invalid, field by field),
// [NotFoundError], [NameTakenError], [InUseError], [ReadOnlyError], [DeclaredTwiceError], [TextError], [DiskFullError],
// [DamagedError].
//
// Sessions, sign-in links, API tokens and issued certificates are no part of the configuration: their methods are on
// [Store] itself and leave the revision as it is. [ErrNoSession], [ErrNoLink] and [ErrNoToken] are all that a wrong
// secret is told.
//
// # History
//
// [Store.WriteHistory] takes the batches of the live feed, whose first number is [Store.NextSeq]. [Store.Handshake] gives
// one record with its certificates, [Store.Handshakes] pages of those that a filter selects, [Store.CountHandshakes] how
// many, [Store.Counts] the counters by minute, which outlive the records. A goroutine deletes what [HistorySettings] do
// not keep; it ends with [Store.Close]. When the disk is full or the file is damaged, records are dropped and counted
// ([Store.Status]), and nothing else stops.
package store
