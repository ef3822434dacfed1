package archive

import "garret/repository"

// An ItemDecoder reads items from the chunks of an item stream.
//
//	for each chunk {
//		d.Feed(data)
//		for {
//			it, ok, err := d.Next()
//			if !ok || err != nil { break }
//		}
//	}
//	err := d.Close()
type ItemDecoder struct{}

// Feed adds the next chunk's data, which is copied or used up before the next Feed; the caller must not change it till then.
func (d *ItemDecoder) Feed(chunk []byte) { panic("not yet") }

// Next returns the next item, which the caller owns, or false when more data is needed. Errors match
// repository.ErrIntegrity and are final.
func (d *ItemDecoder) Next() (*Item, bool, error) { panic("not yet") }

// Close returns an error that matches repository.ErrIntegrity if the stream ended inside an item.
func (d *ItemDecoder) Close() error { panic("not yet") }

// An ItemWriter encodes items and cuts their stream into chunks.
type ItemWriter struct{}

// NewItemWriter returns a writer that hands each chunk to store, which returns its id and must not keep the data.
func NewItemWriter(seed uint32, store func(data []byte) (repository.ID, error)) *ItemWriter {
	return &ItemWriter{}
}

// Add appends an item. An error is that of store, and final.
func (w *ItemWriter) Add(it *Item) error { panic("not yet") }

// Flush stores what is left and returns the ids of all chunks, in order.
func (w *ItemWriter) Flush() ([]repository.ID, error) { panic("not yet") }
