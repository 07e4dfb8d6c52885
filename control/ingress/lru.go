package ingress

import "container/list"

// An lru is a map that holds at most so many; one more pushes out the one that
// was not asked for the longest. It is not safe for concurrent use.
type lru[V any] struct {
	bound int
	at    map[string]*list.Element
	order *list.List // of *entry[V], the latest first
}

type entry[V any] struct {
	key   string
	value V
}

func newLRU[V any](bound int) *lru[V] {
	return &lru[V]{bound: bound, at: map[string]*list.Element{}, order: list.New()}
}

// get returns what is under key; the pointer is good until the next put.
func (l *lru[V]) get(key string) (*V, bool) {
	e, ok := l.at[key]
	if !ok {
		return nil, false
	}
	l.order.MoveToFront(e)
	return &e.Value.(*entry[V]).value, true
}

func (l *lru[V]) put(key string, v V) {
	if at, ok := l.get(key); ok {
		*at = v
		return
	}
	if len(l.at) >= l.bound {
		last := l.order.Back()
		delete(l.at, l.order.Remove(last).(*entry[V]).key)
	}
	l.at[key] = l.order.PushFront(&entry[V]{key, v})
}

func (l *lru[V]) remove(key string) {
	if e, ok := l.at[key]; ok {
		l.order.Remove(e)
		delete(l.at, key)
	}
}

func (l *lru[V]) len() int { return len(l.at) }
