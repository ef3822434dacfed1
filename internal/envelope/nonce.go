package envelope

// NonceFiles are the small named files of a repository. WriteFile replaces a file atomically and durably; ReadFile returns
// an error that matches fs.ErrNotExist when there is none.
type NonceFiles interface {
	ReadFile(name string) ([]byte, error)
	WriteFile(name string, data []byte) error
}

// A NonceReserver gives out the counter values of one session.
type NonceReserver struct{}

// NewNonceReserver returns a Nonces for a session. The repository must be open exclusively; clientFile is the path of this
// client's own record (nonce, in the repository's folder of the cache), whose directory is made if need be; manifestEnd is
// the [NonceEnd] of the current manifest's envelope, 0 if there is none. Nothing is read or written before the first
// Reserve.
func NewNonceReserver(repo NonceFiles, clientFile string, manifestEnd uint64) *NonceReserver {
	return &NonceReserver{}
}

// Reserve implements Nonces.
func (n *NonceReserver) Reserve(blocks uint64) (uint64, error) { panic("not yet") }
