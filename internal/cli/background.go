package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"garret/internal/mount"
	"garret/internal/ui"
)

// A mount in the background is served by a process of its own: this program again, with servedFlag. Until the files are
// there the two speak over pipes, in JSON, so that messages and questions appear where the command was given, and a
// passphrase is nowhere to be seen. Then the first process ends.

// servedFlag is the flag of the process that serves.
const servedFlag = "served"

// The pipes as the process that serves has them.
const (
	toParent   = 3
	fromParent = 4
)

// fromChild is what the process that serves says. Texts are bytes, since they need not be UTF-8.
type fromChild struct {
	Text   []byte     `json:",omitempty"` // a message
	Ask    string     `json:",omitempty"` // what to ask for a passphrase with
	Result *mountJSON `json:",omitempty"` // the files are there
	// Damaged: the repository is damaged, with Result
	Damaged bool `json:",omitempty"`
}

// toChild is what a person has answered.
type toChild struct {
	Passphrase []byte
	NoTerminal bool   // there is nobody to ask
	Error      string // asking has failed
}

// mountInBackground starts the process that serves, and returns when the files are there or it has failed.
func (a *app) mountInBackground(ctx context.Context, lists []string, c *choice, args []string) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start the process that serves the files: %w; try --foreground", err)
	}
	fromR, fromW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer fromR.Close()
	toR, toW, err := os.Pipe()
	if err != nil {
		return errors.Join(err, fromW.Close())
	}
	defer toW.Close()

	cmd := exec.Command(exe, "mount", "--"+servedFlag, fmt.Sprintf("--lock-wait=%s", a.lockWait), fmt.Sprintf("--verbose=%t", a.verbose))
	cmd.Args[0] = os.Args[0]
	if a.ui.Watched() {
		cmd.Args = append(cmd.Args, "--progress")
	}
	for _, list := range lists {
		cmd.Args = append(cmd.Args, "--options="+list)
	}
	cmd.Args = append(cmd.Args, c.args()...)
	cmd.Args = append(append(cmd.Args, "--"), args...)
	cmd.ExtraFiles = []*os.File{fromW, toR}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it is none of the terminal's
	err = cmd.Start()
	err = errors.Join(err, fromW.Close(), toR.Close())
	if err != nil {
		return fmt.Errorf("start the process that serves the files: %w; try --foreground", err)
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()

	in, out := json.NewDecoder(fromR), json.NewEncoder(toW)
	for {
		var m fromChild
		if err := in.Decode(&m); err != nil { // it has ended
			return a.ended(ctx, cmd.Wait())
		}
		switch {
		case m.Ask != "":
			out.Encode(a.answer(ctx, m.Ask)) // if it fails, the process has ended
		case m.Result != nil:
			a.damaged.Store(m.Damaged)
			if a.json {
				return a.emit(m.Result)
			}
			return nil
		case ctx.Err() == nil:
			a.ui.Printf("%s", m.Text)
		}
	}
}

// ended returns the error of a process that has ended before the files were there. It has said why, if it could.
func (a *app) ended(ctx context.Context, err error) error {
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return context.Canceled
	case errors.As(err, &exit) && exit.Exited():
		return &toldError{exit.ExitCode()}
	case err != nil:
		return fmt.Errorf("the process that serves the files: %w; try --foreground", err)
	}
	return nil
}

func (a *app) answer(ctx context.Context, prompt string) toChild {
	pass, err := a.ui.Passphrase(ctx, prompt)
	switch {
	case errors.Is(err, ui.ErrNoTerminal):
		return toChild{NoTerminal: true}
	case err != nil:
		return toChild{Error: err.Error()}
	}
	return toChild{Passphrase: []byte(pass)}
}

// A parent is the process that has started this one. Once the files are there, messages go to a file instead.
type parent struct {
	to, from *os.File
	in       *json.Decoder
	out      *json.Encoder

	mu  sync.Mutex
	log string // the file's path; empty while the parent listens
}

func newParent() *parent {
	p := &parent{to: os.NewFile(toParent, "pipe"), from: os.NewFile(fromParent, "pipe")}
	syscall.CloseOnExec(toParent)
	syscall.CloseOnExec(fromParent)
	p.in, p.out = json.NewDecoder(p.from), json.NewEncoder(p.to)
	return p
}

// close is for when the process ends before the files are there. Messages can still be sent: the process is about to end.
func (p *parent) close() { p.from.Close() }

// ui returns what messages and questions go through. watched says that somebody follows them.
func (p *parent) ui(watched bool) *ui.UI {
	u := ui.NewRelay(p, p.ask)
	if watched {
		u.SetProgress(ui.ProgressAlways)
	}
	return u
}

// Write sends a message to the parent, or puts it into the file.
func (p *parent) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log == "" {
		return len(text), p.out.Encode(fromChild{Text: text})
	}
	if err := os.MkdirAll(filepath.Dir(p.log), 0o700); err != nil {
		return 0, err
	}
	f, err := os.OpenFile(p.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "%s %s\n", time.Now().UTC().Format(time.RFC3339), strings.TrimSpace(string(text)))
	return len(text), err
}

func (p *parent) ask(prompt string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.out.Encode(fromChild{Ask: prompt}); err != nil {
		return "", err
	}
	var a toChild
	if err := p.in.Decode(&a); err != nil {
		return "", err
	}
	switch {
	case a.NoTerminal:
		return "", ui.ErrNoTerminal
	case a.Error != "":
		return "", errors.New(a.Error)
	}
	return string(a.Passphrase), nil
}

// ready lets the parent go. An error says that it is gone already, and the mount not wanted.
func (p *parent) ready(s *session, _ *mount.Mount, result mountJSON) error {
	dir, err := filepath.Abs(s.known.dir) // the cache may be named by a relative path
	if err != nil {
		return err
	}
	s.known.dir = dir
	if err := os.Chdir("/"); err != nil { // lest the present folder cannot be unmounted
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = filepath.Join(dir, "mount.log")
	return errors.Join(p.out.Encode(fromChild{Result: &result, Damaged: s.app.damaged.Load()}), p.to.Close())
}
