// Package repository is a transactional key-value store of immutable blobs in a log of segments on a plain file system.
//
// Keys are 32 bytes, which the store does not interpret, and values up to 20 MiB. There is one transaction at a time: Put
// and Delete begin it, Commit makes it durable, Rollback forgets it. Any number of goroutines may use a Repository, and
// any number of processes may read a repository while none writes to it.
//
// # What is promised
//
// When Commit has returned nil, what was put and deleted is on stable storage. After a crash at any moment a repository
// opens by itself to the last commit that was acknowledged, or to the one in flight, whole. Every value's checksum is
// verified whenever it is read. The segments are the truth: all other files but config can be deleted at any time and cost
// only the time to make them anew. What was deleted does not come back.
//
// # On disk
//
// The format is that of Attic, version 1, in both directions: what one program committed, the other opens. The files whose
// names begin with "garret." are additions that Attic leaves alone.
//
//	README                     "This is an Attic repository\n"
//	config                     INI file; its lock is the repository's lock
//	data/<N / 10000>/<N>       segment N: see package segment
//	index.<N>                  hash table, key to segment and offset, as of the commit that ends in segment N: see package hashindex
//	hints.<N>                  msgpack {version, segments: {number: live objects}, compact: [numbers]}, for Attic
//	garret.delta.<N>           what has changed from the index or delta before until segment N, in the format of the index
//	garret.sums.<N>            checksums of the blocks of index.<N> or garret.delta.<N>
//	garret.tables              which of these make up the index, with checksums; what is dead in which segment
//	garret.history             since when nothing was removed from an append-only repository
//	garret.reserve             room for deletions and compactions on a full disk
//
// A transaction is a number of segments, of which the last ends with a COMMIT entry. Segments behind the last COMMIT belong
// to a transaction that was aborted: readers do not look at them and the next writer removes them. An index may lag behind
// the last commit: whoever opens the repository replays the segments since, of which there are few.
//
// Commit syncs the segments and the folders that name them, then appends the COMMIT and syncs again, so that no COMMIT is
// ever on the medium before what it commits.
package repository
