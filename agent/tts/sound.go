package tts

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"mime"
	"strconv"
	"strings"

	"parley/agent"
)

// sound tells what an answer of raw audio truly holds: servers that speak
// OpenAI's protocol send samples of other rates than asked for, and say so by a
// parameter of the media type (RFC 2586 §3) or by a WAV header. It returns the
// samples without their header, and their rate; usual where nothing tells.
func sound(mediaType string, body io.Reader, usual int) (io.Reader, int, error) {
	kind, params, err := mime.ParseMediaType(mediaType)
	if err != nil {
		kind, params = "", nil
	}
	if kind == "application/json" || strings.HasPrefix(kind, "text/") {
		return nil, 0, fmt.Errorf("%w: answer is not audio", agent.ErrProtocol)
	}
	rate := usual
	if n, err := strconv.Atoi(params["rate"]); err == nil && n > 0 {
		rate = n
	}
	in := bufio.NewReaderSize(body, 4096)
	if head, err := in.Peek(4); err != nil || string(head) != "RIFF" {
		return in, rate, nil // an error comes again with the first read
	}
	rate, err = wavHeader(in)
	return in, rate, err
}

// maxWAVHeader is more than any server puts before its samples, in bytes.
const maxWAVHeader = 4096

// wavHeader reads a WAV file up to its samples, and returns their rate. Streams
// do not know their length: what the header says of it is not asked.
func wavHeader(in *bufio.Reader) (rate int, err error) {
	bad := func(what string) error { return fmt.Errorf("%w: WAV %s", agent.ErrProtocol, what) }
	var head [12]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return 0, short(err)
	}
	if string(head[8:]) != "WAVE" {
		return 0, bad("without its name")
	}
	for read := len(head); read < maxWAVHeader; {
		if _, err := io.ReadFull(in, head[:8]); err != nil {
			return 0, short(err)
		}
		name, size := string(head[:4]), int64(binary.LittleEndian.Uint32(head[4:]))
		switch {
		case name == "data" && rate == 0:
			return 0, bad("without a format")
		case name == "data":
			return rate, nil
		case name == "fmt ":
			var f [16]byte
			if size < int64(len(f)) {
				return 0, bad("with a short format")
			}
			if _, err := io.ReadFull(in, f[:]); err != nil {
				return 0, short(err)
			}
			size -= int64(len(f))
			le := binary.LittleEndian
			if le.Uint16(f[2:]) != 1 || le.Uint16(f[14:]) != 16 {
				return 0, bad("that is not mono of 16 bits")
			}
			rate = int(le.Uint32(f[4:]))
		}
		size += size & 1 // chunks are padded to even length
		if size > maxWAVHeader {
			break
		}
		if _, err := io.CopyN(io.Discard, in, size); err != nil {
			return 0, short(err)
		}
		read += 8 + int(size)
	}
	return 0, bad("with too long a header")
}

// short maps a header that breaks off.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: WAV header breaks off", agent.ErrProtocol)
	}
	return err
}
