#!/usr/bin/env python3
"""Makes the file that PARLEY_VAD_WEIGHTS names, of the network's own release.

  pip download --no-deps silero-vad==6.2.3        # MIT
  unzip -j silero_vad-6.2.3-*.whl '*/silero_vad.jit'
  scripts/vad-weights.py silero_vad.jit vad.safetensors

The package also holds silero_vad_16k.safetensors, which works as it is. It is
an older training than silero_vad.jit, and lets more background voices pass.

Needs nothing but Python: a .jit is a zip of raw little-endian floats, one entry
a tensor, numbered in the order of the network, that for 16 kHz first.
"""
import json
import struct
import sys
import zipfile

BINS, WIDTH = 129, 128
TENSORS = [
    ("stft_conv.weight", [2 * BINS, 1, 256]),
    ("conv1.weight", [128, BINS, 3]), ("conv1.bias", [128]),
    ("conv2.weight", [64, 128, 3]), ("conv2.bias", [64]),
    ("conv3.weight", [64, 64, 3]), ("conv3.bias", [64]),
    ("conv4.weight", [WIDTH, 64, 3]), ("conv4.bias", [WIDTH]),
    ("lstm_cell.weight_ih", [4 * WIDTH, WIDTH]), ("lstm_cell.weight_hh", [4 * WIDTH, WIDTH]),
    ("lstm_cell.bias_ih", [4 * WIDTH]), ("lstm_cell.bias_hh", [4 * WIDTH]),
    ("final_conv.weight", [1, WIDTH, 1]), ("final_conv.bias", [1]),
]


def main(source, target):
    archive = zipfile.ZipFile(source)
    root = archive.namelist()[0].split("/")[0]
    header, data = {}, b""
    for i, (name, shape) in enumerate(TENSORS):
        values = archive.read(f"{root}/data/{i + 2}")  # 0 and 1 are empty
        size = 4
        for n in shape:
            size *= n
        if len(values) != size:
            sys.exit(f"{source}: entry {i + 2} has {len(values)} bytes; {name} {shape} needs {size}: another release?")
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + size]}
        data += values
    text = json.dumps(header).encode()
    with open(target, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
