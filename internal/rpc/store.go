package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math"

	"garret/internal/rawpack"
	"garret/repository"
)

// What a Client does as a repository.

// Get returns the value of an object, which the caller owns.
func (c *Client) Get(ctx context.Context, id repository.ID) ([]byte, error) {
	for {
		r, err := c.call(ctx, methodGet, 1, func(b []byte) []byte { return rawpack.AppendRaw(b, id[:]) })
		if errors.Is(err, errAgain) {
			continue
		}
		if err != nil {
			return nil, c.about("get", id, err)
		}
		data := r.Raw()
		return data, c.answered(methodGet, r)
	}
}

// about says what an error is about, unless the server has done so.
func (c *Client) about(what string, id repository.ID, err error) error {
	var remote *RemoteError
	if c.version > 1 && errors.As(err, &remote) {
		return err
	}
	return fmt.Errorf("%s %v: %w", what, id, err)
}

// Size returns the length of an object's value in bytes.
func (c *Client) Size(ctx context.Context, id repository.ID) (int, error) {
	if size, known := c.known.size(id); known {
		if size == none {
			return 0, fmt.Errorf("get the size %v: %w", id, repository.ErrNotFound)
		}
		return int(size), nil
	}
	if c.version < 2 {
		data, err := c.Get(ctx, id)
		return len(data), err
	}
	r, err := c.call(ctx, methodSizes, 1, func(b []byte) []byte { return rawpack.AppendRaw(b, id[:]) })
	if err != nil {
		return 0, c.about("get the size", id, err)
	}
	raw := r.Raw()
	if r.Err() == nil && len(raw) != 4 {
		r.Failf("the size of an object has %d bytes", len(raw))
	}
	if err := c.answered(methodSizes, r); err != nil {
		return 0, err
	}
	size := binary.LittleEndian.Uint32(raw)
	if size == none {
		return 0, fmt.Errorf("get the size %v: %w", id, repository.ErrNotFound)
	}
	return int(size), nil
}

