package identity

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// Breached is a list of passwords that have leaked, in a file: either lines
// "HASH:COUNT" sorted by the upper-case SHA-1 in hexadecimal, as the offline
// download of Have I Been Pwned has them, which is searched where it lies,
// whatever its size; or one password a line, which is read into memory.
// It may be used by many at once.
type Breached struct {
	file  io.ReaderAt // sorted hashes; nil: plain
	close io.Closer
	size  int64
	plain map[[sha1.Size]byte]bool // of the passwords in lower case
}

// mostPlain is how much of a plain list is read.
const mostPlain = 64 << 20

var hashLine = regexp.MustCompile(`^[0-9A-Fa-f]{40}(:\d+)?\r?$`)

// OpenBreached opens a list. The caller closes it.
func OpenBreached(path string) (*Breached, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the list of breached passwords: %w", err)
	}
	b, err := newBreached(f)
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("read the list of breached passwords: %w", err)
	}
	if b.file == nil {
		return b, f.Close()
	}
	b.close = f
	return b, nil
}

func newBreached(f *os.File) (*Breached, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	first, err := bufio.NewReader(io.NewSectionReader(f, 0, lineBound)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if hashLine.MatchString(strings.TrimSuffix(first, "\n")) {
		return &Breached{file: f, size: info.Size()}, nil
	}
	if info.Size() > mostPlain {
		return nil, fmt.Errorf("a plain list may have %d MiB; make one of sorted SHA-1 hashes instead", mostPlain>>20)
	}
	b := &Breached{plain: map[[sha1.Size]byte]bool{}}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if line := strings.TrimRight(lines.Text(), "\r"); line != "" {
			b.plain[plainSum(line)] = true
		}
	}
	return b, lines.Err()
}

func plainSum(password string) [sha1.Size]byte {
	return sha1.Sum([]byte(strings.ToLower(norm.NFKC.String(password))))
}

// Close lets go of the file.
func (b *Breached) Close() error {
	if b.close == nil {
		return nil
	}
	return b.close.Close()
}

// Holds tells whether a password stands in the list.
func (b *Breached) Holds(password string) (bool, error) {
	if b.file == nil {
		return b.plain[plainSum(password)], nil
	}
	sum := sha1.Sum([]byte(password))
	found, err := b.search([]byte(strings.ToUpper(hex.EncodeToString(sum[:]))))
	if err != nil {
		return false, fmt.Errorf("search the list of breached passwords: %w", err)
	}
	return found, nil
}

// lineBound is the longest line of a list of hashes, with room to spare.
const lineBound = 128

// search looks for a line by halving the file: the lines that begin in
// [low, high) are those that may be it.
func (b *Breached) search(want []byte) (bool, error) {
	low, high := int64(0), b.size
	for low < high {
		middle := low + (high-low)/2
		start, line, err := b.lineAt(middle)
		if err != nil {
			return false, err
		}
		switch bytes.Compare(want, bytes.ToUpper(line[:min(len(line), 2*sha1.Size)])) {
		case 0:
			return true, nil
		case -1:
			high = start
		default:
			low = start + int64(len(line)) + 1
		}
	}
	return false, nil
}

// lineAt returns the line that the byte at an offset belongs to, without its
// end, and where it begins.
func (b *Breached) lineAt(at int64) (int64, []byte, error) {
	from := max(at-lineBound, 0)
	buf := make([]byte, 2*lineBound)
	n, err := b.file.ReadAt(buf, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, nil, err
	}
	buf = buf[:n]
	i := int(at - from)
	start := bytes.LastIndexByte(buf[:i], '\n') + 1
	if start == 0 && from > 0 {
		return 0, nil, errors.New("a line is too long: it is no list of hashes")
	}
	line := buf[start:]
	if end := bytes.IndexByte(buf[i:], '\n'); end >= 0 {
		line = buf[start : i+end]
	} else if from+int64(n) < b.size {
		return 0, nil, errors.New("a line is too long: it is no list of hashes")
	}
	return from + int64(start), line, nil
}