// Has reports whether an object has the id.
func (c *Client) Has(ctx context.Context, id repository.ID) (bool, error) {
	if has, ok := c.known.has(id); ok {
		return has, nil
	}
	_, err := c.Size(ctx, id)
	if errors.Is(err, repository.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Put stores or replaces an object, and does not keep data.
func (c *Client) Put(ctx context.Context, id repository.ID, data []byte) error {
	if len(data) > repository.MaxObjectSize {
		return fmt.Errorf("put %v: %w: %d bytes are more than %d", id, repository.ErrTooLarge, len(data), repository.MaxObjectSize)
	}
	if c.readOnly {
		return fmt.Errorf("put %v: %w", id, ErrNotAllowed)
	}
	err := c.enqueue(ctx, &call{}, methodPut, 2, func(b []byte) []byte {
		return rawpack.AppendRaw(rawpack.AppendRaw(b, id[:]), data)
	})
	if err == nil {
		c.known.set(id, uint32(len(data)))
	}
	return err
}

// Delete removes an object.
func (c *Client) Delete(ctx context.Context, id repository.ID) error {
	switch {
	case c.readOnly:
		return fmt.Errorf("delete %v: %w", id, ErrNotAllowed)
	case c.appendOnly:
		return fmt.Errorf("delete %v: %w", id, ErrAppendOnly)
	}
	if has, ok := c.known.has(id); ok && !has {
		return fmt.Errorf("delete %v: %w", id, repository.ErrNotFound)
	}
	err := c.enqueue(ctx, &call{}, methodDelete, 1, func(b []byte) []byte { return rawpack.AppendRaw(b, id[:]) })
	if err == nil {
		c.known.set(id, none)
	}
	return err
}

// Commit makes the transaction durable, or fails if any of its puts and deletes did.
func (c *Client) Commit(ctx context.Context) error {
	if err := c.settle(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	_, err := c.call(ctx, methodCommit, 0, nil)
	var remote *RemoteError
	if errors.Is(err, ErrConnection) {
		return fmt.Errorf("commit: %w; whether it was still done is not known", err)
	}
	if err != nil && (c.version < 2 || !errors.As(err, &remote)) {
		return fmt.Errorf("commit: %w", err)
	}
	return err
}

// Rollback forgets what was put and deleted since the last Commit.
func (c *Client) Rollback() error {
	if _, err := c.call(context.Background(), methodRollback, 0, nil); err != nil {
		return fmt.Errorf("rollback: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = nil
	c.known.forget()
	return nil
}

// Len returns the number of objects.
func (c *Client) Len(ctx context.Context) (int, error) {
	r, err := c.call(ctx, methodLen, 0, nil)
	if err != nil {
		return 0, err
	}
	n := int(r.Int(0, math.MaxInt64))
	return n, c.answered(methodLen, r)
}

// List returns the ids of at most limit objects, or of all if limit is not positive, that come behind marker, or from the
// beginning if marker is nil.
func (c *Client) List(ctx context.Context, limit int, marker *repository.ID) ([]repository.ID, error) {
	var all []repository.ID
	for {
		page := listPage
		if limit > 0 {
			page = min(page, limit-len(all))
		}
		ids, err := c.list(ctx, page, marker)
		all = append(all, ids...)
		if err != nil || len(ids) < page || len(all) == limit {
			return all, err
		}
		marker = &ids[len(ids)-1]
	}
}

// list asks for ids once.
func (c *Client) list(ctx context.Context, limit int, marker *repository.ID) ([]repository.ID, error) {
	r, err := c.call(ctx, methodList, 2, func(b []byte) []byte {
		if limit > 0 {
			b = rawpack.AppendInt(b, int64(limit))
		} else {
			b = rawpack.AppendNil(b)
		}
		if marker != nil {
			return rawpack.AppendRaw(b, marker[:])
		}
		return rawpack.AppendNil(b)
	})
	if err != nil {
		return nil, err
	}
	n := r.ArrayLen()
	if limit > 0 && n > limit {
		r.Failf("%d ids are the answer to a question for %d", n, limit)
	}
	ids := make([]repository.ID, 0, min(n, r.Len()/(1+idSize)))
	for range n {
		id := readID(r)
		if r.Err() != nil {
			break
		}
		ids = append(ids, id)
	}
	return ids, c.answered(methodList, r)
}

// listPage is how many ids are asked for at a time. Attic's does as many.
const listPage = 10000

// All returns the ids of all objects.
func (c *Client) All(ctx context.Context) iter.Seq2[repository.ID, error] {
	return func(yield func(repository.ID, error) bool) {
		var marker *repository.ID
		for {
			ids, err := c.list(ctx, listPage, marker)
			if err != nil {
				yield(repository.ID{}, err)
				return
			}
			for _, id := range ids {
				if !yield(id, nil) {
					return
				}
			}
			if len(ids) == 0 {
				return
			}
			marker = &ids[len(ids)-1]
		}
	}
}

// Check has the server check the repository. With version 1 the report says whether all was sound or mended, and no more:
// what was found the server tells by itself.
func (c *Client) Check(ctx context.Context, o repository.CheckOptions) (*repository.Report, error) {
	if c.version < 2 {
		return c.check1(ctx, o)
	}
	confirmed := o.Repair && o.Confirm == nil
	ask := o
	ask.Repair = confirmed
	report, err := c.checkOnce(ctx, ask)
	if err != nil || !o.Repair || confirmed || report.OK() || !o.Confirm(report) {
		return report, err
	}
	return c.checkOnce(ctx, o)
}

func (c *Client) checkOnce(ctx context.Context, o repository.CheckOptions) (*repository.Report, error) {
	a := &call{done: make(chan struct{}), progress: o.Progress}
	r, err := c.await(ctx, a, methodCheckStore, 1, func(b []byte) []byte { return appendCheckOptions(b, o) })
	if err != nil {
		return nil, err
	}
	report := readReport(r)
	return report, c.answered(methodCheckStore, r)
}

func (c *Client) check1(ctx context.Context, o repository.CheckOptions) (*repository.Report, error) {
	r, err := c.call(ctx, methodCheck, 1, func(b []byte) []byte { return appendBool(b, o.Repair) })
	if err != nil {
		return nil, err
	}
	ok := readBool(r)
	if err := c.answered(methodCheck, r); err != nil {
		return nil, err
	}
	report := &repository.Report{Repaired: ok && o.Repair}
	if !ok {
		report.Findings = []repository.Finding{{Kind: repository.DamagedRange, Detail: "the server has told what"}}
	}
	report.Objects, err = c.Len(ctx)
	return report, err
}

// Compact frees what is dead, and returns how many bytes that was.
func (c *Client) Compact(ctx context.Context) (int64, error) {
	if c.version < 2 {
		return 0, fmt.Errorf("compact: %w: the server is of an older version", ErrNotAllowed)
	}
	r, err := c.call(ctx, methodCompact, 0, nil)
	if err != nil {
		return 0, err
	}
	freed := r.Int(math.MinInt64, math.MaxInt64)
	return freed, c.answered(methodCompact, r)
}

// Dead returns how many bytes Compact would free, about.
func (c *Client) Dead(ctx context.Context) (int64, error) {
	if c.version < 2 {
		return 0, fmt.Errorf("find out what is dead: %w: the server is of an older version", ErrNotAllowed)
	}
	r, err := c.call(ctx, methodDead, 0, nil)
	if err != nil {
		return 0, err
	}
	n := r.Int(math.MinInt64, math.MaxInt64)
	return n, c.answered(methodDead, r)
}

// ReadFile returns a named file of the repository, or an error that matches fs.ErrNotExist. With version 1 there is none.
func (c *Client) ReadFile(name string) ([]byte, error) {
	missing := &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	if c.version < 2 {
		return nil, missing
	}
	r, err := c.call(context.Background(), methodReadFile, 1, func(b []byte) []byte { return rawpack.AppendRaw(b, name) })
	if err != nil {
		return nil, err
	}
	if r.Nil() {
		return nil, missing
	}
	data := r.Raw()
	return data, c.answered(methodReadFile, r)
}

// WriteFile replaces a named file of the repository. With version 1 it is not written, and that is no error: what garret
// keeps there, Attic does without.
func (c *Client) WriteFile(name string, data []byte) error {
	if c.version < 2 {
		return nil
	}
	_, err := c.call(context.Background(), methodWriteFile, 2, func(b []byte) []byte {
		return rawpack.AppendRaw(rawpack.AppendRaw(b, name), data)
	})
	return err
}
